//! Ports of services (RFC 2577, section 3), and numbers that another reader may take for a port that the ALG has not
//! judged: too large, signed, padded, too many or too few.

use super::case::{Case, End, c, honest, logged_in, s, trick};

const LOW: &str = "below 1024";
const INVALID: &str = "not valid";
const BAD_LINE: &str = "not well formed";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        port("{own},4,0", "port 1024").at(1024),
        port("{own},255,255", "port 65535").at(65535),
        eprt("|{af}|{own.}|1025|", "port 1025").at(1025),
        eprt("|{af}|{own.}|65534|", "port 65534").at(65534),
        honest(
            "227 with port 1024",
            End::Server,
            logged_in([c("PASV\r\n"), s("227 ok ({own},4,0)\r\n").announced()]),
        )
        .at(1024),
        honest("229 with port 1025", End::Server, logged_in([c("EPSV\r\n"), s("229 ok (|||1025|)\r\n")]))
            .at(1025),
        port("{own},{port}", "any port"),
        port("{own},{port}  ", "blanks at the end"),
        honest(
            "a PORT in lower case",
            End::Client,
            logged_in([c("port   {own},{port}\r\n").announced(), s("200 fine\r\n")]),
        ),
    ];
    for low in [0, 1, 20, 22, 80, 139, 445, 1023_u16] {
        let [hi, lo] = low.to_be_bytes();
        cases.extend([
            bad_port(&format!("{{own}},{hi},{lo}"), LOW).at(low),
            bad_eprt(&format!("|{{af}}|{{own.}}|{low}|"), LOW).at(low),
            bad_227(&format!("({{own}},{hi},{lo})"), LOW).at(low),
            bad_229(&format!("(|||{low}|)"), LOW).at(low),
        ]);
    }
    for text in [
        "{own},{hi+256},{lo}",
        "{own},{hi},{lo+256}",
        "{own},0,{n}",
        "{own},{n},0",
        "{first+256},{port}",
        "{own},{hi+2^32},{lo}",
        "{own},{hi},{lo+2^64}",
        "{own},{hi},{lo-256}",
        "{own},+{hi},{lo}",
        "{own},{hi},+{lo}",
        "{own},0{hi},{lo}",
        "{own},{hi},0{lo}",
        "{own},{hi},00000000{lo}",
        "{own},{hi in octal},{lo}",
        "{own},0x{hi in hex},{lo}",
        "{0first},{port}",
        "{own}, {hi},{lo}",
        "{own},{hi} ,{lo}",
        "{own},\t{hi},{lo}",
        "{own},{hi}",
        "{own}",
        "{own},{port},1",
        "{own},{port},",
        "{own},,{hi},{lo}",
        "{own},{hi},",
        "{own},{hi}.{lo}",
        "{own};{hi};{lo}",
        "{own.},{port}",
        "{own}{port}",
    ] {
        cases.push(bad_port(text, if is_digits_and_commas(text) { INVALID } else { BAD_LINE }).only_v4());
        cases.push(bad_227(&format!("({text})"), INVALID).only_v4());
    }
    for text in [
        "-{own},{port}",
        "+{own},{port}",
        " ,{own},{port}",
        ",{own},{port}",
        "({own},{port})",
        "={own},{port}",
    ] {
        cases.push(bad_port(text, INVALID));
    }
    for rest in [" x", "x", ".", "\0", "\r{own},{other}", "\rPORT {own},{other}", ";", "\x0b", "|", " 1"] {
        cases.push(bad_port(&format!("{{own}},{{port}}{rest}"), BAD_LINE));
    }
    for (port, in_eprt, in_229) in [
        ("{n+65536}", INVALID, INVALID),
        ("{n+2^32}", INVALID, INVALID),
        ("{n+2^64}", INVALID, INVALID),
        ("0{n}", INVALID, INVALID),
        ("000000{n}", INVALID, INVALID),
        ("{n in octal}", INVALID, INVALID),
        ("{n-65536}", INVALID, INVALID),
        ("+{n}", INVALID, INVALID),
        ("", INVALID, INVALID),
        (" {n}", BAD_LINE, INVALID),
        ("{n} ", BAD_LINE, BAD_LINE),
        ("0x{n in hex}", INVALID, BAD_LINE),
        ("{n}.0", INVALID, BAD_LINE),
        ("{n},1", INVALID, BAD_LINE),
        ("{hi},{lo}", INVALID, BAD_LINE),
    ] {
        cases.push(bad_eprt(&format!("|{{af}}|{{own.}}|{port}|"), in_eprt));
        cases.push(bad_229(&format!("(|||{port}|)"), in_229));
    }
    for rest in ["", "||", "|x", "|\0", "| |", "|\r|"] {
        cases.push(bad_eprt(&format!("|{{af}}|{{own.}}|{{n}}{rest}"), BAD_LINE));
    }
    for text in ["|{af}|{own.} {n}|", "|{af}|{own.}", "|{af}|{own.}!{n}!"] {
        cases.push(bad_eprt(text, BAD_LINE));
    }
    for text in ["{af}|{own.}|{n}|", "|{af}{own.}|{n}|", "|{af}||{n}|", "||{own.}|{n}|"] {
        cases.push(bad_eprt(text, INVALID));
    }
    for text in ["(|||{n})", "(|||{n}|", "(|||{n}|x)", "(|||{n}||)", "(|||{n}\0|)"] {
        cases.push(bad_229(text, BAD_LINE));
    }
    for text in ["|||{n}|", "(||{n}|)", "(||||{n}|)"] {
        cases.push(bad_229(text, INVALID));
    }
    cases
}

