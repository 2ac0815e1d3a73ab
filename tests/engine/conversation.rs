//! Trace-like helpers: what one end says, and what the other end must read.

use crate::end::{Config, End, Time};
use crate::router::Site;
use crate::world::World;

/// A conversation without disorder, unless the test asks for it.
pub struct Conversation {
    pub world: World,
    /// How much each end has read so far.
    server_read: usize,
    client_read: usize,
}

/// How a text is cut into segments.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    Whole,
    At(usize),
    Bytewise,
}

impl Conversation {
    pub fn new(site: Site) -> Self {
        Self::with(site, Config::default(), Config { initial: 7_000_000, ..Config::default() })
    }

    pub fn with(site: Site, client: Config, server: Config) -> Self {
        Self { world: World::new(site, client, server), server_read: 0, client_read: 0 }
    }

    /// Another of the same name, so many milliseconds after this one.
    pub fn anew(self, wait: Time) -> Self {
        let World { router, now, .. } = self.world;
        let client = Config { initial: 3_000_000_000, ..Config::default() };
        let server = Config { initial: 55, ..Config::default() };
        let mut again = Self::with(router.site, client, server);
        again.world.router = router;
        again.world.now = now;
        again.world.wait(wait);
        again
    }

    /// The handshake.
    #[track_caller]
    pub fn shake_hands(mut self) -> Self {
        self.world.client.connect(self.world.now);
        self.world.run_until("the handshake", |world| {
            world.client.is_established() && world.server.is_established()
        });
        self
    }

    /// The handshake and the greeting.
    #[track_caller]
    pub fn connect(self) -> Self {
        let mut conversation = self.shake_hands();
        conversation.replies("220 ready\r\n", "220 ready\r\n");
        conversation
    }

    /// The same, and a login.
    #[track_caller]
    pub fn login(self) -> Self {
        let mut conversation = self.connect();
        conversation.says("USER a\r\n", "USER a\r\n");
        conversation.replies("331 and?\r\n", "331 and?\r\n");
        conversation.says("PASS b\r\n", "PASS b\r\n");
        conversation.replies("230 in\r\n", "230 in\r\n");
        conversation
    }

    /// The client sends `text`; the server reads `read`.
    #[track_caller]
    pub fn says(&mut self, text: impl AsRef<[u8]>, read: impl AsRef<[u8]>) {
        self.client_sends(text.as_ref(), Cut::Whole);
        self.server_reads(read.as_ref());
    }

    /// The server sends `text`; the client reads `read`.
    #[track_caller]
    pub fn replies(&mut self, text: impl AsRef<[u8]>, read: impl AsRef<[u8]>) {
        self.server_sends(text.as_ref(), Cut::Whole);
        self.client_reads(read.as_ref());
    }

    /// The client says something that nobody changes, and gets such a reply.
    #[track_caller]
    pub fn exchange(&mut self, command: &str, reply: &str) {
        self.says(command, command);
        self.replies(reply, reply);
    }

    pub fn client_sends(&mut self, text: &[u8], cut: Cut) {
        let now = self.world.now;
        write(&mut self.world.client, now, text, cut);
    }

    pub fn server_sends(&mut self, text: &[u8], cut: Cut) {
        let now = self.world.now;
        write(&mut self.world.server, now, text, cut);
    }

    #[track_caller]
    pub fn server_reads(&mut self, expected: &[u8]) {
        let from = self.server_read;
        self.world.run_until(&format!("\"{}\"", expected.escape_ascii()), |world| {
            let received = &world.server.received()[from..];
            received.len() >= expected.len() && world.client.all_acknowledged()
        });
        self.server_read += compare(&self.world.server.received()[from..], expected);
    }

    #[track_caller]
    pub fn client_reads(&mut self, expected: &[u8]) {
        let from = self.client_read;
        self.world.run_until(&format!("\"{}\"", expected.escape_ascii()), |world| {
            let received = &world.client.received()[from..];
            received.len() >= expected.len() && world.server.all_acknowledged()
        });
        self.client_read += compare(&self.world.client.received()[from..], expected);
    }

    /// The line that the server reads next, whatever it says.
    #[track_caller]
    pub fn server_reads_line(&mut self) -> String {
        let from = self.server_read;
        self.world.run_until("a line", |world| {
            world.server.received()[from..].contains(&b'\n') && world.client.all_acknowledged()
        });
        let line = first_line(&self.world.server.received()[from..]);
        self.server_read += line.len();
        line
    }

    /// The line that the client reads next, whatever it says.
    #[track_caller]
    pub fn client_reads_line(&mut self) -> String {
        let from = self.client_read;
        self.world.run_until("a line", |world| {
            world.client.received()[from..].contains(&b'\n') && world.server.all_acknowledged()
        });
        let line = first_line(&self.world.client.received()[from..]);
        self.client_read += line.len();
        line
    }

    /// Both ends close.
    #[track_caller]
    pub fn closes(&mut self) {
        let now = self.world.now;
        self.world.client.close(now);
        self.world.run_until("the client's FIN", |world| world.server.peer_has_closed());
        let now = self.world.now;
        self.world.server.close(now);
        self.world.run_until("the end", |world| world.client.is_done() && world.server.is_done());
        self.world.settle();
        assert_eq!(self.world.server.received().len(), self.server_read, "unread by the server");
        assert_eq!(self.world.client.received().len(), self.client_read, "unread by the client");
    }

    /// Ports on which pinholes are open.
    pub fn open_ports(&self) -> Vec<u16> {
        self.world.router.kernel.open.keys().map(|key| key.port).collect()
    }

    #[track_caller]
    pub fn logged(&self, words: &str) {
        let log = self.world.router.log();
        assert!(log.iter().any(|line| line.contains(words)), "{words:?} is not in the log: {log:#?}");
    }
}

fn first_line(received: &[u8]) -> String {
    let end = received.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    String::from_utf8_lossy(&received[..end]).into_owned()
}

fn write(end: &mut End, now: u64, text: &[u8], cut: Cut) {
    match cut {
        Cut::Whole => end.write(now, text),
        Cut::At(at) => {
            end.write(now, &text[..at]);
            end.write(now, &text[at..]);
        }
        Cut::Bytewise => text.iter().for_each(|byte| end.write(now, &[*byte])),
    }
}

#[track_caller]
fn compare(received: &[u8], expected: &[u8]) -> usize {
    assert_eq!(String::from_utf8_lossy(received), String::from_utf8_lossy(expected));
    expected.len()
}
