//! Which pinhole keys are in use: an external port is not handed out again before the elements that stood for it
//! have certainly gone.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::control::ControlTuple;
use super::give_back;
use super::pinhole::PinholeKey;
use super::policy::{MAX_PINHOLES_PER_CLIENT, MAX_PINHOLES_PER_NETWORK, Refusal};
use super::shares::{Shares, network_of};

/// How long after its time-out a key stays reserved: the kernel removes elements lazily, and what belongs to a
/// pinhole outlives the pinhole itself by a little.
const GRACE: Duration = Duration::from_secs(30);

/// How many keys more than twice those in use may wait for their time.
const SLACK: usize = 1024;

/// How many ports are tried before a range counts as full.
const TRIES: u32 = 128;

#[derive(Debug, Clone, Copy)]
struct Reservation {
    client: IpAddr,
    session: ControlTuple,
    /// Where it leads, once that is known.
    to: Option<SocketAddr>,
    until: Duration,
    is_open: bool,
    /// The kernel may hold its elements, from this opening or from one before.
    is_there: bool,
}

/// Who asks for a key, and until when.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The client for whom it counts.
    pub client: IpAddr,
    /// The session that asks.
    pub session: ControlTuple,
    /// Where the pinhole will lead, if that is known.
    pub to: Option<SocketAddr>,
    /// When the pinhole ends if nobody uses it (time since boot).
    pub until: Duration,
}

/// The keys in use by this worker's sessions. A key holds both addresses of a control connection, and the queue's
/// balance sends all sessions between two addresses to one worker: so no other worker hands out the same key.
#[derive(Debug)]
pub struct Ports {
    taken: HashMap<PinholeKey, Reservation>,
    clients: Shares,
    /// As a host can have as many IPv6 addresses as it likes.
    networks: Shares,
    /// When to look at a key again; in order, for every pinhole of a configuration lives equally long.
    due: VecDeque<(Duration, PinholeKey)>,
    random: u64,
    /// The session that asks.
    acting: Option<ControlTuple>,
}

impl Ports {
    /// `seed` makes the choice of ports hard to foresee.
    pub fn new(seed: u64) -> Self {
        Self {
            taken: HashMap::new(),
            clients: Shares::up_to(MAX_PINHOLES_PER_CLIENT),
            networks: Shares::up_to(MAX_PINHOLES_PER_NETWORK),
            due: VecDeque::new(),
            random: seed,
            acting: None,
        }
    }

    /// How many keys are reserved.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether no key is reserved.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Whether this key is reserved.
    pub fn holds(&self, key: PinholeKey) -> bool {
        self.taken.contains_key(&key)
    }

    /// Reserves exactly this key. One that already leads to the same place is taken over, from another session, too:
    /// one program listens there, and it has spoken last in this one. The other has no say in it any more.
    pub fn reserve(&mut self, key: PinholeKey, request: Request) -> Result<(), Refusal> {
        let is_there = match self.taken.get(&key) {
            Some(taken) if taken.to.is_none() || taken.to != request.to => return Err(Refusal::NoPort),
            Some(taken) => taken.is_there,
            None => false,
        };
        self.remove(key);
        let Request { client, session, to, until } = request;
        if !self.clients.have_room(client) || !self.networks.have_room(network_of(client)) {
            return Err(Refusal::TooManyOfClient);
        }
        self.clients.add(client);
        self.networks.add(network_of(client));
        self.taken.insert(key, Reservation { client, session, to, until, is_open: false, is_there });
        self.look_again(until, key);
        Ok(())
    }

    /// Reserves a port of `range` for connections from `source` to `destination`: the preferred one if it can be
    /// had, else any.
    pub fn choose(
        &mut self,
        (source, destination): (IpAddr, IpAddr),
        range: &RangeInclusive<u16>,
        preferred: Option<u16>,
        request: Request,
    ) -> Result<PinholeKey, Refusal> {
        let (low, high) = (u32::from(*range.start()), u32::from(*range.end()));
        let size = high.saturating_sub(low) + 1;
        let first = self.draw() % size;
        let others = (0..TRIES.min(size)).filter_map(|step| u16::try_from(low + (first + step) % size).ok());
        for port in preferred.filter(|port| range.contains(port)).into_iter().chain(others) {
            let key = PinholeKey { source, destination, port };
            match self.reserve(key, request) {
                Err(Refusal::NoPort) => {}
                done => return done.map(|()| key),
            }
        }
        Err(Refusal::NoPort)
    }

    /// SplitMix64.
    fn draw(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        super::position::sequence_of(z ^ (z >> 31))
    }

