//! Where a line begins and ends, and what may stand in it: segments, NUL, Telnet, TLS, and lines longer than are kept.

use super::case::{Case, End, Step, c, c_cut, honest, logged_in, s, trick};

pub fn cases() -> Vec<Case> {
    let mut cases = honest_sessions();
    cases.extend(middles());
    cases.extend(cut_numbers());
    cases.extend(bytes());
    cases
}

fn honest_sessions() -> Vec<Case> {
    let fine = || s("200 fine\r\n");
    let of = |name: &str, steps: &[Step]| honest(name, End::Client, logged_in(steps.iter().cloned()));
    vec![
        of("cut behind the verb", &[c_cut(&[b"PORT", b" {own},{port}\r\n"]).announced(), fine()]),
        of("cut behind the address", &[c_cut(&[b"PORT {own},{port}", b"\r\n"]).promised(), fine()]),
        of("cut between CR and LF", &[c_cut(&[b"PORT {own},{port}\r", b"\n"]).promised(), fine()]),
        of("cut inside the address", &[c_cut(&[b"PORT {own}", b",{port}\r\n"]).promised(), fine()]),
        of(
            "behind another command in its segment",
            &[c("NOOP\r\nPORT {own},{port}\r\n").announced(), s("200 fine\r\n200 fine\r\n")],
        ),
        of(
            "behind a long command",
            &[
                c(format!("CWD {}\r\n", "x".repeat(2000))),
                s("550 not found\r\n"),
                c("PORT {own},{port}\r\n").announced(),
                fine(),
            ],
        ),
        of(
            "behind a very long line without a verb",
            &[
                c(format!("{}\r\n", "x".repeat(8192))),
                s("500 what?\r\n"),
                c("PORT {own},{port}\r\n").announced(),
                fine(),
            ],
        ),
        of("behind Telnet negotiation", &[c(b"\xff\xfd\x06PORT {own},{port}\r\n").announced(), fine()]),
        of("with a bare LF", &[c("PORT {own},{port}\n").announced(), fine()]),
        of("an EPRT", &[c("EPRT |{af}|{own.}|{n}|\r\n").announced(), fine()]),
    ]
}

/// The PORT stands at the start of a segment, but in the middle of a line.
fn middles() -> Vec<Case> {
    let of = |name: &str, before: &[u8]| {
        let line = c_cut(&[before, b"PORT {own},{port}\r\n"]);
        trick(name, End::Client, logged_in([line, s("200 fine\r\n")]))
    };
    let eprt = |name: &str, before: &[u8]| {
        let line = c_cut(&[before, b"EPRT |{af}|{own.}|{n}|\r\n"]);
        trick(name, End::Client, logged_in([line, s("200 fine\r\n")]))
    };
    vec![
        of("behind CWD", b"CWD "),
        of("behind a bare CR", b"NOOP\r"),
        of("behind a NUL", b"NOOP\r\0"),
        of("behind a vertical tab", b"NOOP\x0b"),
        of("behind a blank", b" "),
        of("behind a tab", b"\t"),
        of("behind a letter", b"X"),
        of("behind 507 bytes", &[b"CWD ".as_slice(), &[b'x'; 503]].concat()),
        of("behind 512 bytes", &[b"CWD ".as_slice(), &[b'x'; 508]].concat()),
        of("behind 600 bytes", &[b"CWD ".as_slice(), &[b'x'; 596]].concat()),
        of("behind 512 bytes without a verb", &[b'x'; 512]),
        of("behind 1448 bytes without a verb", &[b'x'; 1448]),
        of("behind 8 KiB", &[b"CWD ".as_slice(), &[b'x'; 8188]].concat()),
        of("behind 64 KiB", &[b"CWD ".as_slice(), &[b'x'; 65532]].concat()),
        eprt("an EPRT behind CWD", b"CWD "),
        eprt("an EPRT behind 512 bytes", &[b"CWD ".as_slice(), &[b'x'; 508]].concat()),
        eprt("an EPRT behind a bare CR", b"NOOP\r"),
        trick("a byte in a segment", End::Client, {
            let bytes = b"CWD PORT ".map(|byte| vec![byte]);
            let pieces = bytes.iter().map(Vec::as_slice).chain([b"{own},{port}\r\n".as_slice()]);
            logged_in([c_cut(&pieces.collect::<Vec<_>>()), s("200 fine\r\n")])
        }),
    ]
}

