//! Replies that nobody asked for, lines of the wrong end, and commands that were refused or not yet answered.

use super::case::{Case, End, Step, c, honest, logged_in, pasv, port, s, trick};

pub fn cases() -> Vec<Case> {
    let mut cases = honest_sessions();
    cases.extend(replies());
    cases.extend(wrong_end());
    cases.extend(refused());
    cases.extend(replaced());
    cases
}

fn honest_sessions() -> Vec<Case> {
    vec![
        honest("PORT and 200", End::Client, logged_in(port())),
        honest("PASV and 227", End::Server, logged_in(pasv())),
        honest(
            "a PASV that is refused, and another",
            End::Server,
            logged_in([c("PASV\r\n"), s("425 not now\r\n")].into_iter().chain(pasv())),
        ),
        // Some servers connect first and reply afterwards: the SYN to the port of the command that is next to be
        // answered is as good as a 200.
        honest("PORT, and a server that connects before it replies", End::Client, {
            logged_in([c("PORT {own},{port}\r\n").announced()])
        })
        .waits(),
        honest(
            "PORT twice",
            End::Client,
            logged_in([c("PORT {own},{other}\r\n").announced(), s("200 fine\r\n")].into_iter().chain(port())),
        )
        .opens_another(),
        honest(
            "the same PORT twice",
            End::Client,
            logged_in(port().into_iter().chain([Step::Data]).chain(port())),
        ),
    ]
}

fn replies() -> Vec<Case> {
    let offer = || s("227 Entering Passive Mode ({own},{port})\r\n");
    vec![
        trick("227 unasked", End::Server, logged_in([offer()])),
        trick("229 unasked", End::Server, logged_in([s("229 Entering (|||{n}|)\r\n")])),
        trick("227 before PASV", End::Server, logged_in([offer(), c("PASV\r\n")])),
        trick(
            "227 before PASV, which is refused",
            End::Server,
            logged_in([offer(), c("PASV\r\n"), s("425 no\r\n")]),
        ),
        trick("227 twice", End::Server, {
            logged_in([
                c("PASV\r\n"),
                s("227 Entering Passive Mode ({own},{other})\r\n").announced(),
                offer(),
            ])
        })
        .opens_another(),
        trick("227 twice in one segment", End::Server, {
            logged_in([
                c("NOOP {own}\r\nPASV\r\n"),
                s("200 fine\r\n227 no address\r\n227 Entering Passive Mode ({own},{port})\r\n"),
            ])
        })
        .only_v4(),
        trick("229 twice", End::Server, {
            logged_in([c("EPSV\r\n"), s("229 ok (|||{other n}|)\r\n229 ok (|||{n}|)\r\n")])
        })
        .opens_another(),
        trick("227 to NOOP", End::Server, logged_in([c("NOOP\r\n"), offer()])),
        trick("227 to PORT", End::Server, logged_in([c("PORT {own},{other}\r\n"), offer()]))
            .says("not the sender's own"),
        trick(
            "227 to another's turn",
            End::Server,
            logged_in([c("NOOP\r\nPASV\r\n"), offer(), s("200 fine\r\n")]),
        ),
        trick("a late 227", End::Server, logged_in([c("PASV\r\n"), s("500 no\r\n"), offer()])),
        trick(
            "a late 229",
            End::Server,
            logged_in([c("EPSV\r\n"), s("522 no\r\n"), s("229 ok (|||{n}|)\r\n")]),
        ),
        trick("a 227 behind 421", End::Server, logged_in([c("PASV\r\n"), s("421 closing\r\n"), offer()])),
        trick("a 227 after QUIT", End::Server, logged_in([c("QUIT\r\n"), s("221 bye\r\n"), offer()])),
        trick("PASV alone", End::Server, logged_in([c("PASV {own},{port}\r\n")])),
        trick("PASV and a preliminary reply", End::Server, {
            logged_in([c("PASV\r\n"), s("127 Entering Passive Mode ({own},{port})\r\n")])
        }),
        trick("a 227 whose end never comes", End::Server, {
            logged_in([c("PASV\r\n"), s("227-Entering ({own},{port})\r\n").announced(), s("200 fine\r\n")])
        }),
        trick("200 before PORT, which is refused", End::Client, {
            logged_in([s("200 fine\r\n"), c("PORT {own},{port}\r\n").announced(), s("500 no\r\n")])
        }),
    ]
}

