//! One netlink socket on which requests are answered and batches acknowledged.

use std::io;

use super::netlink::{Message, Request};
use super::sys::{Buffer, Socket};

/// A socket for requests and transactions. The kernel works on them while they are being sent, so every answer is
/// there afterwards and nothing here waits.
pub struct Connection {
    socket: Socket,
    buffer: Buffer,
    sequence: u32,
}

impl Connection {
    /// Opens the socket.
    pub fn open() -> io::Result<Self> {
        Ok(Connection { socket: Socket::open()?, buffer: Buffer::new(), sequence: 0 })
    }

    /// Opens one to the kernel's routing.
    pub fn open_to_routing() -> io::Result<Self> {
        Ok(Connection { socket: Socket::open_to_routing()?, buffer: Buffer::new(), sequence: 0 })
    }

    /// The socket's port id.
    pub fn port_id(&self) -> u32 {
        self.socket.port_id()
    }

    /// Sends a request and gives each message of the answer to `each`. An error in the answer is the result; so is
    /// a dump that a change cut short (`NLM_F_DUMP_INTR`): EINTR, ask again.
    pub fn request(&mut self, request: Request, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.socket.send(&request.finish(sequence))?;
        let interrupted = u16::try_from(libc::NLM_F_DUMP_INTR).unwrap_or(0);
        let mut result = Ok(());
        self.receive(|message| {
            if message.sequence != sequence {
                return;
            }
            if message.flags & interrupted != 0 {
                result = Err(io::Error::from_raw_os_error(libc::EINTR));
            }
            match message.error() {
                Some(Ok(())) => {}
                Some(Err(error)) => result = Err(error),
                None => each(message),
            }
        })?;
        result
    }

    /// [`Connection::request`] for a dump, asked again as long as changes cut it short.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        /// Nobody changes a ruleset so often that a dump fails this many times.
        const TRIES: usize = 100;
        for _ in 0..TRIES {
            let mut found = Vec::new();
            match self.request(request.clone(), |message| found.extend(read(message))) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                other => return other.map(|()| found),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINTR))
    }

    /// Sends a batch and reads everything that the kernel has to say about it. The first error is the result; so is
    /// silence, because one message of each batch asks for an acknowledgement.
    pub fn transact(&mut self, batch: &[u8]) -> io::Result<()> {
        self.socket.send(batch)?;
        let mut acknowledged = false;
        let mut failure = None;
        self.receive(|message| match message.error() {
            Some(Ok(())) => acknowledged = true,
            Some(Err(error)) => failure = failure.take().or(Some(error)),
            None => {}
        })?;
        match failure {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(no_answer()),
        }
    }

    /// The same for a batch of which the last message but one, which has this sequence number, asks for the only
    /// acknowledgement. The kernel answers messages in their order, so that nothing comes behind that, and a batch
    /// that succeeds costs two system calls.
    pub fn transact_briefly(&mut self, batch: &[u8], last: u32) -> io::Result<()> {
        self.socket.send(batch)?;
        let mut failure = None;
        loop {
            let mut is_over = false;
            let received = self.receive_once(|message| match message.error() {
                Some(Ok(())) => is_over |= message.sequence == last,
                Some(Err(error)) => {
                    failure = failure.take().or(Some(error));
                    is_over |= message.sequence == last;
                }
                None => {}
            });
            match received {
                Ok(()) if is_over => return failure.map_or(Ok(()), Err),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(failure.unwrap_or_else(no_answer));
                }
                Err(error) => {
                    self.receive(|_| {})?;
                    return Err(error);
                }
            }
        }
    }

    /// Receives one datagram.
    fn receive_once(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        loop {
            match self.socket.receive(&mut self.buffer) {
                Ok(messages) => {
                    for message in messages {
                        if let Some(message) = Message::parse(message?) {
                            each(message);
                        }
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives until nothing is left, also behind an error, lest it be taken for the answer to something later.
    fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        let mut result = Ok(());
        loop {
            match self.receive_once(&mut each) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return result,
                // Answers were lost for want of room.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => result = Err(error),
                Err(error) => return Err(error),
            }
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "no answer from the kernel")
}
