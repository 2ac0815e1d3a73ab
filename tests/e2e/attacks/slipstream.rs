//! NAT slipstreaming: a program inside that speaks another protocol is led to a server that plays FTP, and what it sends
//! holds a PORT at the start of a segment (Kamkar, NAT Slipstreaming, 2020, and v2.0 with Seri and Vishnipolsky, 2021;
//! before it Martin, Rajagopalan and Rubin, Blocking Java Applets at the Firewall, 1997).

use super::case::{Case, End, Step, c, c_cut, honest, s, trick};

const NOT_FTP: &str = "no FTP command before it was logged in";
/// What fills a segment of Ethernet's size, with time stamps.
const SEGMENT: usize = 1448;

/// What the server plays along with, and what the client is made to send.
fn played_along() -> [Step; 6] {
    [
        c("USER a\r\n"),
        s("331 go on\r\n"),
        c("PASS b\r\n"),
        s("230 welcome\r\n"),
        c("PORT {own},{port}\r\n"),
        s("200 fine\r\n"),
    ]
}

/// A session that begins with these bytes of the client's. The server greets first and answers every line, or it greets
/// only then and answers none.
fn beginning_with(first: &[u8], greets_first: bool) -> Vec<Step> {
    let lines = first.iter().filter(|byte| **byte == b'\n').count();
    let begin = if greets_first {
        vec![s("220 ready\r\n"), c(first), s("500 what?\r\n".repeat(lines.max(1)))]
    } else {
        vec![c(first), s("220 ready\r\n")]
    };
    begin.into_iter().chain(played_along()).collect()
}

pub fn cases() -> Vec<Case> {
    let mut control = beginning_with(b"NOOP\r\n", true);
    *control.last_mut().unwrap_or(&mut Step::Data) = s("200 fine\r\n");
    if let Some(port) = control.iter_mut().nth_back(1) {
        *port = port.clone().announced();
    }
    let mut cases = vec![
        honest("the same that begins with NOOP", End::Client, control),
        honest(
            "a client that sends its commands ahead of the greeting",
            End::Client,
            [
                c("USER a\r\nPASS b\r\n"),
                s("220 ready\r\n"),
                s("331 go on\r\n"),
                s("230 welcome\r\n"),
                c("PORT {own},{port}\r\n").announced(),
                s("200 fine\r\n"),
            ],
        ),
    ];
    for (name, first) in beginnings() {
        for greets_first in [true, false] {
            let when = if greets_first { "behind the greeting" } else { "ahead of the greeting" };
            let steps = beginning_with(&first, greets_first);
            cases.push(trick(&format!("{name}, {when}"), End::Client, steps).says(NOT_FTP));
        }
    }
    cases.push(padded_to_a_segment());
    cases.push(all_in_the_body());
    cases.push(answered_as_http());
    cases.push(logged_in_ahead_of_the_headers());
    cases
}

