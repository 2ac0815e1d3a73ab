//! Commands: verb, argument, and the telnet sequences in front of them.

use super::host_port::{Family, Notation, Spot};

/// What a command is to a firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// PORT: the client listens.
    Port,
    /// EPRT: the same, for any address family.
    Eprt,
    /// PASV: the server shall listen.
    Pasv,
    /// EPSV, but not `EPSV ALL`.
    Epsv,
    /// USER, PASS, ACCT: 230 completes the login.
    Login,
    /// REIN: back to before the login.
    Reinitialize,
    /// AUTH: 234 hides the dialogue (RFC 4217).
    Auth,
    /// RETR, STOR, LIST and the like: the data connection is used now.
    Transfer,
    /// ABOR.
    Abort,
    /// Any other FTP command.
    Other,
    /// No FTP command.
    Unknown,
}

const TRANSFERS: [&str; 7] = ["RETR", "STOR", "STOU", "APPE", "LIST", "NLST", "MLSD"];

/// RFC 959 and 1123, 2228, 2389, 2428, 2640, 3659, 6384, 7151, the X forms of RFC 775, and what clients in use send
/// before they log in.
const OTHERS: [&str; 53] = [
    "CWD", "CDUP", "SMNT", "QUIT", "TYPE", "STRU", "MODE", "ALLO", "REST", "RNFR", "RNTO", "DELE", "RMD",
    "MKD", "PWD", "SITE", "SYST", "STAT", "HELP", "NOOP", "ADAT", "PBSZ", "PROT", "CCC", "MIC", "CONF",
    "ENC", "FEAT", "OPTS", "LANG", "SIZE", "MDTM", "MLST", "HOST", "CLNT", "CSID", "AVBL", "HASH", "MFMT",
    "MFCT", "MFF", "COMB", "LPRT", "LPSV", "XPWD", "XCWD", "XMKD", "XRMD", "XCUP", "XCRC", "ALGS", "XAUT",
    "OPEN",
];

/// What stands in the request line of protocols that let a page of the web choose the method (RFC 9112, section 3).
const REQUEST_LINES: [&[u8]; 3] = [b" HTTP/", b" SIP/", b" RTSP/"];

impl Verb {
    fn of(word: &[u8], argument: &[u8]) -> Self {
        let mut upper = [0_u8; 4];
        let Some(place) = upper.get_mut(..word.len()) else { return Self::Unknown };
        place.copy_from_slice(word);
        place.make_ascii_uppercase();
        match &*place {
            b"PORT" => Self::Port,
            b"EPRT" => Self::Eprt,
            b"PASV" => Self::Pasv,
            b"EPSV" if argument.trim_ascii().eq_ignore_ascii_case(b"ALL") => Self::Other,
            b"EPSV" => Self::Epsv,
            b"USER" | b"PASS" | b"ACCT" => Self::Login,
            b"REIN" => Self::Reinitialize,
            b"AUTH" => Self::Auth,
            b"ABOR" => Self::Abort,
            word if TRANSFERS.iter().any(|verb| verb.as_bytes() == word) => Self::Transfer,
            word if OTHERS.iter().any(|verb| verb.as_bytes() == word) => Self::Other,
            _ => Self::Unknown,
        }
    }
}

/// A command line, whole or as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// What it is; of a line that is not whole, only once something follows the verb.
    pub verb: Verb,
    /// The verb as it was written.
    pub word: &'a [u8],
    /// Where the argument begins, as an offset in the line.
    pub argument: usize,
}

impl<'a> Command<'a> {
    /// What is no command.
    pub const UNKNOWN: Self = Self { verb: Verb::Unknown, word: b"", argument: 0 };