/// Only a part of the line reads as a valid address, or another one than the whole.
fn cut_numbers() -> Vec<Case> {
    let of = |name: &str, pieces: &[&[u8]], reason| {
        let steps = logged_in([c_cut(pieces).spoiled(), s("200 fine\r\n")]);
        trick(name, End::Client, steps).says(reason)
    };
    let unfinished =
        |name: &str, text: &str| trick(name, End::Client, logged_in([c(text).spoiled(), s("200 fine\r\n")]));
    vec![
        of("one more digit behind a cut", &[b"PORT {own},{port}", b"0\r\n"], "not valid").only_v4(),
        of("one more number behind a cut", &[b"PORT {own},{port}", b",1\r\n"], "not valid").only_v4(),
        of("something else behind a cut", &[b"PORT {own},{port}", b" x\r\n"], "not well formed"),
        of("a CR and more behind a cut", &[b"PORT {own},{port}\r", b"1\r\n"], "not well formed"),
        of(
            "another PORT behind a bare CR",
            &[b"PORT {own},{port}\r", b"PORT {own},{other}\r\n"],
            "not well formed",
        ),
        of("a sign behind a cut", &[b"PORT {own},", b"+{port}\r\n"], "not"),
        of("one more digit of an EPRT", &[b"EPRT |{af}|{own.}|{n}", b"0|\r\n"], "not valid"),
        of("one more field of an EPRT", &[b"EPRT |{af}|{own.}|{n}|", b"1|\r\n"], "not well formed"),
        of(
            "too long behind a cut",
            &[b"PORT {own},{port}", &[&[b' '; 600][..], b"\r\n"].concat()],
            "not well formed",
        ),
        of(
            "too long",
            &[&[b"PORT {own},{port}".as_slice(), &[b' '; 600], b"\r\n"].concat()],
            "not well formed",
        ),
        of("a service's port behind a cut", &[b"PORT {own},0", b",22\r\n"], "below 1024").at(22),
        unfinished("a line that does not end", "PORT {own},{port}"),
        unfinished("a line that ends with CR", "PORT {own},{port}\r"),
        unfinished("an EPRT that does not end", "EPRT |{af}|{own.}|{n}|"),
    ]
}

/// Bytes that FTP has no use for.
fn bytes() -> Vec<Case> {
    let of = |name: &str, line: &[u8]| trick(name, End::Client, logged_in([c(line), s("200 fine\r\n")]));
    vec![
        of("NUL in the verb", b"PO\0RT {own},{port}\r\n"),
        of("NUL before the verb", b"\0PORT {own},{port}\r\n"),
        of("NUL behind the verb", b"PORT\0{own},{port}\r\n"),
        of("NUL before the address", b"PORT \0{own},{port}\r\n").says("not valid"),
        of("NUL in the address", b"PORT {own}\0,{port}\r\n").says("not"),
        of("NUL behind the address", b"PORT {own},{port}\0\r\n").says("not well formed"),
        of("a tab behind the verb", b"PORT\t{own},{port}\r\n"),
        of("Telnet in the verb", b"PO\xff\xf1RT {own},{port}\r\n"),
        of("Telnet in the address", b"PORT {own}\xff\xf1,{port}\r\n").says("not"),
        of("Telnet behind the address", b"PORT {own},{port}\xff\xf1\r\n").says("not well formed"),
        of("a byte 255 before the verb", b"\xff\xffPORT {own},{port}\r\n"),
        of("a Telnet subnegotiation", b"\xff\xfa\x18\x01\xff\xf0PORT {own},{port}\r\n"),
        of("a TLS record", b"\x17\x03\x03\x00\x20PORT {own},{port}\r\n"),
        of("a TLS record that holds a LF-less PORT", b"\x17\x03\x03\x00\x20aaaa\rPORT {own},{port}\r\n"),
        of("a byte order mark", b"\xef\xbb\xbfPORT {own},{port}\r\n"),
        of("wide characters", b"P\0O\0R\0T\0 \0{own},{port}\r\0\n"),
        of("a longer verb", b"PORTS {own},{port}\r\n"),
        of("a shorter verb", b"POR {own},{port}\r\n"),
        of("the verb of RFC 1639", b"LPRT {own},{port}\r\n"),
        of("a SITE command", b"SITE PORT {own},{port}\r\n"),
    ]
}
