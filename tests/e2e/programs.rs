//! Programs that no other test uses: each fetches a large file and stores a small one, if it can, by NAT of both kinds, over
//! IPv4 and IPv6, in active and passive mode as it comes. And what one real program says that others don't.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::session::{discard, steps, verify};
use crate::harness::{Alg, Client, Mode, Net, STANDARD, Server, ServerKind, Setup, Topology, Transfer};
use crate::life::Session;

/// How long a session of two files may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A program, and the shell commands that have it move the files, by mode; none if it does not have that mode. They find
/// the server in `HOST` and `PORT` and, as in a URL, in `AT`; they fetch `REMOTE` to `LOCAL` and store `UPLOAD` as `NAME`.
struct Program {
    name: &'static str,
    /// It can only fetch.
    fetches_only: bool,
    knows_ipv6: bool,
    active: Option<&'static str>,
    passive: Option<&'static str>,
}

const PROGRAMS: [Program; 7] = [
    Program {
        name: "wget",
        fetches_only: true,
        knows_ipv6: true,
        active: Some(r#"wget -nv --tries=1 --no-passive-ftp -O "$LOCAL" "ftp://$AT/$REMOTE""#),
        passive: Some(r#"wget -nv --tries=1 -O "$LOCAL" "ftp://$AT/$REMOTE""#),
    },
    Program {
        name: "aria2",
        fetches_only: true,
        knows_ipv6: true,
        active: Some(r#"aria2c --no-conf --ftp-pasv=false -d / -o "$LOCAL" "ftp://$AT/$REMOTE""#),
        passive: Some(r#"aria2c --no-conf --ftp-pasv=true -d / -o "$LOCAL" "ftp://$AT/$REMOTE""#),
    },
    Program {
        name: "ncftp",
        fetches_only: false,
        knows_ipv6: false,
        active: Some(
            r#"ncftpget -V -E -t 20 -r 0 -P "$PORT" -C "$HOST" "/$REMOTE" "$LOCAL" &&
               ncftpput -V -E -t 20 -r 0 -P "$PORT" -C "$HOST" "$UPLOAD" "/$NAME""#,
        ),
        passive: Some(
            r#"ncftpget -V -F -t 20 -r 0 -P "$PORT" -C "$HOST" "/$REMOTE" "$LOCAL" &&
               ncftpput -V -F -t 20 -r 0 -P "$PORT" -C "$HOST" "$UPLOAD" "/$NAME""#,
        ),
    },
    Program {
        name: "inetutils' ftp",
        fetches_only: false,
        knows_ipv6: true,
        active: Some(
            r#"printf '%s\n' 'user anonymous nobody' binary "get $REMOTE $LOCAL" "put $UPLOAD $NAME" bye |
               inetutils-ftp --active -n -v "$HOST" "$PORT""#,
        ),
        passive: Some(
            r#"printf '%s\n' 'user anonymous nobody' binary "get $REMOTE $LOCAL" "put $UPLOAD $NAME" bye |
               inetutils-ftp --passive -n -v "$HOST" "$PORT""#,
        ),
    },
    Program {
        name: "busybox",
        fetches_only: false,
        knows_ipv6: true,
        active: None,
        passive: Some(
            r#"busybox ftpget -P "$PORT" "$HOST" "$LOCAL" "$REMOTE" &&
               busybox ftpput -P "$PORT" "$HOST" "$NAME" "$UPLOAD""#,
        ),
    },
    Program {
        name: "Net::FTP",
        fetches_only: false,
        knows_ipv6: true,
        active: Some(r#"perl "$PEERS/net_ftp.pl" "$HOST" "$PORT" 0 "$REMOTE" "$LOCAL" "$UPLOAD" "$NAME""#),
        passive: Some(r#"perl "$PEERS/net_ftp.pl" "$HOST" "$PORT" 1 "$REMOTE" "$LOCAL" "$UPLOAD" "$NAME""#),
    },
    Program {
        name: "tcllib",
        fetches_only: false,
        knows_ipv6: false,
        active: Some(
            r#"tclsh "$PEERS/tcllib.tcl" "$HOST" "$PORT" active "$REMOTE" "$LOCAL" "$UPLOAD" "$NAME""#,
        ),
        passive: Some(
            r#"tclsh "$PEERS/tcllib.tcl" "$HOST" "$PORT" passive "$REMOTE" "$LOCAL" "$UPLOAD" "$NAME""#,
        ),
    },
];

impl Program {
    /// Moves the files, and checks that they arrive and that their data connections are of this kind: as many have been
    /// opened, and none of the other.
    fn moves_files(&self, net: &Net, server: &Server, kind: usize, commands: &str) -> Result<()> {
        let transfers: &[_] = match self.fetches_only {
            true => &[Transfer::Get("large")],
            false => &[Transfer::Get("large"), Transfer::Put("small")],
        };
        let dir = net.dir("session")?;
        let steps = steps(transfers, &net.files, &dir);
        let dialled = net.dialled(server);
        let (fetched, stored) = (&steps[0], steps.get(1).unwrap_or(&steps[0]));
        let variables = [
            ("HOME", dir.display().to_string()),
            ("PEERS", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers").to_owned()),
            ("HOST", dialled.ip().to_string()),
            ("PORT", dialled.port().to_string()),
            ("AT", dialled.to_string()),
            ("REMOTE", fetched.remote.clone()),
            ("LOCAL", fetched.local.display().to_string()),
            ("UPLOAD", stored.local.display().to_string()),
            ("NAME", stored.remote.clone()),
        ];
        // Some ask for names: here nobody answers, and they would wait for seconds.
        let commands = format!("set -e; mount --bind /dev/null /etc/resolv.conf\n{commands}");
        let variables = variables.map(|(name, value)| format!("{name}={value}"));
        let before = opened(net);
        let arguments = variables.iter().map(String::as_str).chain(["sh", "-c", &commands]);
        let output = net.client().run_within(LIMIT, "env", arguments)?;
        let dialogue = format!("{}\n{}", output.stdout, output.stderr);
        output
            .success()
            .and_then(|_| verify(&steps, &net.files, &server.root))
            .with_context(|| format!("{} said:\n{dialogue}", self.name))?;
        opens_only(net, before, kind, transfers.len())?;
        discard(&steps, &server.root, &dir)
    }
}

/// The kinds of data ports, as the daemon's log names them.
const KINDS: [&str; 2] = ["active", "passive"];

/// How many of each kind the daemon says that it has opened.
fn opened(net: &Net) -> [usize; 2] {
    let log = net.daemons[0].log();
    KINDS.map(|kind| log.matches(&format!("{kind} data port open: ")).count())
}

/// Since `before`, so many of this kind have been opened, and none of the other.
fn opens_only(net: &Net, before: [usize; 2], kind: usize, count: usize) -> Result<()> {
    let (mut expected, opened) = (before, opened(net));
    expected[kind] += count;
    ensure!(opened == expected, "{KINDS:?} opened: {opened:?} instead of {expected:?}");
    Ok(())
}

fn every_program_works(topology: Topology) -> Result<()> {
    if Alg::under_test() != Alg::Ftpalg {
        return Ok(()); // its log tells what it opens
    }
    let net = Setup::new(topology).build()?;
    let over_ipv6 = topology.is_over_ipv6();
    for kind in [ServerKind::Vsftpd, ServerKind::PureFtpd] {
        let server = net.serve(kind)?;
        for program in PROGRAMS.iter().filter(|program| program.knows_ipv6 || !over_ipv6) {
            for (mode, commands) in [program.active, program.passive].into_iter().enumerate() {
                let Some(commands) = commands else { continue };
                program
                    .moves_files(&net, &server, mode, commands)
                    .with_context(|| format!("{topology}: {}, {}, {kind}", program.name, KINDS[mode]))?;
            }
        }
    }
    net.finish()
}

#[test]
fn further_programs_behind_masquerade() -> Result<()> {
    every_program_works(Topology::Masquerade)
}

#[test]
fn further_programs_and_a_server_behind_dnat() -> Result<()> {
    every_program_works(Topology::Dnat)
}

#[test]
fn further_programs_over_ipv6() -> Result<()> {
    every_program_works(Topology::Firewall6)
}

#[test]
fn further_programs_by_nat_of_ipv6() -> Result<()> {
    every_program_works(Topology::Masquerade6)?;
    every_program_works(Topology::Dnat6)
}

/// Pure-FTPd with the clients of all other tests.
#[test]
fn pure_ftpd_works_with_all_clients() -> Result<()> {
    if Alg::under_test() != Alg::Ftpalg {
        return Ok(()); // as above
    }
    for topology in [Topology::Masquerade, Topology::Dnat, Topology::Firewall6] {
        let net = Setup::new(topology).build()?;
        let over_ipv6 = topology.is_over_ipv6();
        let server = net.serve(ServerKind::PureFtpd)?;
        let modes: &[_] = if over_ipv6 { &Mode::EXTENDED } else { &Mode::ALL };
        for &mode in modes {
            for client in Client::ALL.into_iter().filter(|client| client.supports(mode, over_ipv6)) {
                let before = opened(&net);
                net.unwatched_session(client, mode, &server, &STANDARD)
                    .and_then(|()| opens_only(&net, before, usize::from(!mode.is_active()), STANDARD.len()))
                    .with_context(|| format!("{topology}: {client}, {mode}"))?;
            }
        }
        net.finish()?;
    }
    Ok(())
}

/// vsftpd answers PASV over IPv6 with `227 (0,0,0,0,…)`; clients that send it connect to where the control connection leads.
#[test]
fn pasv_over_ipv6_works_with_vsftpd() -> Result<()> {
    for topology in [Topology::Firewall6, Topology::Masquerade6, Topology::Dnat6] {
        let net = Setup::new(topology).build()?;
        let server = net.serve(ServerKind::Vsftpd)?;
        let mut session = Session::open(&net, &server)?;
        let reply = session.step("say PASV")?;
        ensure!(reply.contains("227 ") && reply.contains("(0,0,0,0,"), "{topology}: {reply}");
        session.step("fetch pasv,EPSV 4")?;
        session.step("store pasv up")?;
        session.quit()?;
        net.finish()?;
    }
    Ok(())
}
