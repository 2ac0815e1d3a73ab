//! Writes pcap files (draft-ietf-opsawg-pcap).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{LinkType, Resolution};

/// Of files whose clock counts microseconds, and nanoseconds.
const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
const MAGIC_NANO: u32 = 0xa1b2_3c4d;
/// The longest packet that libpcap reads.
const SNAP_LENGTH: u32 = 262_144;

/// Why a capture can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What the kernel says.
    #[error("{}: it cannot be written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// Interfaces of different kinds.
    #[error(
        "{}: packet {number} is {link}, those before it are {before}: a pcap file holds one kind; \
         capture one interface, or all with -i any",
        path.display()
    )]
    OtherLink {
        /// The file.
        path: PathBuf,
        /// The packet in the capture that is read.
        number: u64,
        /// What it is.
        link: LinkType,
        /// What others were.
        before: LinkType,
    },
}

/// A file that is written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    /// Once the header was written.
    begun: Option<(LinkType, Resolution)>,
}

impl Writer {
    /// Makes or empties a file.
    pub fn create(path: &Path) -> Result<Writer, WriteError> {
        let file = File::create(path).map_err(|source| WriteError::Io { path: path.to_owned(), source })?;
        Ok(Writer { path: path.to_owned(), file: BufWriter::new(file), begun: None })
    }

    /// Appends packet `number` of another capture.
    pub fn packet(
        &mut self,
        number: u64,
        at: Duration,
        (link, resolution): (LinkType, Resolution),
        bytes: &[u8],
    ) -> Result<(), WriteError> {
        let (before, resolution) = match self.begun {
            Some(begun) => begun,
            None => self.begin(link, resolution)?,
        };
        if before != link {
            return Err(WriteError::OtherLink { path: self.path.clone(), number, link, before });
        }
        let fraction = match resolution {
            Resolution::Micro => at.subsec_micros(),
            Resolution::Nano => at.subsec_nanos(),
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        // The format ends in 2106.
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        self.put(&[seconds, fraction, length, length])?;
        self.all(bytes)
    }

    fn begin(
        &mut self,
        link: LinkType,
        resolution: Resolution,
    ) -> Result<(LinkType, Resolution), WriteError> {
        let magic = match resolution {
            Resolution::Micro => MAGIC_MICRO,
            Resolution::Nano => MAGIC_NANO,
        };
        self.put(&[magic])?;
        self.all(&[2_u16.to_ne_bytes(), 4_u16.to_ne_bytes()].concat())?;
        self.put(&[0, 0, SNAP_LENGTH, u32::from(link.0)])?;
        self.begun = Some((link, resolution));
        Ok((link, resolution))
    }

    fn put(&mut self, fields: &[u32]) -> Result<(), WriteError> {
        fields.iter().try_for_each(|field| self.all(&field.to_ne_bytes()))
    }

    fn all(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.file.write_all(bytes).map_err(|source| WriteError::Io { path: self.path.clone(), source })
    }

    /// Writes what is left. A file without any packet is one of Ethernet.
    pub fn finish(mut self) -> Result<(), WriteError> {
        if self.begun.is_none() {
            self.begin(LinkType::ETHERNET, Resolution::Micro)?;
        }
        self.file.flush().map_err(|source| WriteError::Io { path: self.path, source })
    }
}
