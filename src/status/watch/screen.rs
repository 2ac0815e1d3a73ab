//! The picture: what is so now, what was refused, and how much happens.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph, Sparkline};

use super::rates::Rates;
use crate::status::columns::{Table, clip};
use crate::status::document::Document;
use crate::status::table;

/// Lines of the graphs, their frames included.
const GRAPHS: u16 = 6;

/// What is on the screen, besides what the daemon says.
#[derive(Debug, Default)]
pub struct Screen {
    /// How many sessions are above the screen.
    above: usize,
}

impl Screen {
    /// Moves the list of sessions.
    pub fn scroll(&mut self, lines: isize) {
        self.above = match lines {
            isize::MIN => 0,
            lines => self.above.saturating_add_signed(lines),
        };
    }

    /// Draws it. `error` is why the document is not a newer one.
    pub fn draw(&mut self, frame: &mut Frame<'_>, document: &Document, rates: &Rates, error: Option<&str>) {
        let area = frame.area();
        let width = usize::from(area.width).saturating_sub(2);
        let pinholes = table::pinholes(document).lines(width);
        let refusals = table::refusals(document, document.refusals.len()).lines(width);
        let [head, graphs, sessions, pinholes_area, refusals_area, foot] = areas(area, pinholes.len());

        head_line(frame, head, document, error);
        draw_graphs(frame, graphs, rates);
        self.draw_sessions(frame, sessions, document);
        list(frame, pinholes_area, "Pinholes", &pinholes);
        list(frame, refusals_area, "Refusals", &refusals);
        frame.render_widget(foot_line(document, usize::from(foot.width)), foot);
    }

    fn draw_sessions(&mut self, frame: &mut Frame<'_>, area: Rect, document: &Document) {
        let all = table::sessions(document);
        let number = all.rows.len();
        let room = usize::from(area.height).saturating_sub(3);
        self.above = self.above.min(number.saturating_sub(room));
        let rows = all.rows.into_iter().skip(self.above).take(room).collect::<Vec<_>>();
        let last = self.above + rows.len();
        let title = if rows.len() == number {
            format!("Sessions: {number}")
        } else {
            format!("Sessions {}-{last} of {number} (arrows scroll)", self.above + 1)
        };
        let table = Table { columns: all.columns, rows };
        list(frame, area, &title, &table.lines(usize::from(area.width).saturating_sub(2)));
    }
}

/// Head, graphs, sessions, pinholes, refusals, foot. Sessions get what is left.
fn areas(area: Rect, pinholes: usize) -> [Rect; 6] {
    let lines = |number: usize, most: u16| u16::try_from(number).unwrap_or(most).min(most);
    let graphs = if area.height >= 24 { GRAPHS } else { 0 };
    let room = area.height.saturating_sub(2 + graphs);
    let pinholes = lines(pinholes + 2, (room / 4).max(3));
    let refusals = (room / 4).max(3);
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(graphs),
        Constraint::Min(3),
        Constraint::Length(pinholes),
        Constraint::Length(refusals),
        Constraint::Length(1),
    ])
    .areas(area)
}

fn head_line(frame: &mut Frame<'_>, area: Rect, document: &Document, error: Option<&str>) {
    let daemon = &document.daemon;
    let (text, style) = match error {
        Some(error) => (format!("OLD NEWS: {error}"), Style::new().fg(Color::White).bg(Color::Red)),
        None => {
            let up = table::duration(daemon.uptime_seconds);
            let summary = table::summary(document);
            (
                format!("ftpalg {}, up {up}: {summary}", daemon.version),
                Style::new().add_modifier(Modifier::BOLD),
            )
        }
    };
    frame.render_widget(Paragraph::new(clip(&text, area.width.into())).style(style), area);
}

fn draw_graphs(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let thirds = Layout::horizontal([Constraint::Fill(1); 3]).areas::<3>(area);
    for (area, (name, rate, colour)) in thirds.into_iter().zip([
        ("Packets/s", &rates.packets, Color::Green),
        ("Sessions/s", &rates.sessions, Color::Cyan),
        ("Refusals/s", &rates.refused, Color::Red),
    ]) {
        graph(frame, area, name, rate, colour);
    }
}

fn graph(frame: &mut Frame<'_>, area: Rect, name: &str, rate: &VecDeque<u64>, colour: Color) {
    let width = usize::from(area.width).saturating_sub(2);
    let shown: Vec<u64> = rate.iter().skip(rate.len().saturating_sub(width)).copied().collect();
    let (now, most) = (shown.last().unwrap_or(&0), shown.iter().max().unwrap_or(&0));
    let block = Block::new().borders(Borders::ALL).title(format!("{name}: {now}, at most {most}"));
    frame.render_widget(Sparkline::default().data(&shown).style(Style::new().fg(colour)).block(block), area);
}

/// The first line holds the titles.
fn list(frame: &mut Frame<'_>, area: Rect, title: &str, lines: &[String]) {
    let lines = lines.iter().enumerate().map(|(number, line)| {
        let style = if number == 0 { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        Line::styled(line.clone(), style)
    });
    let block = Block::new().borders(Borders::ALL).title(title.to_owned());
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), area);
}

fn foot_line(document: &Document, width: usize) -> Paragraph<'static> {
    let counters = &document.counters;
    let dropped: u64 = document.workers.iter().filter_map(|worker| worker.dropped).sum();
    let waiting: u64 = document.workers.iter().filter_map(|worker| worker.waiting).sum();
    let text = format!(
        "q quits  pinholes opened {} refused {}  packets {} edited {}  queue: {waiting} waiting {dropped} dropped",
        counters.opened.values().sum::<u64>(),
        counters.refused.values().sum::<u64>(),
        counters.all_packets(),
        counters.packets_that("edited"),
    );
    Paragraph::new(clip(&text, width)).style(Style::new().add_modifier(Modifier::REVERSED))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::status::example;

    fn picture(width: u16, height: u16, error: Option<&str>) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut screen = Screen::default();
        screen.scroll(100);
        let document = example::document();
        let mut rates = Rates::default();
        rates.note(&document);
        terminal.draw(|frame| screen.draw(frame, &document, &rates, error)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_is_there_on_a_terminal_of_the_usual_size() {
        let picture = picture(80, 24, None);
        for text in
            ["ftpalg 0.1.0", "Packets/s", "alice", "transfer", "encrypted", "open 42s", "bounce", "q quits"]
        {
            assert!(picture.contains(text), "{text}:\n{picture}");
        }
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (3, 3), (20, 5), (10, 40), (300, 8)] {
            picture(width, height, Some("the daemon is gone"));
        }
    }

    #[test]
    fn it_is_told_that_the_news_are_old() {
        assert!(picture(80, 24, Some("no daemon answers")).contains("OLD NEWS: no daemon answers"));
    }
}