    /// Reads a line; `None` while nothing shows where its verb ends.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let start = telnet_prefix(line);
        let body = line.get(start..).unwrap_or_default();
        let length = body.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n'))?;
        let (word, rest) = body.split_at(length);
        let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
        let goes_on_behind_cr = rest.starts_with(b"\r") && !rest.trim_ascii().is_empty();
        let verb = if goes_on_behind_cr {
            Verb::Unknown
        } else {
            Verb::of(word, rest.get(blanks..).unwrap_or_default())
        };
        Some(Self { verb, word, argument: start + length + blanks })
    }

    /// Whether it is USER.
    pub fn is_user(&self) -> bool {
        self.verb == Verb::Login && self.word.eq_ignore_ascii_case(b"USER")
    }

    /// Whether an EPSV names this family, or none (RFC 2428, section 3).
    pub fn fits(&self, line: &[u8], family: Family) -> bool {
        match line.get(self.argument..).unwrap_or_default().trim_ascii() {
            b"" => true,
            b"1" => family == Family::V4,
            b"2" => family == Family::V6,
            _ => false,
        }
    }

    /// Where the address of a PORT or EPRT begins, if its first byte has come.
    pub fn address(&self, line: &[u8]) -> Option<Spot> {
        let argument = line.get(self.argument..)?;
        match (self.verb, argument) {
            (Verb::Port, [b'0'..=b'9', ..]) => {
                Some(Spot { start: self.argument, notation: Notation::Commas })
            }
            (Verb::Eprt, [delimiter, family, again, first, ..])
                if delimiter == again
                    && delimiter.is_ascii_graphic()
                    && !delimiter.is_ascii_alphanumeric()
                    && first.is_ascii_graphic() =>
            {
                let family = match family {
                    b'1' => Family::V4,
                    b'2' => Family::V6,
                    _ => return None,
                };
                let notation = Notation::Delimited { delimiter: *delimiter, family };
                Some(Spot { start: self.argument + 3, notation })
            }
            _ => None,
        }
    }
}

/// Whether this, a client's first line, is another protocol's request.
pub fn is_request_line(line: &[u8]) -> bool {
    REQUEST_LINES.iter().any(|protocol| line.windows(protocol.len()).any(|window| window == *protocol))
}

/// Whether nothing but the end of the line stands behind the address of a command: `rest` begins right behind it.
pub fn ends_properly(notation: Notation, rest: &[u8]) -> bool {
    let rest = match (notation, rest) {
        (Notation::Delimited { delimiter, .. }, [first, rest @ ..]) if *first == delimiter => rest,
        (Notation::Delimited { .. }, _) => return false,
        (_, rest) => rest,
    };
    rest.trim_ascii().is_empty()
}