    /// What is left of a key's time; `None` if it is over, or the key another session's by now.
    pub fn remaining(&self, key: PinholeKey, session: &ControlTuple, now: Duration) -> Option<Duration> {
        let taken = self.taken.get(&key).filter(|taken| taken.session == *session)?;
        taken.until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Says where a key that was reserved ahead leads. Not where the acting session has it no more.
    pub fn lead_to(&mut self, key: PinholeKey, to: SocketAddr) -> bool {
        let own = self.own(key);
        own.map(|taken| taken.to = Some(to)).is_some()
    }

    /// What follows is done for this session.
    pub fn act_for(&mut self, session: ControlTuple) -> &mut Self {
        self.acting = Some(session);
        self
    }

    /// Whether another session than the acting one has the key.
    pub fn is_others(&self, key: PinholeKey) -> bool {
        self.taken.get(&key).is_some_and(|taken| Some(taken.session) != self.acting)
    }

    /// Whether this session has the key.
    pub fn is_of(&self, key: PinholeKey, session: ControlTuple) -> bool {
        self.taken.get(&key).is_some_and(|taken| taken.session == session)
    }

    /// The session that has the key.
    pub fn session_of(&self, key: PinholeKey) -> Option<ControlTuple> {
        self.taken.get(&key).map(|taken| taken.session)
    }

    /// The acting session's reservation.
    fn own(&mut self, key: PinholeKey) -> Option<&mut Reservation> {
        let acting = self.acting;
        self.taken.get_mut(&key).filter(|taken| Some(taken.session) == acting)
    }

    /// Until when a key is reserved, if it is.
    pub fn until(&self, key: PinholeKey) -> Option<Duration> {
        self.taken.get(&key).map(|taken| taken.until)
    }

    /// The pinhole is open from now on, until then. Returns whether the kernel may hold elements of this key already.
    pub fn open(&mut self, key: PinholeKey, until: Duration) -> bool {
        let Some(taken) = self.own(key) else { return false };
        taken.is_open = true;
        let was_there = std::mem::replace(&mut taken.is_there, true);
        if taken.until < until {
            self.extend(key, until);
        }
        was_there
    }

    /// The pinhole lives until then.
    pub fn extend(&mut self, key: PinholeKey, until: Duration) {
        if let Some(taken) = self.own(key) {
            taken.until = until;
            self.look_again(until, key);
        }
    }

    /// Keys that were released stay in the queue until their time, unless they come to be the larger part of it:
    /// a client that asks, is refused and asks again must not make it grow without bound.
    fn look_again(&mut self, until: Duration, key: PinholeKey) {
        if self.due.len() > 2 * self.taken.len() + SLACK {
            let taken = &self.taken;
            self.due.retain(|(due, key)| {
                taken.get(key).is_some_and(|taken| taken.until.saturating_add(GRACE) == *due)
            });
        }
        self.due.push_back((until.saturating_add(GRACE), key));
    }

    /// The elements of this key are removed with the changes that this packet brings: it can be handed out again.
    /// Returns whether they are to be removed: not if another session has taken the key over.
    pub fn release(&mut self, key: PinholeKey) -> bool {
        let is_own = !self.is_others(key);
        if is_own {
            self.remove(key);
        }
        is_own
    }

    fn remove(&mut self, key: PinholeKey) {
        let Some(taken) = self.taken.remove(&key) else { return };
        self.clients.remove(taken.client);
        self.networks.remove(network_of(taken.client));
    }

    /// The session that asked for a pinhole with this key, if it is not open yet.
    pub fn expected_by(&self, key: PinholeKey) -> Option<ControlTuple> {
        self.taken.get(&key).filter(|taken| !taken.is_open).map(|taken| taken.session)
    }

    /// Lets go of the keys whose elements have certainly gone.
    pub fn expire(&mut self, now: Duration) {
        while let Some(&(_, key)) = self.due.front().filter(|(due, _)| *due <= now) {
            self.due.pop_front();
            if self.taken.get(&key).is_some_and(|taken| taken.until.saturating_add(GRACE) <= now) {
                self.remove(key);
            }
        }
        give_back(&mut self.taken);
        self.clients.give_back();
        self.networks.give_back();
        if self.due.capacity() > 4 * self.due.len() + SLACK {
            self.due.shrink_to(2 * self.due.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const X: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

    fn request(to: &str) -> Request {
        let to: SocketAddr = to.parse().unwrap();
        let session = ControlTuple { server: (S, 21).into(), client: (X, 40_000).into() };
        Request { client: to.ip(), session, to: Some(to), until: Duration::from_secs(60) }
    }

    fn choose(
        ports: &mut Ports,
        range: RangeInclusive<u16>,
        preferred: u16,
        to: &str,
    ) -> Result<u16, Refusal> {
        ports.choose((S, X), &range, Some(preferred), request(to)).map(|key| key.port)
    }

    fn holds_nothing(ports: &Ports) -> bool {
        ports.is_empty() && ports.clients.is_empty() && ports.networks.is_empty()
    }

    #[test]
    fn the_preferred_port_is_given_unless_it_is_taken_or_out_of_range() {
        let mut ports = Ports::new(1);
        assert_eq!(choose(&mut ports, 2000..=2001, 2000, "10.0.0.2:2000"), Ok(2000));
        assert_eq!(choose(&mut ports, 2000..=2001, 2000, "10.0.0.3:2000"), Ok(2001));
        assert_eq!(choose(&mut ports, 2000..=2001, 9999, "10.0.0.4:9999"), Err(Refusal::NoPort));
        assert_eq!(choose(&mut ports, 2000..=2001, 2000, "10.0.0.2:2000"), Ok(2000), "the same place again");
        assert_eq!(ports.len(), 2);
    }

    #[test]
    fn a_key_is_free_again_when_it_was_released_or_its_elements_are_gone() {
        let mut ports = Ports::new(1);
        let key = ports.choose((S, X), &(2000..=2000), None, request("10.0.0.2:5000")).unwrap();
        assert!(ports.expected_by(key).is_some());
        ports.act_for(request("10.0.0.2:5000").session).open(key, Duration::ZERO);
        assert_eq!(ports.expected_by(key), None);
        ports.extend(key, Duration::from_secs(70));
        ports.expire(Duration::from_secs(60) + GRACE);
        assert_eq!(ports.len(), 1, "extended");
        ports.expire(Duration::from_secs(70) + GRACE);
        assert!(holds_nothing(&ports));
        let key = ports.choose((S, X), &(2000..=2000), None, request("10.0.0.2:5000")).unwrap();
        assert!(ports.release(key));
        assert!(holds_nothing(&ports));
    }

    #[test]
    fn who_has_lost_a_key_to_another_session_has_no_say_in_it() {
        let mut ports = Ports::new(1);
        let first = request("10.0.0.2:5000");
        let second =
            Request { session: ControlTuple { client: (X, 40_001).into(), ..first.session }, ..first };
        let key = PinholeKey { source: S, destination: X, port: 5000 };
        ports.reserve(key, first).unwrap();
        ports.act_for(first.session).open(key, first.until);
        ports.reserve(key, second).unwrap();
        assert!(ports.is_others(key));
        ports.open(key, second.until * 2);
        ports.extend(key, second.until * 2);
        assert!(!ports.release(key));
        assert_eq!((ports.expected_by(key), ports.until(key)), (Some(second.session), Some(second.until)));
        assert!(ports.act_for(second.session).release(key) && ports.is_empty());
    }

    #[test]
    fn what_was_released_long_ago_takes_no_room() {
        let mut ports = Ports::new(1);
        ports.act_for(request("10.0.0.2:1").session);
        let kept: Vec<_> = (0..100)
            .map(|port| {
                ports.choose((S, X), &(2000..=4000), Some(2000 + port), request("10.0.0.2:1")).unwrap()
            })
            .collect();
        for second in 0..100_000 {
            let until = Duration::from_secs(60 + second / 1000);
            let request = Request { until, ..request("10.0.0.3:5000") };
            let key = ports.choose((S, X), &(1024..=65535), None, request).unwrap();
            ports.release(key);
            ports.extend(kept[usize::try_from(second % 100).unwrap()], until);
        }
        assert_eq!(ports.len(), 100);
        assert!(ports.due.len() <= 2 * 100 + SLACK + 1, "{}", ports.due.len());
        ports.expire(Duration::from_secs(1000));
        assert!(holds_nothing(&ports) && ports.due.is_empty());
        assert!(ports.taken.capacity() <= 1024 && ports.due.capacity() <= 2 * SLACK);
    }

    #[test]
    fn one_client_cannot_take_all() {
        let mut ports = Ports::new(7);
        for port in 0..MAX_PINHOLES_PER_CLIENT {
            let to = format!("10.0.0.2:{}", 2000 + port);
            choose(&mut ports, 1024..=65535, 1, &to).unwrap();
        }
        assert_eq!(choose(&mut ports, 1024..=65535, 1, "10.0.0.2:9"), Err(Refusal::TooManyOfClient));
        assert!(choose(&mut ports, 1024..=65535, 1, "10.0.0.3:9").is_ok());
    }

    #[test]
    fn an_ipv6_client_that_changes_its_address_cannot_take_all() {
        let mut ports = Ports::new(7);
        let mut port = 1024;
        let mut reserve = |client: &str| {
            let key = PinholeKey { source: S, destination: X, port };
            port += 1;
            ports.reserve(key, request(&format!("[{client}]:2000")))
        };
        for number in 0..MAX_PINHOLES_PER_NETWORK {
            assert_eq!(reserve(&format!("2001:db8:0:1::{:x}", number / 500)), Ok(()), "{number}");
        }
        assert_eq!(reserve("2001:db8:0:1:9::"), Err(Refusal::TooManyOfClient));
        assert_eq!(reserve("2001:db8:0:2::1"), Ok(()));
    }
}
