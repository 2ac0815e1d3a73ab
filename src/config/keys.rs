//! The keys of the configuration file, and what each may hold.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::problem::{Position, Problem};
use super::section::{Document, Mistake, Node, Words};
use super::{ChainName, Config, WhenDown};

/// Keys above the first `[table]` line, and the tables.
pub const TOP: &[&str] = &[
    "control-ports",
    "queue",
    "workers",
    "when-down",
    "accept-in",
    "mark",
    "state-dir",
    "control-socket",
    "pinhole",
    "policy",
    "metrics",
];
pub const PINHOLE: &[&str] = &["timeout", "ports"];
pub const POLICY: &[&str] = &["require-login", "allow-third-party"];
pub const METRICS: &[&str] = &["listen"];

/// More threads than any router has cores for FTP control connections.
const MOST_WORKERS: u16 = 64;
/// Below this a server may not have answered yet; above it a forgotten pinhole is a hole.
const PINHOLE_SECONDS: RangeInclusive<i64> = 5..=3600;
/// Ports below 1024 belong to services; a data connection may not be led to one.
const LOWEST_PINHOLE_PORT: u16 = 1024;
/// A port that has run down rests for a while, so fewer than these run out with a single busy client.
const FEWEST_PINHOLE_PORTS: u16 = 16;
/// `NFT_NAME_MAXLEN` of linux/netfilter/nf_tables.h, less its NUL.
const LONGEST_NFT_NAME: usize = 255;
/// What `sun_path` of unix(7) holds, less its NUL.
const LONGEST_SOCKET_PATH: usize = 107;
/// The daemon's own table, as it stands in `accept-in`.
const OWN_TABLE: (&str, &str) = ("inet", "ftpalg");

/// Reads a file's content.
///
/// # Errors
/// Everything that is wrong in it; where it is no TOML, the syntax errors alone.
pub fn read(bytes: &[u8]) -> Result<Config, Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| vec![not_utf8(bytes, error.valid_up_to())])?;
    let (mut file, mut top) = Document::parse(text);
    if !file.is_sound() {
        return Err(file.into_problems());
    }
    let default = Config::default();
    let (queue_place, workers_place) = (top.place("queue"), top.place("workers"));
    let mut pinhole = file.section(&mut top, "pinhole");
    let mut policy = file.section(&mut top, "policy");
    let mut metrics = file.section(&mut top, "metrics");
    let config = Config {
        control_ports: file.read(&mut top, "control-ports", default.control_ports, control_ports),
        queue: file.read(&mut top, "queue", default.queue, queue),
        workers: file.read(&mut top, "workers", default.workers, workers),
        when_down: file.read(&mut top, "when-down", default.when_down, when_down),
        accept_in: file.read(&mut top, "accept-in", default.accept_in, accept_in),
        mark: file.read(&mut top, "mark", default.mark, mark),
        state_dir: file.read(&mut top, "state-dir", default.state_dir, state_dir),
        control_socket: file.read(&mut top, "control-socket", default.control_socket, control_socket),
        pinhole_timeout: file.read(&mut pinhole, "timeout", default.pinhole_timeout, timeout),
        pinhole_ports: file.read(&mut pinhole, "ports", default.pinhole_ports, pinhole_ports),
        require_login: file.read(&mut policy, "require-login", default.require_login, require_login),
        allow_third_party: file.read(&mut policy, "allow-third-party", default.allow_third_party, networks),
        metrics_listen: file.read(&mut metrics, "listen", default.metrics_listen, listen),
    };
    file.refuse_rest(&top, TOP, belongs);
    file.refuse_rest(&pinhole, PINHOLE, belongs);
    file.refuse_rest(&policy, POLICY, belongs);
    file.refuse_rest(&metrics, METRICS, belongs);

    let last_queue = u32::from(config.queue) + u32::from(config.workers) - 1;
    if last_queue > u32::from(u16::MAX) {
        let words = Words {
            found: format!("{} workers on the queues {} to {last_queue}", config.workers, config.queue),
            expected: format!("the last queue to be at most {}", u16::MAX),
            mend: "lower queue or workers".to_owned(),
        };
        file.contradict("workers", workers_place.or(queue_place), &words);
    }
    if file.is_sound() { Ok(config) } else { Err(file.into_problems()) }
}

