//! One FTP session among many: an anonymous user who puts files, gets them again and compares.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::harness::Mode;

/// A control connection.
pub struct Client {
    control: BufReader<TcpStream>,
    own: Ipv4Addr,
}

/// Where a data connection will come from: the server calls, or is called.
enum Data {
    Awaited(TcpListener),
    Made(TcpStream),
}

impl Client {
    /// Connects from an address of the client's host and logs in.
    pub async fn log_in(own: Ipv4Addr, server: SocketAddr) -> Result<Client> {
        let control = connect(own, server).await.context("the control connection")?;
        let mut client = Client { control: BufReader::new(control), own };
        client.expect("220").await?;
        client.say("USER anonymous", "331").await?;
        client.say("PASS nobody", "230").await?;
        client.say("TYPE I", "200").await?;
        Ok(client)
    }

    /// STOR.
    pub async fn put(&mut self, mode: Mode, name: &str, content: &[u8]) -> Result<()> {
        let data = self.negotiate(mode).await?;
        let mut stream = self.transfer(&format!("STOR {name}"), data).await?;
        stream.write_all(content).await.context("sending the file")?;
        stream.shutdown().await?;
        drop(stream);
        self.expect("226").await.map(drop)
    }

    /// RETR.
    pub async fn get(&mut self, mode: Mode, name: &str) -> Result<Vec<u8>> {
        let data = self.negotiate(mode).await?;
        let mut stream = self.transfer(&format!("RETR {name}"), data).await?;
        let mut content = Vec::new();
        stream.read_to_end(&mut content).await.context("receiving the file")?;
        drop(stream);
        self.expect("226").await?;
        Ok(content)
    }

    /// QUIT.
    pub async fn quit(mut self) -> Result<()> {
        self.say("QUIT", "221").await?;
        let mut rest = Vec::new();
        self.control.read_to_end(&mut rest).await?;
        Ok(())
    }

    async fn negotiate(&mut self, mode: Mode) -> Result<Data> {
        let server = self.control.get_ref().peer_addr()?;
        if mode.is_active() {
            let listener = TcpListener::bind(SocketAddrV4::new(self.own, 0)).await?;
            let port = listener.local_addr()?.port();
            let command = match mode {
                Mode::Eprt => format!("EPRT |1|{}|{port}|", self.own),
                _ => format!("PORT {},{},{}", self.own.to_string().replace('.', ","), port >> 8, port & 0xff),
            };
            self.say(&command, "200").await?;
            return Ok(Data::Awaited(listener));
        }
        let address = match mode {
            Mode::Epsv => {
                let reply = self.say("EPSV", "229").await?;
                let port = reply.split('|').nth(3).context("229 without a port")?;
                SocketAddr::new(server.ip(), port.parse()?)
            }
            _ => {
                let reply = self.say("PASV", "227").await?;
                passive(&reply).with_context(|| format!("not an address: {reply}"))?
            }
        };
        ensure!(address.ip() == server.ip(), "told to call {address}");
        Ok(Data::Made(connect(self.own, address).await.context("the data connection")?))
    }

    async fn transfer(&mut self, command: &str, data: Data) -> Result<TcpStream> {
        self.say(command, "1").await?;
        match data {
            Data::Made(stream) => Ok(stream),
            Data::Awaited(listener) => {
                Ok(listener.accept().await.context("waiting for the data connection")?.0)
            }
        }
    }

    async fn say(&mut self, command: &str, code: &str) -> Result<String> {
        self.control.get_mut().write_all(format!("{command}\r\n").as_bytes()).await?;
        self.expect(code).await.with_context(|| format!("after {command}"))
    }

    /// A reply with a code that begins so; of one of several lines (RFC 959, section 4.2) the last.
    async fn expect(&mut self, code: &str) -> Result<String> {
        loop {
            let mut line = String::new();
            let length = self.control.read_line(&mut line).await.context("waiting for a reply")?;
            ensure!(length > 0, "the server has gone away instead of {code}");
            match line.as_bytes() {
                [a, b, c, b' ', ..] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => {
                    if !line.starts_with(code) {
                        bail!("{} instead of {code}", line.trim_end());
                    }
                    return Ok(line);
                }
                _ => {}
            }
        }
    }
}

async fn connect(own: Ipv4Addr, server: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddrV4::new(own, 0).into())?;
    Ok(socket.connect(server).await?)
}

/// The address in a 227.
fn passive(reply: &str) -> Option<SocketAddr> {
    let numbers = reply.split_once('(')?.1.split_once(')')?.0;
    let numbers = numbers.split(',').map(|number| number.parse().ok()).collect::<Option<Vec<u8>>>()?;
    let [a, b, c, d, high, low] = *numbers.as_slice() else { return None };
    Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}
