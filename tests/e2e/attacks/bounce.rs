//! FTP bounce: an address that is not the listener's own (RFC 2577, sections 2 and 3; CERT CA-1997-27; CVE-1999-0017). To
//! an ALG it means: a port of another host is opened, or DNAT leads to one.

use super::case::{Case, End, Step, c, honest, logged_in, pasv, port, s, trick};

const REASON: &str = "not the sender's own";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        honest("PORT for the client's own address", End::Client, logged_in(port())),
        honest(
            "EPRT for the client's own address",
            End::Client,
            logged_in([c("EPRT |{af}|{own.}|{n}|\r\n").announced(), s("200 fine\r\n")]),
        ),
        honest("227 with the server's own address", End::Server, logged_in(pasv())),
        honest(
            "227 that names a port alone",
            End::Server,
            logged_in([c("PASV\r\n"), s("227 =0,0,0,0,{port}\r\n").promised()]),
        )
        .only_v4(),
        honest("229", End::Server, logged_in([c("EPSV\r\n"), s("229 Extended passive mode (|||{n}|)\r\n")])),
    ];
    let addresses = [
        ("a third party beside the listener", "{third}", "{third.}"),
        ("a third party beside the caller", "{far-third}", "{far-third.}"),
        ("the caller itself", "{far}", "{far.}"),
        ("the router", "{router}", "{router.}"),
        ("loopback", "127,0,0,1", "127.0.0.1"),
        ("this host", "0,0,0,0", "0.0.0.0"),
        ("broadcast", "255,255,255,255", "255.255.255.255"),
        ("multicast", "224,0,0,1", "224.0.0.1"),
    ];
    for (whose, commas, dots) in addresses {
        let port = c(format!("PORT {commas},{{port}}\r\n"));
        cases.push(of(&format!("PORT for {whose}"), End::Client, vec![port, s("200 fine\r\n")]).only_v4());
        let eprt = c(format!("EPRT |{{af}}|{dots}|{{n}}|\r\n"));
        let eprt = of(&format!("EPRT for {whose}"), End::Client, vec![eprt, s("200 fine\r\n")]);
        cases.push(if dots.starts_with('{') { eprt } else { eprt.only_v4() });
        if dots == "0.0.0.0" {
            continue; // in a 227 it names no address
        }
        let reply = s(format!("227 Entering Passive Mode ({commas},{{port}}).\r\n"));
        cases.push(of(&format!("227 for {whose}"), End::Server, vec![c("PASV\r\n"), reply]).only_v4());
    }
    for address in ["::1", "::", "ff02::1", "fe80::1"] {
        let steps = vec![c(format!("EPRT |2|{address}|{{n}}|\r\n")), s("200 fine\r\n")];
        let case = trick(&format!("EPRT for {address}"), End::Client, logged_in(steps));
        cases.push(case.only_v6().says(REASON));
    }
    cases
}

fn of(name: &str, listener: End, steps: Vec<Step>) -> Case {
    trick(name, listener, logged_in(steps)).says(REASON)
}