/// Where a key that stands in the wrong table belongs.
fn belongs(key: &str) -> Option<String> {
    if TOP.contains(&key) {
        Some("above the first [table] line".to_owned())
    } else if PINHOLE.contains(&key) {
        Some("below the line [pinhole]".to_owned())
    } else if POLICY.contains(&key) {
        Some("below the line [policy]".to_owned())
    } else if METRICS.contains(&key) {
        Some("below the line [metrics]".to_owned())
    } else {
        None
    }
}

fn not_utf8(bytes: &[u8], valid_up_to: usize) -> Problem {
    let readable = String::from_utf8_lossy(bytes.get(..valid_up_to).unwrap_or_default());
    Problem {
        at: Position::of(&readable, readable.len()),
        message: "found a byte that is no UTF-8, expected text in UTF-8: save the file as UTF-8".to_owned(),
    }
}

fn control_ports(node: &Node) -> Result<Vec<u16>, Mistake> {
    const MEND: &str = "write it as in control-ports = [21, 2121]";
    let ports = list(node, "a list of TCP ports", MEND, |element| {
        element
            .integer()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| element.mistake("a TCP port from 1 to 65535", MEND))
    })?;
    if ports.is_empty() { Err(node.mistake("at least one TCP port", MEND)) } else { Ok(ports) }
}

fn queue(node: &Node) -> Result<u16, Mistake> {
    node.integer()
        .and_then(|queue| u16::try_from(queue).ok())
        .ok_or_else(|| node.mistake("a queue number from 0 to 65535", "write it as in queue = 2121"))
}

fn workers(node: &Node) -> Result<u16, Mistake> {
    node.integer()
        .and_then(|workers| u16::try_from(workers).ok())
        .filter(|workers| (1..=MOST_WORKERS).contains(workers))
        .ok_or_else(|| {
            node.mistake(
                format!("a number of threads from 1 to {MOST_WORKERS}"),
                "write at most the number of this machine's cores, as in workers = 1",
            )
        })
}

fn when_down(node: &Node) -> Result<WhenDown, Mistake> {
    match node.string() {
        Some("pass") => Ok(WhenDown::Pass),
        Some("drop") => Ok(WhenDown::Drop),
        _ => Err(node.mistake(r#""pass" or "drop""#, r#"write it as in when-down = "pass""#)),
    }
}

fn accept_in(node: &Node) -> Result<Vec<ChainName>, Mistake> {
    const MEND: &str =
        r#"write it as in accept-in = ["inet filter forward"], or [] to write the rule yourself"#;
    list(node, "a list of chains", MEND, |element| {
        let name = element
            .string()
            .and_then(chain_name)
            .ok_or_else(|| element.mistake(r#""FAMILY TABLE CHAIN", the family inet, ip or ip6"#, MEND))?;
        if (name.family.as_str(), name.table.as_str()) == OWN_TABLE {
            return Err(element.mistake("a chain of your own firewall, not of ftpalg's table", MEND));
        }
        Ok(name)
    })
}

/// Splits `inet filter forward`. The names are those that nft takes without quotes.
fn chain_name(text: &str) -> Option<ChainName> {
    let mut words = text.split_ascii_whitespace();
    let (family, table, chain) = (words.next()?, words.next()?, words.next()?);
    let usable = words.next().is_none()
        && matches!(family, "inet" | "ip" | "ip6")
        && is_nft_name(table)
        && is_nft_name(chain);
    usable.then(|| ChainName { family: family.to_owned(), table: table.to_owned(), chain: chain.to_owned() })
}

/// Whether nft's scanner takes `name` for a string: a letter, `_` or `.`, then also digits, `/` and `-`.
fn is_nft_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '.');
    name.len() <= LONGEST_NFT_NAME
        && name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit() || matches!(c, '/' | '-'))
}

fn mark(node: &Node) -> Result<u32, Mistake> {
    let written = match node.string() {
        Some(text) => text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            // from_str_radix would take a sign
            .filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok()),
        None => node.integer().and_then(|mark| u32::try_from(mark).ok()),
    };
    written.filter(|mark| *mark != 0).ok_or_else(|| {
        node.mistake(
            "a packet mark of 32 bits with at least one bit set",
            r#"write a bit that nothing else on this host uses, as in mark = "0x00200000""#,
        )
    })
}