fn wrong_end() -> Vec<Case> {
    vec![
        trick(
            "PORT from the server",
            End::Server,
            logged_in([s("PORT {own},{port}\r\n"), c("200 fine\r\n")]),
        ),
        trick(
            "EPRT from the server",
            End::Server,
            logged_in([s("EPRT |{af}|{own.}|{n}|\r\n"), c("200 fine\r\n")]),
        ),
        trick("PORT from the server for the client", End::Client, {
            logged_in([s("PORT {own},{port}\r\n"), c("200 fine\r\n")])
        }),
        trick("227 from the client", End::Client, {
            logged_in([s("PASV\r\n"), c("227 Entering Passive Mode ({own},{port})\r\n")])
        }),
        trick("227 from the client to its own PASV", End::Client, {
            logged_in([c("PASV\r\n227 Entering Passive Mode ({own},{port})\r\n")])
        }),
        trick("229 from the client", End::Client, logged_in([s("EPSV\r\n"), c("229 ok (|||{n}|)\r\n")])),
        trick("200 from the client", End::Client, {
            logged_in([c("NOOP\r\nPORT {own},{port}\r\n200 fine\r\n").announced()])
        })
        .waits(),
    ]
}

fn refused() -> Vec<Case> {
    let mut cases = Vec::new();
    let codes = [
        "500", "501", "502", "503", "504", "530", "550", "421", "425", "331", "220", "227", "226", "250",
        "202",
    ];
    for code in codes {
        for command in ["PORT {own},{port}\r\n", "EPRT |{af}|{own.}|{n}|\r\n"] {
            let verb = &command[..4];
            let steps = logged_in([c(command).announced(), s(format!("{code} hm\r\n"))]);
            cases.push(trick(&format!("{verb} and {code}"), End::Client, steps));
        }
    }
    for code in ["425", "500", "502", "530", "200", "226"] {
        let steps =
            logged_in([c("PASV\r\n"), s(format!("{code} Entering Passive Mode ({{own}},{{port}})\r\n"))]);
        cases.push(trick(&format!("PASV and {code}"), End::Server, steps));
    }
    cases.push(
        trick("a PORT behind a command that is not answered", End::Client, {
            logged_in([c("NOOP\r\nPORT {own},{port}\r\n").announced()])
        })
        .waits(),
    );
    cases.push(
        trick("a PORT behind a transfer that goes on", End::Client, {
            logged_in([c("LIST\r\nPORT {own},{port}\r\n").announced(), s("150 here it comes\r\n")])
        })
        .waits(),
    );
    cases.push(trick("a 200 of several lines that refuses in the end", End::Client, {
        logged_in([c("PORT {own},{port}\r\n").announced(), s("500-\r\n200 fine\r\n500 no\r\n")])
    }));
    cases
}

/// What was open closes.
fn replaced() -> Vec<Case> {
    let other_port = || [c("PORT {own},{other}\r\n").announced(), s("200 fine\r\n")];
    let both = || c("PORT {own},{port}\r\nPORT {own},{other}\r\n").announced();
    let after = |steps: &[Step]| logged_in(port().into_iter().chain(steps.iter().cloned()));
    vec![
        trick("PORT, then another", End::Client, after(&other_port())).opens_another().opened_before(),
        trick("two PORTs at once", End::Client, {
            logged_in([both(), s("200 fine\r\n"), s("200 fine\r\n")])
        })
        .opens_another()
        .opened_before(),
        trick("two PORTs at once, the first refused", End::Client, {
            logged_in([both(), s("500 no\r\n"), s("200 fine\r\n")])
        })
        .opens_another(),
        trick("the same PORT twice, refused twice", End::Client, {
            logged_in([
                c("PORT {own},{port}\r\nPORT {own},{port}\r\n").announced(),
                s("500 no\r\n500 no\r\n"),
            ])
        }),
        trick("a second connection", End::Client, after(&[Step::Data])),
        trick("a second connection, passive", End::Server, logged_in(pasv().into_iter().chain([Step::Data]))),
        trick("a transfer that is over", End::Client, after(&[c("RETR x\r\n"), s("226 done\r\n")]))
            .opened_before(),
        trick("an end of inspection", End::Client, after(&[c("AUTH TLS\r\n"), s("234 go on\r\n")]))
            .opened_before(),
        trick("a login that is flushed", End::Client, after(&[c("REIN\r\n"), s("220 ready\r\n")]))
            .opened_before(),
    ]
}
