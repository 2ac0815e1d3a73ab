//! Many sessions that are logged in and silent, with a pinhole or without: what a router holds while few are busy.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::CROWD_PORT;
use super::line::six_numbers;

/// How many log in at the same moment.
const AT_ONCE: usize = 64;

/// Where the server says that it listens: at one port after the other, so that each is another pinhole. Nobody dials them.
const DATA_PORTS: RangeInclusive<u16> = 1024..=65_535;

/// Serves sessions that transfer nothing, for ever, at one of the server's addresses: a process may not have enough files
/// open for all of them.
pub fn serve(address: Ipv4Addr) -> Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((address, CROWD_PORT)).await?;
        println!("ready");
        for data_port in DATA_PORTS.cycle() {
            let (stream, _) = listener.accept().await?;
            // A client that goes away is none of this server's troubles.
            tokio::spawn(async move { session(stream, address, data_port).await.ok() });
        }
        Ok(())
    })
}

async fn session(mut stream: TcpStream, address: Ipv4Addr, data_port: u16) -> Result<()> {
    let (reader, mut writer) = stream.split();
    // Small: there are a hundred thousand.
    let mut lines = BufReader::with_capacity(64, reader).lines();
    writer.write_all(b"220 ready\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let reply = match line.get(..4) {
            Some("USER") => "331 word\r\n",
            Some("PASS") => "230 in\r\n",
            Some("PASV") => &format!("227 there ({})\r\n", six_numbers(address, data_port)),
            _ => "200 ok\r\n",
        };
        writer.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

/// Logs in so many times, in each session asks for a data connection if so wanted, says "ready", and keeps the sessions until
/// SIGTERM.
pub fn hold(sessions: usize, clients: &[Ipv4Addr], server: Ipv4Addr, pasv: bool) -> Result<()> {
    ensure!(!clients.is_empty(), "nobody there");
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for first in 0..AT_ONCE {
            let (clients, sender) = (clients.to_vec(), sender.clone());
            tokio::spawn(async move {
                for number in (first..sessions).step_by(AT_ONCE) {
                    let client = clients[number % clients.len()];
                    let session = log_in(client, server, pasv).await;
                    if sender.send(session).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut held = Vec::with_capacity(sessions);
        while let Some(session) = receiver.recv().await {
            held.push(session.with_context(|| format!("session {} of {sessions}", held.len() + 1))?);
        }
        println!("ready");
        end.recv().await;
        Ok(())
    })
}

async fn log_in(client: Ipv4Addr, server: Ipv4Addr, pasv: bool) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // The port is chosen when the other end is known: one port serves towards several servers.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(SocketAddr::from((client, 0)))?;
    let stream = socket.connect(SocketAddrV4::new(server, CROWD_PORT).into()).await.context("connecting")?;
    let mut stream = BufReader::with_capacity(64, stream);
    expect(&mut stream, "220").await?;
    stream.write_all(b"USER bench\r\n").await?;
    expect(&mut stream, "331").await?;
    stream.write_all(b"PASS bench\r\n").await?;
    expect(&mut stream, "230").await?;
    if pasv {
        stream.write_all(b"PASV\r\n").await?;
        expect(&mut stream, "227").await?;
    }
    Ok(stream.into_inner())
}

async fn expect(stream: &mut BufReader<TcpStream>, code: &str) -> Result<()> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    ensure!(line.starts_with(code), "{line:?} in place of {code}");
    Ok(())
}
