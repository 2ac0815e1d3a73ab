//! The load server: a thread for each session that it can serve at a time, each with a port for data of its own.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};

use super::LOAD_PORT;
use super::line::{Control, host_port, six_numbers};

/// What a file that is named by its size consists of.
static ZEROES: [u8; 1 << 18] = [0; 1 << 18];

/// Serves for ever. `RETR NUMBER` sends so many bytes.
pub fn serve(threads: usize) -> Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, LOAD_PORT)).into())?;
    socket.listen(4096)?;
    let listener: Arc<TcpListener> = Arc::new(socket.into());
    let served: Vec<_> = (0..threads)
        .map(|_| {
            let listener = Arc::clone(&listener);
            thread::Builder::new().stack_size(1 << 17).spawn(move || serve_one_by_one(&listener))
        })
        .collect();
    println!("ready");
    for thread in served {
        thread?.join().map_err(|_| anyhow::anyhow!("a thread of the server is gone"))??;
    }
    Ok(())
}

fn serve_one_by_one(listener: &TcpListener) -> Result<()> {
    let data = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    loop {
        let (stream, _) = listener.accept()?;
        // A client that goes away is none of this server's troubles.
        let _ = session(stream, &data);
    }
}

/// Where the next data connection leads.
enum Data {
    Passive,
    /// From this server's own address to the client's.
    Active(SocketAddr, SocketAddr),
}

fn session(stream: TcpStream, listener: &TcpListener) -> Result<()> {
    let SocketAddr::V4(own) = stream.local_addr()? else { bail!("IPv4 alone") };
    let client = stream.peer_addr()?.ip();
    let mut control = Control::new(stream)?;
    let passive = format!("227 ok ({})\r\n", six_numbers(*own.ip(), listener.local_addr()?.port()));
    control.send(b"220 ready\r\n")?;
    let mut data = Data::Passive;
    while let Some(line) = control.line()? {
        let (command, argument) = match line.iter().position(|byte| *byte == b' ') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &b""[..]),
        };
        match command {
            b"USER" => control.send(b"331 word\r\n")?,
            b"PASS" => control.send(b"230 in\r\n")?,
            b"PASV" => {
                data = Data::Passive;
                control.send(passive.as_bytes())?;
            }
            b"PORT" => {
                let port = host_port(argument).context("no port")?;
                data = Data::Active((*own.ip(), 0).into(), (client, port).into());
                control.send(b"200 ok\r\n")?;
            }
            b"RETR" => {
                let length = std::str::from_utf8(argument)?.parse()?;
                control.send(b"150 here\r\n")?;
                send_file(&data, listener, length)?;
                control.send(b"226 done\r\n")?;
            }
            b"QUIT" => return control.send(b"221 bye\r\n"),
            _ => control.send(b"200 ok\r\n")?,
        }
    }
    Ok(())
}

fn send_file(data: &Data, listener: &TcpListener, mut length: usize) -> Result<()> {
    let mut stream = match data {
        Data::Passive => listener.accept()?.0,
        Data::Active(own, client) => call(*own, *client)?,
    };
    while length > 0 {
        let piece = &ZEROES[..length.min(ZEROES.len())];
        stream.write_all(piece)?;
        length -= piece.len();
    }
    Ok(stream.shutdown(Shutdown::Write)?)
}

/// Calls from the address that the client knows.
fn call(own: SocketAddr, client: SocketAddr) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&own.into())?;
    socket.connect(&client.into())?;
    Ok(socket.into())
}