/// What other protocols begin with.
fn beginnings() -> Vec<(String, Vec<u8>)> {
    let header = "Host: a.example:21\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n";
    let form = "Host: a.example\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 900\r\n\r\n\
        --x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n";
    let mut all = Vec::new();
    for method in ["GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE", "PATCH"] {
        all.push((format!("HTTP {method}"), format!("{method} / HTTP/1.1\r\n{header}").into_bytes()));
    }
    // With fetch(), a page may choose the method; the preflight goes over another connection (Fetch Standard, CORS).
    for method in [
        "USER", "PASS", "ACCT", "PASV", "PORT", "STAT", "HELP", "NOOP", "SITE", "RETR", "LIST", "FEAT",
        "QUIT",
    ] {
        all.push((
            format!("HTTP with the method {method}"),
            format!("{method} /a HTTP/1.1\r\n{header}").into_bytes(),
        ));
    }
    let huge = format!("GET / HTTP/1.1\r\nHost: a.example\r\nCookie: {}\r\n\r\n", "a=b; ".repeat(1600));
    for (name, first) in [
        ("HTTP CONNECT", "CONNECT a.example:21 HTTP/1.1\r\nHost: a.example:21\r\n\r\n".to_owned()),
        ("HTTP with an absolute target", format!("GET ftp://a.example/ HTTP/1.0\r\n{header}")),
        ("an HTTP form", format!("POST / HTTP/1.1\r\n{form}")),
        ("HTTP with huge headers", huge),
        ("HTTP with a method in lower case", format!("get / HTTP/1.1\r\n{header}")),
        ("HTTP 0.9", "GET /\r\n".to_owned()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("a WebSocket", "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned()),
        ("SMTP", "EHLO a.example\r\n".to_owned()),
        ("SMTP of old", "HELO a.example\r\n".to_owned()),
        ("SMTP that begins with HELP", "HELP\r\nMAIL FROM:<a@a.example>\r\n".to_owned()),
        (
            "SIP REGISTER",
            "REGISTER sip:a.example;transport=TCP SIP/2.0\r\nContact: <sip:a@a.example>\r\n".to_owned(),
        ),
        ("SIP INVITE", "INVITE sip:a@a.example SIP/2.0\r\n".to_owned()),
        ("RTSP", "DESCRIBE rtsp://a.example/ RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_owned()),
        ("IRC", "NICK a\r\nUSER a b c :d\r\n".to_owned()),
        ("IRC with a password", "PASS a\r\nNICK a\r\n".to_owned()),
        ("IMAP", "a1 LOGIN a b\r\n".to_owned()),
        ("POP3", "CAPA\r\n".to_owned()),
        ("POP3 of old", "USER a\r\nUIDL\r\n".to_owned()),
        ("XMPP", "<stream:stream to='a.example'>\r\n".to_owned()),
        ("gopher", "/a\r\n".to_owned()),
        ("an empty line", "\r\n".to_owned()),
        ("a bare LF", "\n".to_owned()),
        ("a long line", format!("{}\r\n", "a".repeat(600))),
        ("a long line with blanks", format!("{}\r\n", "a ".repeat(4096))),
        ("a verb and a bare CR", "USER\ra\r\n".to_owned()),
        ("a verb and a tab", "USER\ta\r\n".to_owned()),
        ("a verb with something before it", " USER a\r\n".to_owned()),
        ("a verb that goes on", "USERS a\r\n".to_owned()),
    ] {
        all.push((name.to_owned(), first.into_bytes()));
    }
    for (name, first) in [
        ("NUL", &b"\0\0\0\0\r\n"[..]),
        ("NUL and a verb", b"\0USER a\r\n"),
        ("NUL in a verb", b"US\0ER a\r\n"),
        ("a TLS record", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x0a"),
        ("STUN with a name", b"\x00\x03\x00\x1c\x21\x12\xa4\x42aaaaaaaaaaaa\x00\x06\x00\x08a\r\nb\r\n\r\n"),
        ("H.323", b"\x03\x00\x00\x20\x08\x02\x00\x00\x05\x04\r\n"),
        ("SOCKS", b"\x04\x01\x00\x15\x01\x02\x03\x04a\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9\r\n"),
    ] {
        all.push((name.to_owned(), first.to_vec()));
    }
    let stuffed =
        [&b"\x00\x03\x05\x9c\x21\x12\xa4\x42aaaaaaaaaaaa\x00\x06\x05\x90"[..], &[b'a'; 1424]].concat();
    all.push(("STUN with a stuffed name".to_owned(), stuffed));
    // A ClientHello of which no byte ends a verb (blank, CR) before its first LF.
    let hello = [&b"\x16\x03\x01\x02\x01\x01\x00\x01\xfc\x03\x03"[..], &[0xaa; 700], b"\n"].concat();
    all.push(("a long TLS ClientHello".to_owned(), hello));
    all
}

/// A form whose field is so long that the kernel itself cuts it where the PORT begins.
fn padded_to_a_segment() -> Case {
    let head = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Type: text/plain\r\n\r\n".to_vec();
    let mut text = head.clone();
    for line in [&b"USER a\r\n"[..], b"PASS b\r\n", b"PORT {own},{port}\r\n"] {
        let padding = text.len().next_multiple_of(SEGMENT) - text.len();
        text.extend(vec![b'x'; padding]);
        text.extend_from_slice(line);
    }
    let steps = [c(text), s("220 ready\r\n"), s("331 go on\r\n"), s("230 welcome\r\n"), s("200 fine\r\n")];
    trick("a form padded to the segment's size", End::Client, steps).says(NOT_FTP)
}

/// Every line of the dialogue in a segment of its own, inside one request.
fn all_in_the_body() -> Case {
    let pieces: [&[u8]; 4] = [
        b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 90\r\n\r\n",
        b"USER a\r\n",
        b"PASS b\r\n",
        b"PORT {own},{port}\r\n",
    ];
    let replies = ["220 ready\r\n", "331 go on\r\n", "230 welcome\r\n", "200 fine\r\n"].map(s);
    trick(
        "a request in segments of a line",
        End::Client,
        [c_cut(&pieces)].into_iter().chain(replies).collect::<Vec<_>>(),
    )
    .says(NOT_FTP)
}

/// The server's window lets through the request line alone, and its 230 comes before the headers do.
fn logged_in_ahead_of_the_headers() -> Case {
    let begin = [
        s("220 ready\r\n"),
        c("USER /a HTTP/1.1\r\n"),
        s("230 welcome\r\n"),
        c("Host: a.example:21\r\n\r\n"),
        s("500 what?\r\n"),
    ];
    let steps = begin.into_iter().chain(played_along()).collect::<Vec<_>>();
    trick("HTTP with the method USER, in segments of a line", End::Client, steps).says(NOT_FTP)
}

/// The server does not even play FTP.
fn answered_as_http() -> Case {
    let steps = [
        s("HTTP/1.1 200 OK\r\n\r\n"),
        c("USER a\r\n"),
        s("331 go on\r\n"),
        c("PASS b\r\n"),
        s("230 welcome\r\n"),
        c("PORT {own},{port}\r\n"),
        s("200 fine\r\n"),
    ];
    trick("an HTTP server", End::Client, steps).says("first reply was not 220")
}
