//! From an address in a line to a pinhole: who listens where, and what the other end shall read.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::control::{ClientView, ControlTuple};
use super::event::Mode;
use super::ftp::host_port::{HostPort, Notation, Spot, UNSPECIFIED};
use super::lines::{Line, LineEdit};
use super::pinhole::{Pinhole, PinholeKey};
use super::policy::{Policy, Refusal};
use super::ports::{Ports, Request};
use super::promise::Promise;

/// One end of a data connection as it listens, and the other as it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sides {
    /// The listening end's own address.
    own: IpAddr,
    /// The address under which the calling end knows it.
    public: IpAddr,
    /// The calling end's address as its packets reach this host.
    caller: IpAddr,
    /// The address under which the listening end knows the caller.
    caller_public: IpAddr,
}

/// What is needed to plan pinholes for one session.
#[derive(Debug)]
pub struct Planner<'a> {
    /// Time since boot.
    pub now: Duration,
    /// The session's addresses.
    pub tuple: ControlTuple,
    /// The client's view of them.
    pub view: ClientView,
    /// What may open.
    pub policy: &'a Policy,
    /// What is taken.
    pub ports: &'a mut Ports,
}

impl Planner<'_> {
    fn sides(&self, mode: Mode) -> Sides {
        let (client, dialled) = (self.view.client, self.view.dialled);
        let (server, seen_client) = (self.tuple.server.ip(), self.tuple.client.ip());
        match mode {
            Mode::Active => {
                Sides { own: client, public: seen_client, caller: server, caller_public: dialled }
            }
            Mode::Passive => {
                Sides { own: server, public: dialled, caller: client, caller_public: seen_client }
            }
        }
    }

    fn until(&self) -> Duration {
        self.now + self.policy.timeout
    }

    fn request(&self, to: Option<SocketAddr>) -> Request {
        Request { client: self.view.client, session: self.tuple, to, until: self.until() }
    }

    /// Whether the other end knows the listening end by another address than its own, so that what the line
    /// says must be rewritten.
    pub fn rewrites(&self, mode: Mode) -> bool {
        let sides = self.sides(mode);
        sides.own != sides.public
    }

    /// Whether a text that begins so can still become an address that the listening end may announce.
    pub fn may_announce(&self, mode: Mode, notation: Notation, text: &[u8]) -> bool {
        let sides = self.sides(mode);
        let unspecified = (mode == Mode::Passive).then_some(UNSPECIFIED);
        [sides.own, sides.public].into_iter().chain(unspecified).any(|own| notation.may_name(own, text))
    }

    /// Whether the listening end may announce this. Returns the third party, if it is one.
    fn judge(&self, mode: Mode, announced: HostPort) -> Result<Option<IpAddr>, Refusal> {
        let sides = self.sides(mode);
        let is_own = mode == Mode::Passive && announced.address == Some(UNSPECIFIED);
        let announced = if is_own { HostPort { address: None, ..announced } } else { announced };
        self.policy.judge(announced, [sides.own, sides.public])
    }

    /// Chooses an external port before the listening end's own is known, and writes the text that announces it.
    pub fn promise(&mut self, mode: Mode, spot: Spot) -> Result<(Promise, Vec<u8>), Refusal> {
        let sides = self.sides(mode);
        let request = self.request(None);
        let key = self.ports.choose((sides.caller, sides.public), &self.policy.ports, None, request)?;
        let text = spot.notation.write(SocketAddr::new(sides.public, key.port));
        Ok((Promise { start: spot.start, notation: spot.notation, key, broken: None }, text))
    }

    /// Whether the text behind a promise names an address that may be announced; it can't be a third party's.
    pub fn keeps(&self, mode: Mode, promise: &Promise, text: &[u8]) -> Result<HostPort, Refusal> {
        let announced = promise.notation.read(text).ok_or(Refusal::Unreadable)?;
        match self.judge(mode, announced)? {
            None => Ok(announced),
            Some(_) => Err(Refusal::ThirdParty),
        }
    }

    /// Takes a promise back.
    pub fn withdraw(&mut self, promise: &Promise) {
        self.ports.release(promise.key);
    }

    /// The pinhole that fulfils a promise, unless that has been waited for too long.
    pub fn fulfil(&mut self, mode: Mode, promise: &Promise, announced: HostPort) -> Result<Pinhole, Refusal> {
        let sides = self.sides(mode);
        let to = SocketAddr::new(sides.own, announced.port);
        if !self.ports.lead_to(promise.key, to) {
            return Err(Refusal::TooLate);
        }
        Ok(self.pinhole(promise.key, to, sides.caller_public))
    }

    /// The pinhole for an announced address, and the text that must stand in its place.
    pub fn plan(
        &mut self,
        mode: Mode,
        notation: Notation,
        announced: HostPort,
    ) -> Result<(Pinhole, Vec<u8>), Refusal> {
        let sides = self.sides(mode);
        let third_party = self.judge(mode, announced)?;
        let to = SocketAddr::new(third_party.unwrap_or(sides.own), announced.port);
        let request = self.request(Some(to));
        let public = third_party.unwrap_or(sides.public);
        let (key, from) = if to.ip() == public {
            let key = PinholeKey { source: sides.caller, destination: public, port: to.port() };
            self.ports.reserve(key, request)?;
            (key, if third_party.is_some() { sides.caller } else { sides.caller_public })
        } else {
            let ends = (sides.caller, public);
            let key = self.ports.choose(ends, &self.policy.ports, Some(to.port()), request)?;
            (key, sides.caller_public)
        };
        // Where nothing is to be rewritten, a line that names no address stays so.
        let named = announced.address.filter(|_| !self.rewrites(mode)).unwrap_or(public);
        let text = notation.write(SocketAddr::new(named, key.port));
        Ok((self.pinhole(key, to, from), text))
    }

    fn pinhole(&self, key: PinholeKey, to: SocketAddr, from: IpAddr) -> Pinhole {
        Pinhole { key, to, from, mark: self.view.mark, timeout: self.policy.timeout }
    }
}

