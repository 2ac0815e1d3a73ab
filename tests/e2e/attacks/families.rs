//! Address families that do not fit (RFC 2428), and commands whose addresses nobody reads any more.

use super::case::{Case, End, c, honest, logged_in, pasv, s, trick};

const INVALID: &str = "not valid";
const OTHER: &str = "of another family";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        honest("EPRT", End::Client, eprt("|{af}|{own.}|{n}|", true)),
        honest("EPRT with another delimiter", End::Client, eprt("!{af}!{own.}!{n}!", true)),
        honest("EPSV that names its family", End::Server, epsv("EPSV {af}", "229 ok (|||{n}|)")),
        honest("229 with another delimiter", End::Server, epsv("EPSV", "229 ok (!!!{n}!)")),
        honest(
            "EPSV ALL, then EPSV",
            End::Server,
            logged_in([c("EPSV ALL\r\n"), s("200 fine\r\n"), c("EPSV\r\n"), s("229 ok (|||{n}|)\r\n")]),
        ),
        honest("PASV", End::Server, logged_in(pasv())),
        honest("PASV and a 229", End::Server, epsv("PASV", "229 ok (|||{n}|)")),
        honest(
            "EPSV and a 227",
            End::Server,
            logged_in([c("EPSV\r\n"), s("227 ok ({own},{port})\r\n").announced()]),
        )
        .only_v4(),
        trick("an IPv4 address in IPv6", End::Client, eprt("|2|::ffff:{own.}|{n}|", false))
            .only_v4()
            .says(OTHER),
        trick("an IPv4 address over IPv6", End::Client, eprt("|1|10.0.0.2|{n}|", false))
            .only_v6()
            .says(OTHER),
        trick("IPv4 in IPv6 over IPv6", End::Client, eprt("|2|::ffff:10.0.0.2|{n}|", false))
            .only_v6()
            .says("not the sender's own"),
        trick("an address with a zone", End::Client, eprt("|2|{own.}%eth0|{n}|", false))
            .only_v6()
            .says(INVALID),
        trick("an address in brackets", End::Client, eprt("|2|[{own.}]|{n}|", false)).only_v6().says(INVALID),
        trick("PORT over IPv6", End::Client, logged_in([c("PORT 10,0,0,2,{port}\r\n"), s("200 fine\r\n")]))
            .only_v6()
            .says(OTHER),
        honest("227 over IPv6 that names a port alone", End::Server, epsv("PASV", "227 ok (0,0,0,0,{port})"))
            .only_v6(),
        trick("227 over IPv6", End::Server, epsv("PASV", "227 ok (10,0,0,2,{port})")).only_v6().says(OTHER),
        trick("EPSV for the other family", End::Server, epsv("EPSV {other af}", "229 ok (|||{n}|)"))
            .says(OTHER),
        trick("EPSV for no family", End::Server, epsv("EPSV 3", "229 ok (|||{n}|)")).says(OTHER),
        trick("EPSV for a word", End::Server, epsv("EPSV x", "229 ok (|||{n}|)")).says(OTHER),
        trick("EPSV ALL and a 229", End::Server, epsv("EPSV ALL", "229 ok (|||{n}|)")),
        trick("LPRT", End::Client, logged_in([c("LPRT 4,4,{own},2,{port}\r\n"), s("200 fine\r\n")])),
        trick("LPSV and a 228", End::Server, epsv("LPSV", "228 ok (4,4,{own},2,{port})")),
        trick("LPSV and a 227", End::Server, epsv("LPSV", "227 ok ({own},{port})")),
    ];
    for argument in [
        "|{other af}|{own.}|{n}|",
        "|3|{own.}|{n}|",
        "|0|{own.}|{n}|",
        "|11|{own.}|{n}|",
        "| {af}|{own.}|{n}|",
        "|{af} |{own.}|{n}|",
        "|+{af}|{own.}|{n}|",
        "A{af}A{own.}A{n}A",
        "1{af}1{own.}1{n}1",
        " |{af}| {own.}|{n}|",
    ] {
        cases.push(trick(&format!("EPRT {argument}"), End::Client, eprt(argument, false)).says(INVALID));
    }
    for text in [
        "(|{af}|{own.}|{n}|)",
        "(|{af}||{n}|)",
        "(||{own.}|{n}|)",
        "[|||{n}|]",
        "(||!{n}|)",
        "(1112{n}1)",
        "(   {n} )",
        "{n}",
    ] {
        let steps = epsv("EPSV", &format!("229 Extended Passive Mode {text}"));
        cases.push(trick(&format!("229 {text}"), End::Server, steps).says(INVALID));
    }
    cases
}

fn eprt(argument: &str, is_fine: bool) -> Vec<super::case::Step> {
    let line = c(format!("EPRT {argument}\r\n"));
    logged_in([if is_fine { line.announced() } else { line }, s("200 fine\r\n")])
}

fn epsv(command: &str, reply: &str) -> Vec<super::case::Step> {
    logged_in([c(format!("{command}\r\n")), s(format!("{reply}\r\n"))])
}