/// Whether a reader of PORT finds no other byte, so that the numbers are what is wrong.
fn is_digits_and_commas(text: &str) -> bool {
    let plain = [
        "{own}",
        "{port}",
        "{hi}",
        "{lo}",
        "{n}",
        "{hi+256}",
        "{lo+256}",
        "{hi+2^32}",
        "{lo+2^64}",
        "{first+256}",
        "{0first}",
        "{hi in octal}",
    ];
    let rest = plain.iter().fold(text.to_owned(), |text, name| text.replace(name, ""));
    rest.chars().all(|c| c.is_ascii_digit() || c == ',')
}

fn port(argument: &str, name: &str) -> Case {
    let line = c(format!("PORT {argument}\r\n")).announced();
    honest(&format!("PORT with {name}"), End::Client, logged_in([line, s("200 fine\r\n")]))
}

fn eprt(argument: &str, name: &str) -> Case {
    let line = c(format!("EPRT {argument}\r\n")).announced();
    honest(&format!("EPRT with {name}"), End::Client, logged_in([line, s("200 fine\r\n")]))
}

fn bad_command(line: &str, reason: &'static str) -> Case {
    let steps = [c(format!("{line}\r\n")), s("200 fine\r\n")];
    trick(&line.escape_debug().to_string(), End::Client, logged_in(steps)).says(reason)
}

fn bad_port(argument: &str, reason: &'static str) -> Case {
    bad_command(&format!("PORT {argument}"), reason)
}

fn bad_eprt(argument: &str, reason: &'static str) -> Case {
    bad_command(&format!("EPRT {argument}"), reason)
}

fn bad_227(text: &str, reason: &'static str) -> Case {
    let steps = [c("PASV\r\n"), s(format!("227 Entering Passive Mode {text}\r\n"))];
    trick(&format!("227 {}", text.escape_debug()), End::Server, logged_in(steps)).says(reason)
}

fn bad_229(text: &str, reason: &'static str) -> Case {
    let steps = [c("EPSV\r\n"), s(format!("229 Extended Passive Mode {text}\r\n"))];
    trick(&format!("229 {}", text.escape_debug()), End::Server, logged_in(steps)).says(reason)
}
