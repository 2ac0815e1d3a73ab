//! A control connection's lines.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

/// A control connection, read line by line.
pub struct Control {
    stream: TcpStream,
    buffer: [u8; 512],
    filled: usize,
    used: usize,
}

impl Control {
    /// Takes a connection over. What is written goes out at once.
    pub fn new(stream: TcpStream) -> Result<Control> {
        stream.set_nodelay(true)?;
        Ok(Control { stream, buffer: [0; 512], filled: 0, used: 0 })
    }

    /// Sends a line; it brings its own CR LF.
    pub fn send(&mut self, line: &[u8]) -> Result<()> {
        self.stream.write_all(line).context("sending a line")
    }

    /// The next line without its end; `None` where the other end has closed.
    pub fn line(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let unread = self.buffer.get(self.used..self.filled).unwrap_or_default();
            if let Some(length) = unread.iter().position(|byte| *byte == b'\n') {
                let begin = self.used;
                self.used += length + 1;
                return Ok(self.buffer.get(begin..begin + length).map(<[u8]>::trim_ascii_end));
            }
            self.buffer.copy_within(self.used..self.filled, 0);
            self.filled -= self.used;
            self.used = 0;
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            ensure!(!room.is_empty(), "a line of more than 512 bytes");
            match self.stream.read(room).context("waiting for a line")? {
                0 => return Ok(None),
                length => self.filled += length,
            }
        }
    }

    /// The next line, which begins with this reply code.
    pub fn expect(&mut self, code: &[u8]) -> Result<&[u8]> {
        let line = self.line()?.context("the server has gone away")?;
        ensure!(line.starts_with(code), "{} in place of {}", line.escape_ascii(), code.escape_ascii());
        Ok(line)
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// Six numbers (RFC 959, section 4.1.2, HOST-PORT) as a port, wherever they begin.
pub fn host_port(text: &[u8]) -> Option<u16> {
    let begin = text.iter().position(|byte| byte.is_ascii_digit() && text.contains(&b','))?;
    let text = std::str::from_utf8(text.get(begin..)?).ok()?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty()).skip(4);
    let high: u16 = numbers.next()?.parse().ok()?;
    let low: u16 = numbers.next()?.parse().ok()?;
    (high < 256 && low < 256).then_some((high << 8) | low)
}

/// An address and port as six numbers.
pub fn six_numbers(address: std::net::Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_numbers_read_back() {
        let text = format!("Entering Passive Mode ({}).", six_numbers([192, 0, 2, 9].into(), 40_021));
        assert_eq!(host_port(text.as_bytes()), Some(40_021));
        assert_eq!(host_port(b"no numbers here"), None);
        assert_eq!(host_port(b"1,2,3,4,256,1"), None);
    }
}
