//! Before the greeting, before the login, and after it was taken back.

use super::case::{Case, End, Step, c, honest, logged_in, pasv, port, s, trick};

const NOBODY: &str = "nobody is logged in";
const NO_GREETING: &str = "first reply was not 220";
const ENCRYPTED: &str = "encrypted from here on";

/// The client's PORT, which goes on as it is, and the server's 200.
fn vain_port() -> [Step; 2] {
    [c("PORT {own},{port}\r\n"), s("200 fine\r\n")]
}

fn then(steps: &[Step], last: [Step; 2]) -> Vec<Step> {
    steps.iter().cloned().chain(last).collect()
}

pub fn cases() -> Vec<Case> {
    let mut cases = honest_sessions();
    cases.extend(greetings());
    cases.extend(logins());
    cases.extend(taken_back());
    cases
}

fn honest_sessions() -> Vec<Case> {
    let greeting = s("220 ready\r\n");
    let of = |name: &str, steps: &[Step]| honest(name, End::Client, then(steps, port()));
    vec![
        of("230 to USER", &[greeting.clone(), c("USER a\r\n"), s("230 in\r\n")]),
        of(
            "a greeting that takes a while",
            &[
                s("120 wait\r\n"),
                s("220-at\r\n last\r\n220 ready\r\n"),
                c("USER a\r\n"),
                s("230-you\r\n331 are\r\n230 in\r\n"),
            ],
        ),
        of(
            "an account",
            &[
                greeting.clone(),
                c("USER a\r\n"),
                s("331 password\r\n"),
                c("PASS b\r\n"),
                s("332 account\r\n"),
                c("ACCT c\r\n"),
                s("230 in\r\n"),
            ],
        ),
        of(
            "what clients say before they log in",
            &[
                greeting.clone(),
                c(
                    "HOST a.example\r\nFEAT\r\nOPTS UTF8 ON\r\nCLNT x\r\nSYST\r\n\r\nXAUT 2 a\r\nALGS STATUS64\r\nAUTH TLS\r\n",
                ),
                s(
                    "220 yes\r\n211-a\r\n B\r\n211 c\r\n200 a\r\n200 a\r\n215 UNIX\r\n500 a\r\n500 a\r\n502 a\r\n502 a\r\n",
                ),
                c("USER a\r\n"),
                s("230 in\r\n"),
            ],
        ),
        of(
            "a second login",
            &logged_in([c("USER b\r\n"), s("331 password\r\n"), c("PASS b\r\n"), s("230 in\r\n")]),
        ),
        of("a second login that is refused", &logged_in([c("USER b\r\n"), s("530 no\r\n")])),
        of(
            "a login after REIN",
            &logged_in([c("REIN\r\n"), s("220 ready\r\n"), c("USER b\r\n"), s("230 in\r\n")]),
        ),
        of(
            "unknown commands of somebody who is logged in",
            &logged_in([c("XSHA256 a\r\nHost: a\r\n"), s("500 a\r\n500 a\r\n")]),
        ),
        of("AUTH that is refused", &logged_in([c("AUTH TLS\r\n"), s("534 no\r\n")])),
    ]
}

fn greetings() -> Vec<Case> {
    let play = [c("USER a\r\n"), s("331 go on\r\n"), c("PASS b\r\n"), s("230 in\r\n")];
    let mut cases = Vec::new();
    for greeting in
        ["230 in\r\n", "200 fine\r\n", "421 full\r\n", "500 no\r\n", "227 Entering ({own},{other})\r\n"]
    {
        let steps = then(&[&[s(greeting)][..], &play].concat(), vain_port());
        cases.push(trick(&format!("greeting {}", greeting.trim()), End::Client, steps).says(NO_GREETING));
    }
    for greeting in [
        "+OK\r\n",
        "* OK\r\n",
        "hello\r\n",
        "220\0\r\n",
        " 220 a\r\n",
        "2200 a\r\n",
        "\r\n",
        "\r220 a\r\n",
        "220a\r\n",
    ] {
        let steps = then(&[&[s(greeting)][..], &play].concat(), vain_port());
        let case = trick(&format!("greeting {}", greeting.escape_debug()), End::Client, steps);
        cases.push(case.says(NO_GREETING));
    }
    let steps = |greeting: &str| then(&[&[s(greeting)][..], &play].concat(), vain_port());
    cases.extend([
        trick("a 220 in another reply", End::Client, steps("120-\r\n220 ready\r\n120 wait\r\n"))
            .says(NO_GREETING),
        trick("a greeting that only begins", End::Client, steps("220-ready\r\n")).says(NOBODY),
        trick("no greeting", End::Client, then(&[c("USER a\r\n"), s("120 wait\r\n")], vain_port()))
            .says(NO_GREETING),
        trick("no greeting, and a login", End::Client, steps("")).says(NO_GREETING),
    ]);
    cases
}

