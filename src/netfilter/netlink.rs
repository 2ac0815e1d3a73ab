//! Netlink messages as bytes: for what libnftables and libnftnl are not needed (reading handles, rules, counters,
//! generations, conntrack entries).

use std::io;

/// `NFNL_SUBSYS_*` (include/uapi/linux/netfilter/nfnetlink.h).
pub mod subsystem {
    pub const CTNETLINK: u8 = 1;
    pub const QUEUE: u8 = 3;
    pub const NFTABLES: u8 = 10;
}

/// `NFT_MSG_*`: the kinds of messages of nftables that are used here (include/uapi/linux/netfilter/nf_tables.h).
pub mod nft {
    pub const NEWTABLE: u8 = 0;
    pub const GETTABLE: u8 = 1;
    pub const NEWCHAIN: u8 = 3;
    pub const GETCHAIN: u8 = 4;
    pub const NEWRULE: u8 = 6;
    pub const GETRULE: u8 = 7;
    pub const NEWSETELEM: u8 = 12;
    pub const GETSETELEM: u8 = 13;
    pub const NEWGEN: u8 = 15;
    pub const GETGEN: u8 = 16;
    pub const NEWOBJ: u8 = 18;
    pub const GETOBJ: u8 = 19;
}

/// The flags of a request for a list (`NLM_F_DUMP`).
#[expect(clippy::cast_possible_truncation, reason = "it is 0x300")]
pub const DUMP: u16 = libc::NLM_F_DUMP as u16;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
/// Bytes of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// Set in the type of an attribute that holds others.
const NESTED: u16 = 0x8000;
/// What remains of an attribute's type without its flags (nested, network byte order).
const TYPE_MASK: u16 = 0x3fff;

/// A request to one of netfilter's subsystems, under construction.
#[derive(Debug, Clone)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request of `kind` in `subsystem`, about a family (`NFPROTO_*`), with flags besides NLM_F_REQUEST.
    pub fn new(subsystem: u8, kind: u8, family: u8, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        push_header(&mut bytes, subsystem, kind, family, flags, 0);
        Request(bytes)
    }

    /// It is about the one of the subsystem's resources that has this number: a queue.
    pub fn about(mut self, number: u16) -> Self {
        self.0[18..20].copy_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        push_attribute(&mut self.0, kind, value);
        self
    }

    /// Adds a string, with the NUL that the kernel expects.
    pub fn string(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Adds a nest of attributes.
    pub fn nest(mut self, kind: u16, inside: &Nest) -> Self {
        push_attribute(&mut self.0, kind | NESTED, &inside.0);
        self
    }

    /// The message, with its length and sequence number filled in.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        set_length(&mut self.0, 0);
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// Attributes inside another attribute.
#[derive(Debug, Clone, Default)]
pub struct Nest(Vec<u8>);

impl Nest {
    /// Adds an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        push_attribute(&mut self.0, kind, value);
        self
    }

    /// Adds a nest.
    pub fn nest(mut self, kind: u16, inside: &Nest) -> Self {
        push_attribute(&mut self.0, kind | NESTED, &inside.0);
        self
    }
}

/// Appends the beginning of a message, as [`Request::new`] has it, about the resource `number`. [`set_length`] ends it.
pub fn push_header(bytes: &mut Vec<u8>, subsystem: u8, kind: u8, family: u8, flags: u16, number: u16) {
    let request = u16::try_from(libc::NLM_F_REQUEST).unwrap_or(1);
    bytes.extend([0; 4]);
    bytes.extend(u16::from_be_bytes([subsystem, kind]).to_ne_bytes());
    bytes.extend((flags | request).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(number.to_be_bytes());
}

/// The message that begins at `start` ends here.
pub fn set_length(bytes: &mut [u8], start: usize) {
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Appends an attribute.
pub fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its type: a control message below 16, else subsystem and kind.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The request that it answers.
    pub sequence: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message that is complete (as libmnl cuts them). `None` if it is shorter than a header.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Message {
            kind: u16_at(4)?,
            flags: u16_at(6)?,
            sequence: u32_at(8)?,
            payload: bytes.get(HEADER..)?,
        })
    }

    /// For NLMSG_ERROR: `Ok` is an acknowledgement.
    pub fn error(&self) -> Option<io::Result<()>> {
        if i32::from(self.kind) != libc::NLMSG_ERROR {
            return None;
        }
        let number = i32::from_ne_bytes(self.payload.get(0..4)?.try_into().ok()?);
        Some(if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(number.saturating_neg())) })
    }

    /// Whether it is the message `kind` of `subsystem`.
    pub fn is(&self, subsystem: u8, kind: u8) -> bool {
        self.kind == u16::from_be_bytes([subsystem, kind])
    }

    /// The family that it is about, `NFPROTO_*`.
    pub fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes_behind(FAMILY_HEADER)
    }

    /// Its attributes, where it is none of netfilter's and has a longer header of its own: so many bytes.
    pub fn attributes_behind(&self, header: usize) -> Attributes<'a> {
        Attributes(self.payload.get(header..).unwrap_or_default())
    }
}

/// A run of attributes.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes that stand inside an attribute's value.
    pub fn inside(value: &'a [u8]) -> Self {
        Attributes(value)
    }

    /// The value of the first attribute of that type.
    pub fn value(self, kind: u16) -> Option<&'a [u8]> {
        let mut rest = self;
        rest.find_map(|(k, value)| (k == kind).then_some(value))
    }

    /// The attributes inside the first attribute of that type.
    pub fn nest(self, kind: u16) -> Option<Attributes<'a>> {
        self.value(kind).map(Attributes)
    }

    /// A 16-bit number in network order.
    pub fn be16(self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.value(kind)?.try_into().ok()?))
    }

    /// A 32-bit number in network order.
    pub fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.value(kind)?.try_into().ok()?))
    }

    /// A 64-bit number in network order.
    pub fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.value(kind)?.try_into().ok()?))
    }

    /// A string, without its NUL.
    pub fn string(self, kind: u16) -> Option<String> {
        let bytes = self.value(kind)?;
        Some(String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let nest = Nest::default().attribute(1, &[1, 2, 3]).attribute(2, &7_u16.to_be_bytes());
        let bytes = Request::new(10, 15, 1, 0).string(3, "ftpalg").nest(4, &nest).finish(9);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(u32::from_ne_bytes(bytes[0..4].try_into().unwrap()) as usize, bytes.len());
        let message = Message::parse(&bytes).unwrap();
        assert!(message.is(10, 15));
        assert_eq!((message.sequence, message.flags), (9, 1));
        assert_eq!(message.attributes().string(3).as_deref(), Some("ftpalg"));
        let inside = message.attributes().nest(4).unwrap();
        assert_eq!(inside.value(1), Some(&[1, 2, 3][..]));
        assert_eq!(inside.be16(2), Some(7));
        assert_eq!(inside.be32(2), None);
    }

    #[test]
    fn attributes_that_lie_about_their_length_end_the_list() {
        for bytes in [&[0, 0, 1, 0][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 1, 1, 1], &[4, 0, 1]] {
            assert_eq!(Attributes::inside(bytes).next(), None);
        }
    }
}