fn state_dir(node: &Node) -> Result<PathBuf, Mistake> {
    let mend = r#"write it as in state-dir = "/run/ftpalg""#;
    node.string()
        .filter(|text| !text.contains('\0'))
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.parent().is_some())
        .ok_or_else(|| node.mistake("the absolute path of a directory", mend))
}

fn control_socket(node: &Node) -> Result<PathBuf, Mistake> {
    let mend = r#"write it as in control-socket = "/run/ftpalg/control.sock""#;
    node.string()
        .filter(|text| !text.contains('\0') && text.len() <= LONGEST_SOCKET_PATH)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.file_name().is_some())
        .ok_or_else(|| {
            node.mistake(format!("the absolute path of a socket, at most {LONGEST_SOCKET_PATH} bytes"), mend)
        })
}

fn timeout(node: &Node) -> Result<Duration, Mistake> {
    node.integer()
        .filter(|seconds| PINHOLE_SECONDS.contains(seconds))
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map(Duration::from_secs)
        .ok_or_else(|| {
            let (least, most) = (PINHOLE_SECONDS.start(), PINHOLE_SECONDS.end());
            node.mistake(format!("seconds from {least} to {most}"), "write it as in timeout = 60")
        })
}

fn pinhole_ports(node: &Node) -> Result<RangeInclusive<u16>, Mistake> {
    const MEND: &str = r#"write it as in ports = "1024-65535""#;
    let (low, high) = node.string().and_then(port_range).ok_or_else(|| {
        node.mistake(
            format!("\"LOW-HIGH\", both from {LOWEST_PINHOLE_PORT} to 65535 and LOW not above HIGH"),
            MEND,
        )
    })?;
    if high - low < FEWEST_PINHOLE_PORTS - 1 {
        return Err(node.mistake(format!("a range of at least {FEWEST_PINHOLE_PORTS} ports"), MEND));
    }
    Ok(low..=high)
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-')?;
    let port = |digits: &str| {
        let digits = digits.trim();
        // parse would take a sign
        digits.chars().all(|c| c.is_ascii_digit()).then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (low, high) = (port(low)?, port(high)?);
    (LOWEST_PINHOLE_PORT <= low && low <= high).then_some((low, high))
}

fn require_login(node: &Node) -> Result<bool, Mistake> {
    node.boolean().ok_or_else(|| node.mistake("true or false", "write it as in require-login = true"))
}

fn listen(node: &Node) -> Result<Option<SocketAddr>, Mistake> {
    let mend = r#"write it as in listen = "127.0.0.1:12121", or "off""#;
    match node.string() {
        Some("off") => Ok(None),
        text => text
            .and_then(|text| text.parse().ok())
            .filter(|address: &SocketAddr| address.port() != 0)
            .map(Some)
            .ok_or_else(|| node.mistake(r#""ADDRESS:PORT" or "off""#, mend)),
    }
}

fn networks(node: &Node) -> Result<Vec<IpNet>, Mistake> {
    const MEND: &str = r#"write it as in allow-third-party = ["192.0.2.0/24", "2001:db8::1"]"#;
    list(node, "a list of networks", MEND, |element| {
        let network = element
            .string()
            .and_then(|text| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok())
            .ok_or_else(|| element.mistake("an address or a network in CIDR notation", MEND))?;
        if network.trunc() != network {
            return Err(element.mistake(
                format!("no bits beyond the prefix /{}", network.prefix_len()),
                format!("write {} for the network or {} for the host", network.trunc(), network.addr()),
            ));
        }
        Ok(network)
    })
}

/// Reads a list in which nothing stands twice.
fn list<'n, 't, T: PartialEq>(
    node: &Node<'n, 't>,
    expected: &str,
    mend: &str,
    parse: impl Fn(&Node<'n, 't>) -> Result<T, Mistake>,
) -> Result<Vec<T>, Mistake> {
    let elements = node.elements().ok_or_else(|| node.mistake(expected, mend))?;
    let mut values = Vec::with_capacity(elements.len());
    for element in &elements {
        let value = parse(element)?;
        if values.contains(&value) {
            return Err(element.mistake_found(
                format!("{} a second time", element.text()),
                "each entry once",
                "remove one of the two",
            ));
        }
        values.push(value);
    }
    Ok(values)
}