/// From the address in a whole line to its pinhole and the edit that the line needs.
pub fn resolve(
    mode: Mode,
    spot: Spot,
    line: Line<'_>,
    ends_properly: impl Fn(&[u8]) -> bool,
    promise: Option<&Promise>,
    planner: &mut Planner<'_>,
) -> Result<(Pinhole, Option<LineEdit>), Refusal> {
    let range = spot.extent(line.bytes);
    let text = line.bytes.get(range.clone()).unwrap_or_default();
    let is_well_formed = !line.overlong && ends_properly(line.bytes.get(range.end..).unwrap_or_default());
    if let Some(promise) = promise {
        if let Some(reason) = promise.broken {
            return Err(reason);
        }
        let kept = planner
            .keeps(mode, promise, text)
            .and_then(|announced| if is_well_formed { Ok(announced) } else { Err(Refusal::BadLine) });
        return match kept {
            Ok(announced) => Ok((planner.fulfil(mode, promise, announced)?, None)),
            Err(reason) => {
                planner.withdraw(promise);
                Err(reason)
            }
        };
    }
    if !is_well_formed {
        return Err(Refusal::BadLine);
    }
    let announced = spot.notation.read(text).ok_or(Refusal::Unreadable)?;
    let (pinhole, new) = planner.plan(mode, spot.notation, announced)?;
    if spot.notation.read(&new) == Some(announced) {
        // It says so already, perhaps in another spelling of an IPv6 address.
        return Ok((pinhole, None));
    }
    if range.start < line.sent {
        planner.ports.release(pinhole.key);
        return Err(Refusal::BadLine);
    }
    Ok((pinhole, Some(LineEdit { range, text: new, notation: spot.notation })))
}
