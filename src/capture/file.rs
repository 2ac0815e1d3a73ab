//! Reads pcap and pcapng files, a packet at a time, in bounded memory.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, InterfaceDescriptionBlock, PcapBlockOwned, PcapError, PcapHeader, create_reader};

use super::LinkType;

/// Room for a block: more than the longest packet that libpcap takes (`MAXIMUM_SNAPLEN`, 262,144).
const ROOM: usize = 1 << 20;

/// The last moment that is taken for one, the end of the year 9999: later ones are no capture's.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// How many interfaces a section of a pcapng file may have.
const MOST_INTERFACES: usize = 4096;

/// Why a capture can't be read (on).
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct CaptureError {
    path: PathBuf,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Io(io::Error),
    Pipe,
    Empty,
    NoCapture,
    /// Behind so many packets.
    Damaged(u64, &'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("no such file: name a capture, as tcpdump -w writes it")
            }
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                f.write_str("no permission to read it: let your user read it, or run this as root")
            }
            Self::Io(error) if error.kind() == io::ErrorKind::IsADirectory => {
                f.write_str("it is a directory: name the capture in it")
            }
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Pipe => f.write_str("it is no file: captures are read twice, so store it in one first"),
            Self::Empty => {
                f.write_str("the file is empty: tcpdump writes with delay, -U makes it write at once")
            }
            Self::NoCapture => f.write_str(
                "found neither a pcap nor a pcapng file: unpack it if it is packed, \
                 or write the capture with tcpdump -w",
            ),
            Self::Damaged(packets, what) => {
                write!(f, "packet {}: {what}: what stands before it was read", packets + 1)
            }
        }
    }
}

/// How finely a file's clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    Micro,
    Nano,
}

/// A packet as it was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Counted from 1, as Wireshark and `tcpdump --number` do.
    pub number: u64,
    /// When (time since 1970, UTC).
    pub at: Duration,
    /// What the bytes begin with.
    pub link: LinkType,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many there were on the wire.
    pub length: usize,
}

/// An interface of a pcapng file.
#[derive(Debug, Clone, Copy)]
struct Interface {
    link: LinkType,
    /// Ticks a second.
    ticks: u64,
    /// Seconds to be added.
    offset: i64,
    snap_length: u32,
}

/// A capture file, as far as it has been read.
pub struct File {
    path: PathBuf,
    reader: Box<dyn PcapReaderIterator>,
    /// Of a pcap file.
    header: Option<PcapHeader>,
    /// Of a pcapng file's section.
    interfaces: Vec<Interface>,
    packets: u64,
    resolution: Resolution,
    ends_early: bool,
}

impl File {
    /// Opens one.
    ///
    /// # Errors
    /// It can't be read, or is no capture.
    pub fn open(path: &Path) -> Result<File, CaptureError> {
        let error = |fault| CaptureError { path: path.to_owned(), fault };
        let file = fs::File::open(path).map_err(|source| error(Fault::Io(source)))?;
        let meta = file.metadata().map_err(|source| error(Fault::Io(source)))?;
        if meta.is_dir() {
            return Err(error(Fault::Io(io::ErrorKind::IsADirectory.into())));
        }
        if !meta.is_file() {
            return Err(error(Fault::Pipe));
        }
        if meta.len() == 0 {
            return Err(error(Fault::Empty));
        }
        let reader = create_reader(ROOM, file).map_err(|_| error(Fault::NoCapture))?;
        Ok(File {
            path: path.to_owned(),
            reader,
            header: None,
            interfaces: Vec::new(),
            packets: 0,
            resolution: Resolution::Micro,
            ends_early: false,
        })
    }