/// How many bytes of telnet commands (RFC 854) stand at the beginning of the line. Clients send IP and DM before
/// ABOR (RFC 959, section 4.1.3); an unfinished sequence counts as far as it has come. The end of the line is never
/// part of one.
fn telnet_prefix(line: &[u8]) -> usize {
    const IAC: u8 = 255;
    const DATA_MARK: u8 = 242;
    let mut at = 0;
    loop {
        at += match line.get(at..).unwrap_or_default() {
            [IAC, IAC, ..] => return at,
            [IAC, b'\n', ..] | [IAC] => 1,
            [IAC, 251..=254, b'\n', ..] | [IAC, 251..=254] => 2,
            [IAC, 251..=254, _, ..] => 3,
            [IAC, _, ..] => 2,
            // The data mark alone: IAC was sent as urgent data and may have been read apart.
            [DATA_MARK, ..] if at > 0 => 1,
            _ => return at,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb(line: &[u8]) -> Option<Verb> {
        Command::read(line).map(|command| command.verb)
    }

    #[test]
    fn what_may_be_read_in_two_ways_is_no_user() {
        let is_user = |line| Command::read(line).is_some_and(|command| command.is_user());
        assert!(is_user(b"USER a\r\n") && is_user(b"user\r\n"));
        assert!(!is_user(b"PASS a\r\n") && !is_user(b"USER\r a\n"));
    }

    #[test]
    fn verbs_are_read_in_any_case() {
        assert_eq!(verb(b"PORT 1,2,3,4,5,6\r\n"), Some(Verb::Port));
        assert_eq!(verb(b"pAsV\r\n"), Some(Verb::Pasv));
        assert_eq!(verb(b"EPSV ALL\r\n"), Some(Verb::Other));
        assert_eq!(verb(b"epsv 2\r\n"), Some(Verb::Epsv));
        assert_eq!(verb(b"QUIT\n"), Some(Verb::Other));
        assert_eq!(verb(b"PASV\r\r\n"), Some(Verb::Pasv));
        assert_eq!(verb(b"MLSD /\r\n"), Some(Verb::Transfer));
    }

    #[test]
    fn other_protocols_are_no_commands() {
        for line in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"POST / HTTP/1.1\r\n",
            b"\x16\x03\x01 \r\n",
            b"\0\0 \n",
            b"PORTX 1\r\n",
            b"\r\n",
            b"USER\ra\r\n",
        ] {
            assert_eq!(verb(line), Some(Verb::Unknown), "{line:?}");
        }
        for line in [&b"USER /a HTTP/1.1\r\n"[..], b"PASS sip:a SIP/2.0\r\n"] {
            assert!(is_request_line(line), "{line:?}");
        }
        assert!(!is_request_line(b"USER a/HTTP/1.1\r\n"));
    }

    #[test]
    fn an_epsv_may_name_its_family() {
        for (argument, fits) in
            [("", [true, true]), ("1", [true, false]), ("2", [false, true]), ("01", [false, false])]
        {
            let line = format!("EPSV {argument}\r\n").into_bytes();
            let command = Command::read(&line).unwrap();
            assert_eq!(
                [Family::V4, Family::V6].map(|family| command.fits(&line, family)),
                fits,
                "{argument}"
            );
        }
    }

    #[test]
    fn an_unfinished_verb_is_not_judged() {
        assert_eq!(verb(b"POR"), None);
        assert_eq!(verb(b"PORT"), None);
        assert_eq!(verb(b""), None);
    }

    #[test]
    fn telnet_sequences_before_abor_are_passed_over() {
        for prefix in [&b"\xff\xf4\xff\xf2"[..], b"\xff\xf4\xf2", b"\xff\xfd\x06", b"\xff\xf4"] {
            assert_eq!(verb(&[prefix, b"ABOR\r\n"].concat()), Some(Verb::Abort), "{prefix:?}");
        }
        assert_eq!(verb(b"\xff\xffABOR\r\n"), Some(Verb::Unknown));
        for line in [&b"\xff\n"[..], b"\xff\xfd\n", b"\xff\xf4\n", b"\xff\xf4\xff\n"] {
            assert_eq!(verb(line), Some(Verb::Unknown), "{line:?}");
        }
    }

    #[test]
    fn an_address_is_found_with_its_first_byte() {
        let find = |line: &[u8]| {
            Command::read(line).and_then(|command| command.address(line)).map(|spot| spot.start)
        };
        assert_eq!(find(b"PORT "), None);
        assert_eq!(find(b"PORT 1"), Some(5));
        assert_eq!(find(b"port   10,"), Some(7));
        assert_eq!(find(b"EPRT |1|"), None);
        assert_eq!(find(b"EPRT |1|1"), Some(8));
        assert_eq!(find(b"EPRT |2|f"), Some(8));
        assert_eq!(find(b"EPRT |3|1"), None);
        assert_eq!(find(b"EPRT 1112"), None);
        assert_eq!(find(b"LIST 1,2,3,4,5,6"), None);
    }

    #[test]
    fn nothing_may_follow_the_address() {
        let pipe = Notation::Delimited { delimiter: b'|', family: Family::V4 };
        assert!(ends_properly(Notation::Commas, b"\r\n"));
        assert!(ends_properly(Notation::Commas, b" \r\n"));
        assert!(!ends_properly(Notation::Commas, b" x\r\n"));
        assert!(!ends_properly(Notation::Commas, b"\r1\r\n"));
        assert!(ends_properly(pipe, b"|\r\n"));
        assert!(!ends_properly(pipe, b"\r\n"));
        assert!(!ends_properly(pipe, b"||\r\n"));
    }
}
