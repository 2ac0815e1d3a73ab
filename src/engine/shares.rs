//! How much each has of what all share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::give_back;

/// The network that a host can take its addresses from as it likes: in IPv6 the 64 bits of its link's prefix (RFC 4291, section
/// 2.5.1; RFC 8981 has hosts change the others daily). In IPv4 a host has its address alone.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// How much each holder has, none of them more than a bound.
#[derive(Debug)]
pub struct Shares {
    most: u32,
    counts: HashMap<IpAddr, u32>,
}

impl Shares {
    /// Nobody has anything yet; each may have as much as `most`.
    pub fn up_to(most: u32) -> Self {
        Self { most, counts: HashMap::new() }
    }

    /// Whether this one may have another.
    pub fn have_room(&self, holder: IpAddr) -> bool {
        self.counts.get(&holder).is_none_or(|count| *count < self.most)
    }

    /// It has another, be there room or not.
    pub fn add(&mut self, holder: IpAddr) {
        *self.counts.entry(holder).or_default() += 1;
    }

    /// It has one less.
    pub fn remove(&mut self, holder: IpAddr) {
        if let Some(count) = self.counts.get_mut(&holder) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&holder);
            }
        }
    }

    /// Whether nobody has anything.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Gives memory back that it has from fuller days.
    pub fn give_back(&mut self) {
        give_back(&mut self.counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_known_by_its_prefix() {
        let network = |address: &str| network_of(address.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:a:b:c:d"), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:3::"), "2001:db8:1:3::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn each_has_its_own_bound_and_what_is_over_leaves_nothing() {
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut shares = Shares::up_to(2);
        shares.add(one);
        assert!(shares.have_room(one));
        shares.add(one);
        assert!(!shares.have_room(one) && shares.have_room(other));
        shares.add(one);
        shares.remove(one);
        assert!(!shares.have_room(one), "what was taken up beyond the bound counts");
        shares.remove(one);
        shares.remove(one);
        shares.remove(other);
        assert!(shares.have_room(one) && shares.is_empty());
    }
}
