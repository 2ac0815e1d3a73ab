//! The configuration: what the daemon is told, its defaults, and the file that it is read from.

mod keys;
mod problem;
mod section;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use problem::ConfigError;

/// The file that is read when `--config` names none.
pub const DEFAULT_PATH: &str = "/etc/ftpalg/ftpalg.toml";

/// Keys that count from the daemon's next start on alone, in the order of [`Config::keep_fixed`].
pub const FIXED_AT_START: [&str; 5] = ["queue", "workers", "state-dir", "control-socket", "metrics.listen"];

/// What happens to packets of connections that are not shifted while no daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenDown {
    /// They pass (the queue's bypass flag).
    Pass,
    /// They wait for their retransmission.
    Drop,
}

/// A chain of the administrator's: family, table, chain, as in `inet filter forward`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChainName {
    /// nftables family: `inet`, `ip` or `ip6`.
    pub family: String,
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// The whole configuration; systemd/ftpalg.toml says what each key means to the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// TCP ports of FTP servers' control connections. Never empty, each once.
    pub control_ports: Vec<u16>,
    /// The first NFQUEUE; worker `n` reads queue `queue + n`.
    pub queue: u16,
    /// Threads, each with a queue of its own: 1 to 64, and the last queue is at most 65535.
    pub workers: u16,
    /// What becomes of unshifted connections while no daemon runs.
    pub when_down: WhenDown,
    /// Chains that get a rule at their top that accepts packets with `mark`. May be empty.
    pub accept_in: Vec<ChainName>,
    /// The packet mark that the first SYN of a negotiated data connection carries through the filter chains.
    /// Usually one bit, never 0. The connection's own ct mark is not touched by it.
    pub mark: u32,
    /// Directory for what must survive a restart of the daemon. Absolute.
    pub state_dir: PathBuf,
    /// The socket on which `ftpalg status` asks. Absolute.
    pub control_socket: PathBuf,
    /// How long a pinhole waits for its data connection.
    pub pinhole_timeout: Duration,
    /// External ports that may be handed out for data connections through NAT.
    pub pinhole_ports: RangeInclusive<u16>,
    /// Whether a pinhole needs a login that the server accepted with 230.
    pub require_login: bool,
    /// Networks that a data connection may lead to although they are not the control connection's own end.
    pub allow_third_party: Vec<IpNet>,
    /// Where metrics can be asked for; `None` where nobody may.
    pub metrics_listen: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        let chain = |name: &str| ChainName {
            family: "inet".to_owned(),
            table: "filter".to_owned(),
            chain: name.to_owned(),
        };
        Config {
            control_ports: vec![21],
            queue: 2121,
            workers: 1,
            when_down: WhenDown::Pass,
            accept_in: vec![chain("forward"), chain("input")],
            mark: 0x0020_0000,
            state_dir: PathBuf::from("/run/ftpalg"),
            control_socket: PathBuf::from("/run/ftpalg/control.sock"),
            pinhole_timeout: Duration::from_secs(60),
            pinhole_ports: 1024..=65535,
            require_login: true,
            allow_third_party: Vec::new(),
            metrics_listen: None,
        }
    }
}

impl Config {
    /// Reads the file that `--config` named; where it named none, [`DEFAULT_PATH`], and where that does not
    /// exist, takes the defaults.
    ///
    /// # Errors
    /// A named file that is not there, a file that cannot be read, and everything that is wrong in it.
    pub fn load(named: Option<&Path>) -> Result<Config, ConfigError> {
        Ok(Self::read(named)?.unwrap_or_default())
    }

    /// As [`Config::load`], but `None` where it would take the defaults: for a daemon that runs with what was in the file,
    /// one that has gone since is no wish for them.
    ///
    /// # Errors
    /// As with [`Config::load`].
    pub fn read(named: Option<&Path>) -> Result<Option<Config>, ConfigError> {
        Self::read_or(named, Path::new(DEFAULT_PATH))
    }

    /// [`Config::read`] with a default file of the caller's choice.
    fn read_or(named: Option<&Path>, default: &Path) -> Result<Option<Config>, ConfigError> {
        let path = named.unwrap_or(default);
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(path, &bytes).map(Some),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// Reads a configuration file's content; `path` only names it in errors.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Config, ConfigError> {
        keys::read(bytes).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// Takes over from the configuration of a daemon that runs what can't change before its next start. Returns the keys
    /// that would have.
    pub fn keep_fixed(&mut self, running: &Config) -> Vec<&'static str> {
        fn keep<T: Clone + PartialEq>(new: &mut T, running: &T) -> bool {
            let differs = new != running;
            new.clone_from(running);
            differs
        }
        let differ = [
            keep(&mut self.queue, &running.queue),
            keep(&mut self.workers, &running.workers),
            keep(&mut self.state_dir, &running.state_dir),
            keep(&mut self.control_socket, &running.control_socket),
            keep(&mut self.metrics_listen, &running.metrics_listen),
        ];
        FIXED_AT_START.into_iter().zip(differ).filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

#[cfg(test)]
mod tests;