fn logins() -> Vec<Case> {
    let greeting = s("220 ready\r\n");
    let of = |name: &str, steps: &[Step]| {
        let steps = [std::slice::from_ref(&greeting), steps].concat();
        trick(name, End::Client, then(&steps, vain_port())).says(NOBODY)
    };
    let user = [c("USER a\r\n"), s("331 go on\r\n")];
    let after_user = |steps: &[Step]| [&user[..], steps].concat();
    let mut cases = vec![
        of("no login", &[]),
        of("USER alone", &user),
        of("a login that is refused", &after_user(&[c("PASS b\r\n"), s("530 no\r\n")])),
        of("an account that is missing", &after_user(&[c("PASS b\r\n"), s("332 account\r\n")])),
        of("a login that is not needed", &[c("USER a\r\n"), s("232 fine\r\n")]),
        of("230 to NOOP", &[c("NOOP\r\n"), s("230 in\r\n")]),
        of("230 unasked", &[s("230 in\r\n")]),
        of("230 unasked, then USER", &[s("230 in\r\n"), c("USER a\r\n"), s("530 no\r\n")]),
        of("230 in another reply", &[c("USER a\r\n"), s("331-a\r\n230 in\r\n331 b\r\n")]),
        of("230 in a text", &[c("USER a\r\n"), s("331 \r230 in\r\n")]),
        of("230 from the client", &[c("USER a\r\nNOOP 230\r\n"), s("331 a\r\n200 fine\r\n")]),
        of("a 230 whose end never comes", &[c("USER a\r\n"), s("230-in\r\n")]),
        of("a user's name that is a PORT", &[c("USER PORT {own},{port}\r\n"), s("331 a\r\n")]),
        trick("PASV of nobody", End::Server, {
            vec![
                greeting.clone(),
                c("NOOP {own}\r\nPASV\r\n"),
                s("200 fine\r\n227 Entering ({own},{port})\r\n"),
            ]
        })
        .says(NOBODY),
        trick(
            "EPSV of nobody",
            End::Server,
            vec![greeting.clone(), c("EPSV\r\n"), s("229 Entering (|||{n}|)\r\n")],
        )
        .says(NOBODY),
        trick("EPRT of nobody", End::Client, {
            vec![greeting.clone(), c("EPRT |{af}|{own.}|{n}|\r\n"), s("200 fine\r\n")]
        })
        .says(NOBODY),
        trick("PORT ahead of the greeting", End::Client, {
            vec![c("USER a\r\nPORT {own},{port}\r\n"), s("220 ready\r\n"), s("230 in\r\n"), s("200 fine\r\n")]
        })
        .says(NOBODY),
    ];
    let name = "USER PORT {own},{port}\r\nPASS PORT {own},{port}\r\nACCT PORT {own},{port}\r\n";
    let steps = vec![greeting, c(name), s("331 a\r\n332 b\r\n230 in\r\n"), s("200 fine\r\n")];
    cases.push(trick("a name, a password and an account that are PORTs", End::Client, steps));
    cases
}

fn taken_back() -> Vec<Case> {
    let of = |name: &str, steps: &[Step]| {
        let steps = then(&logged_in(steps.iter().cloned()), vain_port());
        trick(name, End::Client, steps).says(NOBODY)
    };
    // Asked for while somebody was logged in, and answered when nobody is.
    let ahead = |name: &str, command: &str, reply: &str| {
        let line = c(format!("{command}\r\nPORT {{own}},{{port}}\r\n")).announced();
        let steps = logged_in([line, s(format!("{reply}\r\n")), s("200 fine\r\n")]);
        trick(name, End::Client, steps)
    };
    let auth = |name: &str, steps: &[Step]| {
        let steps = then(&logged_in(steps.iter().cloned()), vain_port());
        trick(name, End::Client, steps).says(ENCRYPTED)
    };
    vec![
        of("after REIN", &[c("REIN\r\n"), s("220 ready\r\n")]),
        of("after REIN that takes a while", &[c("REIN\r\n"), s("120 wait\r\n220 ready\r\n")]),
        of("after another USER", &[c("USER b\r\n"), s("331 password\r\n")]),
        of(
            "after another USER, refused",
            &[c("USER b\r\n"), s("331 password\r\n"), c("PASS c\r\n"), s("530 no\r\n")],
        ),
        ahead("right behind REIN", "REIN", "220 ready").says(NOBODY),
        ahead("right behind another USER", "USER b", "331 password").says(NOBODY),
        trick("PASV right behind REIN", End::Server, {
            logged_in([c("REIN\r\nPASV\r\n"), s("220 ready\r\n227 Entering Passive Mode ({own},{port})\r\n")])
        })
        .says(NOBODY),
        auth("after AUTH", &[c("AUTH TLS\r\n"), s("234 go on\r\n")]),
        auth("after AUTH in a multi-line reply", &[c("AUTH TLS\r\n"), s("234-go\r\n234 on\r\n")]),
        auth("after AUTH and CCC", &[c("AUTH TLS\r\n"), s("234 go on\r\n"), c("CCC\r\n"), s("200 fine\r\n")]),
        ahead("right behind AUTH", "AUTH TLS", "234 go on").says(ENCRYPTED),
        trick(
            "PASV after AUTH",
            End::Server,
            logged_in(
                [c("AUTH TLS\r\n"), s("234 go on\r\n")]
                    .into_iter()
                    .chain([c("PASV\r\n"), s("227 Entering Passive Mode ({own},{port})\r\n")]),
            ),
        )
        .says(ENCRYPTED),
        honest("PASV without AUTH", End::Server, logged_in(pasv())),
    ]
}
