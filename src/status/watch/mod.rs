//! `ftpalg status --watch`: the terminal as a window on the daemon.

mod rates;
mod screen;
mod terminal;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::StatusError;
use super::ask::{AskError, ask_and_read};
use super::document::Document;
use rates::Rates;
use screen::Screen;
use terminal::Terminal;

/// How often the daemon is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a signal, or an answer, may wait for the next look at it.
const LOOK: Duration = Duration::from_millis(100);

/// What keys do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Quit,
    /// Lines down the list; up where negative.
    Scroll(isize),
    Top,
}

/// Shows how the daemon is until somebody presses `q`. The daemon may go and come back meanwhile; it must be there in
/// the beginning.
pub fn run(socket: &Path) -> Result<(), StatusError> {
    let first = ask_and_read(socket)?;
    let is_told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_told_to_end))?;
    }
    let answers = ask_again_and_again(socket.to_owned())?;
    let mut terminal = Terminal::take()?;
    let mut view = View { screen: Screen::default(), rates: Rates::default(), document: first, error: None };
    view.rates.note(&view.document);
    while !is_told_to_end.load(Ordering::Relaxed) {
        let (page, view_error) = (&view.document, view.error.as_deref());
        terminal.draw(|frame| view.screen.draw(frame, page, &view.rates, view_error))?;
        match wait(&answers, &is_told_to_end)? {
            News::Answer(answer) => view.take(*answer),
            News::Wish(Wish::Quit) => break,
            News::Wish(Wish::Scroll(lines)) => view.screen.scroll(lines),
            News::Wish(Wish::Top) => view.screen.scroll(isize::MIN),
            News::Redraw => {}
        }
    }
    Ok(())
}

struct View {
    screen: Screen,
    rates: Rates,
    document: Document,
    /// Why there is no newer one.
    error: Option<String>,
}

impl View {
    fn take(&mut self, answer: Result<Document, AskError>) {
        match answer {
            Ok(document) => {
                self.rates.note(&document);
                self.document = document;
                self.error = None;
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }
}

/// What to draw anew for.
enum News {
    Answer(Box<Result<Document, AskError>>),
    Wish(Wish),
    /// The terminal has another size, or the time has come.
    Redraw,
}

/// Answers come from a thread of their own: a daemon that hangs must not keep `q` from being heard.
fn ask_again_and_again(socket: PathBuf) -> io::Result<Receiver<Result<Document, AskError>>> {
    // One waits at most, so that the terminal that is slow or stopped finds the latest.
    let (sender, answers) = mpsc::sync_channel(1);
    thread::Builder::new().name("ask".into()).spawn(move || {
        loop {
            thread::sleep(INTERVAL);
            if sender.send(ask_and_read(&socket)).is_err() {
                return;
            }
        }
    })?;
    Ok(answers)
}

/// Waits for the next thing that changes the picture, or for a signal.
fn wait(answers: &Receiver<Result<Document, AskError>>, is_told_to_end: &AtomicBool) -> io::Result<News> {
    let limit = Instant::now() + 2 * INTERVAL;
    while !is_told_to_end.load(Ordering::Relaxed) && Instant::now() < limit {
        if let Ok(answer) = answers.try_recv() {
            return Ok(News::Answer(Box::new(answer)));
        }
        match event::poll(LOOK) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        match event::read()? {
            Event::Resize(..) => return Ok(News::Redraw),
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                if let Some(wish) = wish(key.code, key.modifiers) {
                    return Ok(News::Wish(wish));
                }
            }
            _ => {}
        }
    }
    Ok(News::Redraw)
}

fn wish(key: KeyCode, modifiers: KeyModifiers) -> Option<Wish> {
    const PAGE: isize = 10;
    match key {
        KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Wish::Quit),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Scroll(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Scroll(-1)),
        KeyCode::PageDown | KeyCode::Char(' ') => Some(Wish::Scroll(PAGE)),
        KeyCode::PageUp => Some(Wish::Scroll(-PAGE)),
        KeyCode::Home | KeyCode::Char('g') => Some(Wish::Top),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_people_expect() {
        let wish = |key| wish(key, KeyModifiers::NONE);
        assert_eq!(wish(KeyCode::Char('q')), Some(Wish::Quit));
        assert_eq!(wish(KeyCode::Char('c')), None);
        assert_eq!(super::wish(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(wish(KeyCode::Down), Some(Wish::Scroll(1)));
    }
}
