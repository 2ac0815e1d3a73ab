//! As much of an HTTP server as a scrape needs (RFC 9112), and as little as can't be made to do anybody harm: a fixed
//! number of threads, each with one connection at a time, one request a connection, a bound for what is read and for
//! how long all of it takes. Whoever comes on top waits in the kernel's queue, which is bounded as well.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::debug;

/// So many are answered at the same time: a scrape takes milliseconds, and one that dawdles holds up no other.
const THREADS: usize = 4;

/// How long one exchange may take, from its connection to the last byte of the answer. Prometheus gives up after ten
/// seconds, if it is left as it comes.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a request may be. Prometheus sends some 250 bytes.
const LONGEST_REQUEST: usize = 4096;

/// How many fields it may have.
const MOST_FIELDS: usize = 32;

/// How long to wait where the kernel has no connection to give, such as for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Prometheus' text format, version 0.0.4.
const CONTENT_TYPE: &str = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: Arc<str>,
}

/// Starts the threads, which run for as long as the daemon.
pub fn serve(listener: TcpListener, page: impl Fn() -> Arc<str> + Send + Sync + 'static) -> io::Result<()> {
    listener.set_nonblocking(false)?;
    let common = Arc::new((listener, page));
    for number in 0..THREADS {
        let common = Arc::clone(&common);
        thread::Builder::new().name(format!("metrics-{number}")).spawn(move || {
            let (listener, page) = &*common;
            loop {
                match listener.accept() {
                    Ok((stream, peer)) => {
                        if let Err(error) = exchange(stream, LIMIT, page) {
                            debug!("no metrics for {peer}: {error}");
                        }
                    }
                    Err(error) => {
                        debug!("no connection for metrics: {error}");
                        thread::sleep(PAUSE);
                    }
                }
            }
        })?;
    }
    Ok(())
}

/// One connection: a request, its answer, the end.
fn exchange(mut stream: TcpStream, limit: Duration, page: &impl Fn() -> Arc<str>) -> io::Result<()> {
    let end = Instant::now() + limit;
    let answer = read(&mut stream, end)?.unwrap_or_else(|path| answer(&path, page));
    let Answer { status, content_type, body } = answer;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    write(&mut stream, head.as_bytes(), end)?;
    write(&mut stream, body.as_bytes(), end)
}

/// Reads a request. `Err` is a path that somebody wants to get; `Ok` the answer to what is no such request.
fn read(stream: &mut TcpStream, end: Instant) -> io::Result<Result<Answer, String>> {
    let mut buffer = [0; LONGEST_REQUEST];
    let mut length = 0;
    loop {
        let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) else {
            return Ok(Ok(Answer::text("431 Request Header Fields Too Large", "that is too long\n")));
        };
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(room) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => length += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if let Some(request) = parse(buffer.get(..length).unwrap_or_default()) {
            return Ok(request);
        }
    }
}

/// What a request says, once all of it has come.
fn parse(bytes: &[u8]) -> Option<Result<Answer, String>> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(status) if status.is_partial() => None,
        Ok(_) if request.method == Some("GET") => {
            let target = request.path.unwrap_or_default();
            let path = target.split_once('?').map_or(target, |(path, _)| path);
            Some(Err(path.to_owned()))
        }
        Ok(_) => Some(Ok(Answer::text("405 Method Not Allowed", "there is nothing but GET\n"))),
        Err(httparse::Error::TooManyHeaders) => {
            Some(Ok(Answer::text("431 Request Header Fields Too Large", "these are too many\n")))
        }
        Err(_) => Some(Ok(Answer::text("400 Bad Request", "that is no request\n"))),
    }
}

/// The answer to a GET.
fn answer(path: &str, page: &impl Fn() -> Arc<str>) -> Answer {
    match path {
        "/metrics" => Answer { status: "200 OK", content_type: CONTENT_TYPE, body: page() },
        _ => Answer::text("404 Not Found", "there is nothing but /metrics\n"),
    }
}

impl Answer {
    fn text(status: &'static str, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// What is left of the time; an error if nothing is.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Writes all of it. A peer that reads a byte now and then does not get more time by that.
fn write(stream: &mut TcpStream, mut bytes: &[u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server with this page and time limit answers to `request`, and how its exchange ended.
    fn ask(request: &[u8], page: &'static str, limit: Duration) -> (String, io::Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = thread::spawn(move || exchange(listener.accept().unwrap().0, limit, &|| page.into()));
        client.write_all(request).unwrap();
        let mut answer = Vec::new();
        // Where the server closes with a part of the request unread, the kernel resets the connection behind the answer.
        let _ = client.read_to_end(&mut answer);
        (String::from_utf8(answer).unwrap(), server.join().unwrap())
    }

    #[test]
    fn a_scrape_gets_the_page() {
        let (answer, result) =
            ask(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n", "some 1\n", LIMIT);
        result.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        assert!(
            head.contains("\r\nContent-Length: 7\r\n") && head.ends_with("\r\nConnection: close"),
            "{head}"
        );
        assert_eq!(body, "some 1\n");
    }

    #[test]
    fn everything_else_gets_its_error() {
        for (request, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
            (b"GET /metrics/ HTTP/1.0\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\n", "405"),
            (b"HEAD /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"\x16\x03\x01\x02\x00\x01", "400"),
            (b"GET /metrics HTTP/1.1\r\nno field\r\n\r\n", "400"),
            (
                [&b"GET /metrics HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(33), b"\r\n"].concat().as_slice(),
                "431",
            ),
            ([&b"GET /"[..], &[b'x'; LONGEST_REQUEST]].concat().as_slice(), "431"),
        ] {
            let (answer, _) = ask(request, "secret\n", LIMIT);
            let text = request.escape_ascii();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{text} gets {answer}");
            assert!(!answer.contains("secret"), "{text} gets {answer}");
        }
    }

    #[test]
    fn who_dawdles_is_left() {
        let (answer, result) = ask(b"GET /metrics HTTP/1.1\r\n", "late\n", Duration::from_millis(50));
        assert_eq!(answer, "");
        assert!(matches!(result.unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    }

    #[test]
    fn who_does_not_read_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        // More than the sockets' buffers take.
        let page: Arc<str> = "x".repeat(64 << 20).into();
        let stream = listener.accept().unwrap().0;
        let result = exchange(stream, Duration::from_millis(200), &|| Arc::clone(&page));
        assert!(matches!(result.unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        drop(client);
    }
}