    /// How finely the clock of what was read so far ticks.
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Whether the file ended within a packet: its writer was not done.
    pub fn ends_early(&self) -> bool {
        self.ends_early
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// The file is damaged, or can't be read on.
    pub fn next(&mut self) -> Result<Option<Frame>, CaptureError> {
        loop {
            let (taken, frame) = match self.reader.next() {
                Ok((length, block)) => {
                    let frame = match &block {
                        PcapBlockOwned::LegacyHeader(header) => {
                            if header.is_nanosecond_precision() {
                                self.resolution = Resolution::Nano;
                            }
                            self.header = Some(header.clone());
                            Ok(None)
                        }
                        PcapBlockOwned::Legacy(packet) => {
                            Ok(self.header.as_ref().map(|header| legacy(header, packet)))
                        }
                        PcapBlockOwned::NG(block) => {
                            self.resolution = Resolution::Nano;
                            section(&mut self.interfaces, block)
                        }
                    };
                    (length, frame)
                }
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::UnexpectedEof) => {
                    self.ends_early = true;
                    return Ok(None);
                }
                Err(PcapError::Incomplete(_)) => {
                    if self.reader.refill().is_err() {
                        return Err(self.damaged("it cannot be read"));
                    }
                    continue;
                }
                Err(PcapError::BufferTooSmall) => {
                    return Err(self.damaged("it claims to be longer than any packet is"));
                }
                Err(PcapError::ReadError) => return Err(self.damaged("it cannot be read")),
                Err(_) => return Err(self.damaged("the file is damaged here")),
            };
            // A length of nothing would come again and again.
            let frame =
                frame.and_then(|frame| if taken == 0 { Err("the file is damaged here") } else { Ok(frame) });
            self.reader.consume(taken);
            match frame {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    self.packets += 1;
                    return Ok(Some(Frame { number: self.packets, ..frame }));
                }
                Err(what) => return Err(self.damaged(what)),
            }
        }
    }

    fn damaged(&self, what: &'static str) -> CaptureError {
        CaptureError { path: self.path.clone(), fault: Fault::Damaged(self.packets, what) }
    }
}

fn legacy(header: &PcapHeader, packet: &pcap_parser::LegacyPcapBlock<'_>) -> Frame {
    let nanos = if header.is_nanosecond_precision() {
        u64::from(packet.ts_usec)
    } else {
        u64::from(packet.ts_usec) * 1000
    };
    // The upper bits say whether frame check sequences were kept (draft-ietf-opsawg-pcap, section 4).
    let link = LinkType(u16::try_from(header.network.0 & 0xffff).unwrap_or(u16::MAX));
    Frame {
        number: 0,
        at: moment(Duration::from_secs(packet.ts_sec.into()) + Duration::from_nanos(nanos)),
        link,
        bytes: packet.data.to_vec(),
        length: usize::try_from(packet.origlen).unwrap_or(usize::MAX).max(packet.data.len()),
    }
}

/// A block of a pcapng file.
fn section(interfaces: &mut Vec<Interface>, block: &Block<'_>) -> Result<Option<Frame>, &'static str> {
    const UNKNOWN: &str = "it belongs to an interface that the file does not describe";
    match block {
        Block::SectionHeader(_) => interfaces.clear(),
        Block::InterfaceDescription(described) => {
            if interfaces.len() >= MOST_INTERFACES {
                return Err("more interfaces than any host has stand before it");
            }
            interfaces.push(interface(described));
        }
        Block::EnhancedPacket(packet) => {
            let number = usize::try_from(packet.if_id).unwrap_or(usize::MAX);
            let interface = interfaces.get(number).ok_or(UNKNOWN)?;
            let ticks = (u64::from(packet.ts_high) << 32) | u64::from(packet.ts_low);
            let length = usize::try_from(packet.origlen).unwrap_or(usize::MAX);
            return Ok(Some(interface.frame(interface.moment(ticks), packet.packet_data(), length)));
        }
        Block::SimplePacket(packet) => {
            let interface = interfaces.first().ok_or(UNKNOWN)?;
            let length = usize::try_from(packet.origlen).unwrap_or(usize::MAX);
            let snap = match interface.snap_length {
                0 => usize::MAX,
                snap => usize::try_from(snap).unwrap_or(usize::MAX),
            };
            let data = packet.packet_data();
            let data = data.get(..length.min(snap)).unwrap_or(data);
            // It has no time.
            return Ok(Some(interface.frame(Duration::ZERO, data, length)));
        }
        _ => {}
    }
    Ok(None)
}

fn interface(described: &InterfaceDescriptionBlock<'_>) -> Interface {
    Interface {
        link: LinkType(u16::try_from(described.linktype.0).unwrap_or(u16::MAX)),
        ticks: described.ts_resolution().filter(|ticks| *ticks > 0).unwrap_or(1_000_000),
        offset: described.ts_offset(),
        snap_length: described.snaplen,
    }
}

impl Interface {
    fn moment(&self, ticks: u64) -> Duration {
        let seconds = (ticks / self.ticks).saturating_add_signed(self.offset);
        let nanos = u128::from(ticks % self.ticks) * 1_000_000_000 / u128::from(self.ticks);
        moment(Duration::new(seconds, u32::try_from(nanos).unwrap_or(0)))
    }

    fn frame(&self, at: Duration, data: &[u8], length: usize) -> Frame {
        Frame { number: 0, at, link: self.link, bytes: data.to_vec(), length: length.max(data.len()) }
    }
}

/// No later than there can be a moment: others count with it.
fn moment(at: Duration) -> Duration {
    at.min(LATEST)
}
