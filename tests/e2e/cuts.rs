//! Commands and replies cut and packed in ways that no real program does, but the network may: the ends are
//! scripts (peers/), with a real program at the other end wherever there is one.

use anyhow::Result;

use crate::harness::{Alg, Client, Mode, Net, Plan, STANDARD, ServerKind, Setup, Topology, Transfer};

/// What the client's script does to commands, with a server that copes by itself (ProFTPD forgets a CR that comes
/// without its LF, and waits).
fn odd_commands(net: &Net, kind: ServerKind) -> Result<()> {
    let server = net.serve(kind)?;
    for mode in ["PORT", "EPRT", "PASV", "EPSV"] {
        for delay in ["nodelay", "nagle"] {
            net.scenario("in_two", mode, &server, delay)?;
            net.scenario("bytewise", mode, &server, delay)?;
        }
    }
    for mode in ["PORT", "EPRT"] {
        net.scenario("in_one_segment", mode, &server, "nodelay")?;
        // pyftpdlib connects to the first as soon as it reads it.
        if kind != ServerKind::Pyftpdlib {
            net.scenario("two_at_once", mode, &server, "nodelay")?;
        }
    }
    for mode in ["port", "eprt", "pasv", "epsv", "Port", "pAsV"] {
        net.scenario("whole", mode, &server, "nodelay")?;
    }
    Ok(())
}

/// ABOR with Telnet's urgent data.
fn aborts(net: &Net, kind: ServerKind) -> Result<()> {
    let server = net.serve(kind)?;
    for mode in ["PORT", "PASV"] {
        net.scenario("abort", mode, &server, "nodelay")?;
        if kind == ServerKind::Pyftpdlib {
            net.scenario("take_back", mode, &server, "nodelay")?;
        }
    }
    Ok(())
}

/// Replies that the server's script cuts, to real clients: with sixty of each, 227 and 229 are cut at every byte.
fn cut_replies(net: &Net) -> Result<()> {
    for style in ["cut-nodelay", "cut", "bytes-nodelay", "bytes"] {
        let server = net.serve(ServerKind::HandMade(style))?;
        let transfers = [Transfer::Get("small")].repeat(if style.starts_with("cut") { 30 } else { 5 });
        net.session(Client::Curl, Mode::Pasv, &server, &transfers)?;
        net.session(Client::Ftplib, Mode::Pasv, &server, &transfers)?;
        net.session(Client::Curl, Mode::Epsv, &server, &transfers)?;
        net.session(Client::Lftp, Mode::Epsv, &server, &transfers)?;
        net.session(Client::Tnftp, Mode::Port, &server, &transfers)?;
    }
    Ok(())
}

/// The ways in which servers write a 227, and one that offers nothing.
fn odd_replies(net: &Net) -> Result<()> {
    for style in ["bare", "equals", "lines"] {
        let server = net.serve(ServerKind::HandMade(style))?;
        net.session(Client::Ftplib, Mode::Pasv, &server, &STANDARD)?;
        net.session(Client::Curl, Mode::Pasv, &server, &STANDARD)?;
    }
    let server = net.serve(ServerKind::HandMade("logout"))?;
    net.scenario("logout", "PASV", &server, "nodelay")
}

fn on_ftpalg(topology: Topology, plan: Plan, case: impl Fn(&Net) -> Result<()>) -> Result<()> {
    if Alg::under_test() == Alg::Kernel {
        return Ok(()); // it hangs on these, one by one
    }
    let net = Setup::new(topology).plan(plan).build()?;
    case(&net)?;
    net.finish()
}

/// Without anything in between, so that a failure elsewhere is the ALG's.
fn by_themselves(case: impl Fn(&Net) -> Result<()>) -> Result<()> {
    let net = Setup::new(Topology::Firewall).alg(Alg::Open).build()?;
    case(&net)?;
    net.finish()
}

#[test]
fn the_clients_script_is_right_by_itself() -> Result<()> {
    by_themselves(|net| {
        odd_commands(net, ServerKind::Vsftpd)?;
        odd_commands(net, ServerKind::Pyftpdlib)?;
        aborts(net, ServerKind::Pyftpdlib)?;
        aborts(net, ServerKind::Proftpd)?;
        net.scenario("full_segments", "PORT", &net.serve(ServerKind::Vsftpd)?, "nodelay")
    })
}

#[test]
fn the_servers_script_is_right_by_itself() -> Result<()> {
    by_themselves(|net| {
        cut_replies(net)?;
        odd_replies(net)
    })
}

#[test]
fn commands_cut_and_packed_that_grow() -> Result<()> {
    on_ftpalg(Topology::Masquerade, Plan::ShortInside, |net| odd_commands(net, ServerKind::Vsftpd))
}

#[test]
fn commands_cut_and_packed_that_shrink() -> Result<()> {
    on_ftpalg(Topology::Masquerade, Plan::LongInside, |net| odd_commands(net, ServerKind::Pyftpdlib))
}

#[test]
fn commands_cut_and_packed_on_both_sides_of_two_routers() -> Result<()> {
    on_ftpalg(Topology::BothNat, Plan::LongInside, |net| odd_commands(net, ServerKind::Vsftpd))
}

#[test]
fn a_transfer_aborted_with_urgent_data() -> Result<()> {
    for topology in [Topology::Masquerade, Topology::Dnat] {
        on_ftpalg(topology, Plan::ShortInside, |net| aborts(net, ServerKind::Pyftpdlib))?;
    }
    on_ftpalg(Topology::Hairpin, Plan::LongInside, |net| aborts(net, ServerKind::Proftpd))
}

#[test]
fn replies_cut_at_every_byte_that_grow() -> Result<()> {
    on_ftpalg(Topology::Dnat, Plan::ShortInside, cut_replies)
}

#[test]
fn replies_cut_at_every_byte_that_shrink() -> Result<()> {
    on_ftpalg(Topology::Dnat, Plan::LongInside, cut_replies)
}

#[test]
fn replies_as_servers_write_them() -> Result<()> {
    on_ftpalg(Topology::Dnat, Plan::ShortInside, odd_replies)
}

/// lftp with `ftp:sync-mode no` sends PORT and RETR before the replies to what came earlier are there.
#[test]
fn a_client_that_does_not_wait_for_replies() -> Result<()> {
    for (topology, plan) in [
        (Topology::Masquerade, Plan::ShortInside),
        (Topology::Masquerade, Plan::LongInside),
        (Topology::Dnat, Plan::ShortInside),
        (Topology::Hairpin, Plan::LongInside),
    ] {
        on_ftpalg(topology, plan, |net| {
            for kind in ServerKind::ALL {
                let server = net.serve(kind)?;
                let modes = [Mode::Port, Mode::Pasv, Mode::Epsv];
                for mode in modes.into_iter().filter(|&mode| Client::LftpPipelined.gets_along(kind, mode)) {
                    net.session(Client::LftpPipelined, mode, &server, &STANDARD)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
