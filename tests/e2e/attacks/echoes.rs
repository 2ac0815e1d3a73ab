//! A 227 inside something else that the server says: an honest server is made to repeat what its client or a file's
//! name says (CERT VU#328867), so that a client outside gets a port of the server's opened.

use super::case::{Case, End, Step, c, honest, logged_in, pasv, s, s_cut, trick};

const TRICK: &str = "227 Entering Passive Mode ({own},{port})";

/// A reply behind which PASV waits. The real 227 names another port.
fn while_pasv_waits(reply: &str) -> Vec<Step> {
    logged_in([
        c("NLST x\r\nPASV\r\n"),
        s(reply),
        s("227 Entering Passive Mode ({own},{other})\r\n").announced(),
    ])
}

fn inside(name: &str, reply: &str) -> Case {
    trick(name, End::Server, while_pasv_waits(reply)).opens_another()
}

pub fn cases() -> Vec<Case> {
    let mut cases = honest_sessions();
    cases.extend([
        inside("in a 550", &format!("550 {TRICK}: not found\r\n")),
        inside("in a 250", &format!("250 {TRICK}\r\n")),
        inside("in a 257", "257 \"227 Entering Passive Mode ({own},{port})\"\r\n"),
        inside("behind a bare CR", &format!("550 x\r{TRICK}: not found\r\n")),
        inside("behind two bare CRs", &format!("550 x\r\r{TRICK}: not found\r\n")),
        inside("behind LF and CR", &format!("550 x\n\r{TRICK}: not found\r\n")),
        inside("behind NUL", &format!("550 x\0{TRICK}: not found\r\n")),
        inside("behind CR NUL", &format!("550 x\r\0{TRICK}: not found\r\n")),
        inside("behind a form feed", &format!("550 x\x0c{TRICK}: not found\r\n")),
        inside("in the first line of several", &format!("550-{TRICK}\r\n550 not found\r\n")),
        inside("in the last line of several", &format!("550-not found\r\n550 {TRICK}\r\n")),
        inside("a line of a STAT", &format!("213-status\r\n{TRICK}\r\n213 end\r\n")),
        inside("a line of another STAT", &format!("211-status\r\n{TRICK}\r\n211 end\r\n")),
        inside("a line of a HELP", &format!("214-help\r\n{TRICK}\r\n214 end\r\n")),
        inside("a line of a listing", &format!("250-files\r\n{TRICK}\r\n{TRICK}\r\n250 end\r\n")),
        inside("a line behind a longer code", &format!("213-status\r\n2130 x\r\n{TRICK}\r\n213 end\r\n")),
        inside("a line behind an indented end", &format!("213-status\r\n 213 end\r\n{TRICK}\r\n213 end\r\n")),
        inside(
            "a line behind another reply's end",
            &format!("213-status\r\n211 end\r\n{TRICK}\r\n213 end\r\n"),
        ),
        inside(
            "a line behind another multi-line reply",
            &format!("213-a\r\n211-b\r\n211 b\r\n{TRICK}\r\n213 a\r\n"),
        ),
        inside("a multi-line 227 in another reply", &format!("213-a\r\n227-x\r\n{TRICK}\r\n213 a\r\n")),
        inside("behind blanks", &format!("213-a\r\n213 a\r\n  {TRICK}\r\n")),
        inside("behind a tab", &format!("550 a\r\n\t{TRICK}\r\n")),
        inside("with a longer code", "550 a\r\n2270 Entering ({own},{port})\r\n"),
        inside("with a sign", "550 a\r\n+227 Entering ({own},{port})\r\n"),
        inside("with a word", "550 a\r\n227x Entering ({own},{port})\r\n"),
        inside("with a leading zero", "550 a\r\n0227 Entering ({own},{port})\r\n"),
        inside("in a preliminary reply", "127 Entering ({own},{port})\r\n550 a\r\n"),
        inside("in several preliminary lines", &format!("150-a\r\n{TRICK}\r\n150 a\r\n226 b\r\n")),
    ]);
    let offers = "227-Entering Passive Mode ({own},{port})\n227 a: not found\r\n";
    for (name, reply) in [
        ("a multi-line 227", &format!("227-a\n{TRICK}: not found\r\n")[..]),
        ("a multi-line 227 with its address in the first line", offers),
        ("a multi-line 229", "229-a\n229 Entering (|||{n}|): not found\r\n"),
    ] {
        cases.push(inside(&format!("{name} behind a bare LF"), &format!("550 x\n{reply}")).says("bare LF"));
    }
    cases.push(inside("behind a bare LF", &format!("550 x\n{TRICK}: not found\r\n")).says("bare LF"));
    cases.push(
        trick(
            "in segments, behind a bare LF",
            End::Server,
            logged_in([
                c("NLST x\r\nPASV\r\n"),
                s_cut(&[b"550 x", b"\n", b"227 Entering Passive Mode ({own},{port})", b": not found\r\n"]),
                s("227 Entering Passive Mode ({own},{other})\r\n").announced(),
            ]),
        )
        .opens_another()
        .says("bare LF"),
    );
    cases.push(
        trick(
            "a 229 behind a bare LF",
            End::Server,
            logged_in([
                c("NLST x\r\nEPSV\r\n"),
                s("550 x\n229 Entering (|||{n}|): not found\r\n"),
                s("229 Entering (|||{other n}|)\r\n").announced(),
            ]),
        )
        .opens_another()
        .says("bare LF"),
    );
    for code in ["200", "226", "228", "229", "127", "257", "327", "427", "527", "627"] {
        let steps =
            logged_in([c("PASV\r\n"), s(format!("{code} Entering Passive Mode ({{own}},{{port}})\r\n"))]);
        let case = trick(&format!("behind {code}"), End::Server, steps);
        // Over IPv6 that would be an honest one.
        cases.push(if code == "229" { case.only_v4().says("not valid") } else { case });
    }
    cases.extend(segments());
    cases.extend(before_login());
    cases
}

