//! What is said in one session, who would listen for its data connection, and what must come of it.

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

/// How a text must arrive at the other end: only what has arrived can have deceived anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Byte for byte.
    AsSent,
    /// With the listener's public address in place of its own.
    Announced,
    /// As one line with a PORT, for a port that the ALG has chosen: the line is cut, and was rewritten before its end.
    Promised,
    /// As so many lines: the ALG has spoiled one that began well, or has not seen its end.
    Spoiled,
}

/// A step of a session.
#[derive(Debug, Clone)]
pub enum Step {
    /// One end says something, in these segments.
    Says(End, Vec<Vec<u8>>, Arrival),
    /// The data connection is made, as in an honest session.
    Data,
}

/// What must come of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The port opens: the honest session.
    Opens,
    /// It does not, and the log gives this reason, once. Without a reason it gives no warning.
    Shut(Option<&'static str>),
}

/// Where the port lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// One that no other case has.
    Any,
    /// This one.
    Exactly(u16),
}

/// One session.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    /// Who would listen: the client for PORT and EPRT, the server for 227 and 229.
    pub listener: End,
    pub port: Port,
    pub steps: Vec<Step>,
    pub outcome: Outcome,
    /// How many ports besides its own the session opens, rightly.
    pub others: usize,
    /// The port was open for a while, rightly, and must have been closed.
    pub opened_before: bool,
    /// A PORT waits for its reply in the end, so a SYN of the server is held back, and dropped.
    pub waits: bool,
    /// Only over this version of IP, 4 or 6.
    pub version: Option<u8>,
    /// Over IPv6, EPRT, EPSV and 229 stand for PORT, PASV and 227.
    pub is_translated: bool,
}

/// An honest session, as like the tricks of its table as it can be.
pub fn honest(name: &str, listener: End, steps: impl Into<Vec<Step>>) -> Case {
    let (name, steps) = (name.to_owned(), steps.into());
    Case {
        name,
        listener,
        port: Port::Any,
        steps,
        outcome: Outcome::Opens,
        others: 0,
        opened_before: false,
        waits: false,
        version: None,
        is_translated: false,
    }
}

/// A session that must open nothing.
pub fn trick(name: &str, listener: End, steps: impl Into<Vec<Step>>) -> Case {
    Case { outcome: Outcome::Shut(None), ..honest(name, listener, steps) }
}

impl Case {
    /// The log gives this reason.
    pub fn says(self, reason: &'static str) -> Case {
        Case { outcome: Outcome::Shut(Some(reason)), ..self }
    }

    /// The port is this one.
    pub fn at(self, port: u16) -> Case {
        Case { port: Port::Exactly(port), ..self }
    }

    /// The session opens another port, rightly.
    pub fn opens_another(self) -> Case {
        Case { others: self.others + 1, ..self }
    }

    /// The port itself is open for a while, rightly.
    pub fn opened_before(self) -> Case {
        Case { opened_before: true, ..self }
    }

    /// EPRT, EPSV and 229 stand for PORT, PASV and 227 over IPv6.
    pub fn translated(self) -> Case {
        Case { is_translated: true, ..self }
    }

    /// Only over IPv4.
    pub fn only_v4(self) -> Case {
        Case { version: Some(4), ..self }
    }

    /// Only over IPv6.
    pub fn only_v6(self) -> Case {
        Case { version: Some(6), ..self }
    }

    /// A PORT waits in the end.
    pub fn waits(self) -> Case {
        Case { waits: true, ..self }
    }
}

fn says(end: End, pieces: &[&[u8]], arrival: Arrival) -> Step {
    Step::Says(end, pieces.iter().map(|piece| piece.to_vec()).collect(), arrival)
}

/// The client says this, in one segment.
pub fn c(text: impl AsRef<[u8]>) -> Step {
    says(End::Client, &[text.as_ref()], Arrival::AsSent)
}

/// The server says this, in one segment.
pub fn s(text: impl AsRef<[u8]>) -> Step {
    says(End::Server, &[text.as_ref()], Arrival::AsSent)
}

/// The client says this, in these segments.
pub fn c_cut(pieces: &[&[u8]]) -> Step {
    says(End::Client, pieces, Arrival::AsSent)
}

/// The server says this, in these segments.
pub fn s_cut(pieces: &[&[u8]]) -> Step {
    says(End::Server, pieces, Arrival::AsSent)
}

impl Step {
    /// The same, but NAT rewrites its address.
    pub fn announced(self) -> Step {
        self.arriving(Arrival::Announced)
    }

    /// The same, but NAT rewrites its address and its port.
    pub fn promised(self) -> Step {
        self.arriving(Arrival::Promised)
    }

    /// The same, but the ALG may spoil it.
    pub fn spoiled(self) -> Step {
        self.arriving(Arrival::Spoiled)
    }

    fn arriving(self, arrival: Arrival) -> Step {
        match self {
            Step::Says(end, pieces, _) => Step::Says(end, pieces, arrival),
            Step::Data => Step::Data,
        }
    }
}

/// Greeting and login, and what follows.
pub fn logged_in(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let login = [
        s("220 ready\r\n"),
        c("USER anonymous\r\n"),
        s("331 any password\r\n"),
        c("PASS nobody\r\n"),
        s("230 welcome\r\n"),
    ];
    login.into_iter().chain(steps).collect()
}

/// The client's PORT for its own address, and the server's 200.
pub fn port() -> [Step; 2] {
    [c("PORT {own},{port}\r\n").announced(), s("200 fine\r\n")]
}

/// PASV, and a 227 with the server's own address.
pub fn pasv() -> [Step; 2] {
    [c("PASV\r\n"), s("227 Entering Passive Mode ({own},{port}).\r\n").announced()]
}