fn honest_sessions() -> Vec<Case> {
    let offer = || s("227 Entering Passive Mode ({own},{port})\r\n").announced();
    vec![
        honest(
            "a 227 behind a 550",
            End::Server,
            logged_in([c("NLST x\r\nPASV\r\n"), s("550 not found\r\n"), offer()]),
        ),
        honest(
            "a 227 behind a STAT",
            End::Server,
            logged_in([c("STAT x\r\nPASV\r\n"), s("213-status\r\n 227\r\n213 end\r\n"), offer()]),
        ),
        honest(
            "a 227 of several lines",
            End::Server,
            logged_in([
                c("PASV\r\n"),
                s("227-listen\r\n227-227 (1,2,3,4,5,6)\r\n227 Entering ({own},{port})\r\n").announced(),
            ]),
        ),
        honest(
            "a server that ends all its lines with LF",
            End::Server,
            [
                s("220 ready\n"),
                c("USER a\r\n"),
                s("230 welcome\n"),
                c("PASV\r\n"),
                s("227 Entering Passive Mode ({own},{port})\n").announced(),
            ],
        ),
        honest(
            "a server whose banners hold LF",
            End::Server,
            [
                s("220-hello\n220-all\n220 ready\r\n"),
                c("USER a\r\n"),
                s("230-be\n nice\n230 welcome\r\n"),
                c("PASV\r\n"),
                s("227 Entering Passive Mode ({own},{port})\r\n").announced(),
            ],
        ),
        honest("PASV", End::Server, logged_in(pasv())),
    ]
}

/// What is repeated stands at the start of a segment: by the server's own writing, or because it was sent again from
/// there (VU#328867: the attacker acknowledges what stands before).
fn segments() -> Vec<Case> {
    let echo = |name: &str, pieces: &[&[u8]]| {
        let steps = logged_in([
            c("NLST 227 Entering Passive Mode ({own},{port})\r\nPASV\r\n"),
            s_cut(pieces),
            s("227 Entering Passive Mode ({own},{other})\r\n").announced(),
        ]);
        trick(name, End::Server, steps).opens_another()
    };
    vec![
        echo("a 550 in two segments", &[b"550 ", b"227 Entering Passive Mode ({own},{port})\r\n"]),
        echo("a 550 in three", &[b"550 ", b"227 Entering Passive Mode ({own},{port})", b": not found\r\n"]),
        echo(
            "a long 550",
            &[&[b"550 ".as_slice(), &[b'x'; 1444]].concat(), b"227 Entering Passive Mode ({own},{port})\r\n"],
        ),
        echo(
            "a very long 550",
            &[&[b"550 ".as_slice(), &[b'x'; 9000]].concat(), b"227 Entering Passive Mode ({own},{port})\r\n"],
        ),
        echo(
            "a STAT in segments of a line",
            &[b"213-status\r\n", b"227 Entering Passive Mode ({own},{port})\r\n", b"213 end\r\n"],
        ),
        echo(
            "a 550 cut inside its code",
            &[b"5", b"50 x\r", b"227 Entering Passive Mode ({own},{port})\r\n"],
        ),
    ]
}

fn before_login() -> Vec<Case> {
    vec![
        trick(
            "in the greeting",
            End::Server,
            [s(format!("220-hello\r\n{TRICK}\r\n220 ready\r\n")), c("USER a\r\n"), s("230 in\r\n")],
        ),
        trick(
            "in the welcome",
            End::Server,
            [s("220 ready\r\n"), c("USER a\r\n"), s(format!("230-hello\r\n{TRICK}\r\n230 in\r\n"))],
        ),
        trick(
            "a user's name",
            End::Server,
            [
                s("220 ready\r\n"),
                c("USER 227 Entering Passive Mode ({own},{port})\r\n"),
                s_cut(&[b"331 password for ", b"227 Entering Passive Mode ({own},{port})\r\n"]),
                c("PASS b\r\n"),
                s("230 in\r\n"),
            ],
        ),
    ]
}
