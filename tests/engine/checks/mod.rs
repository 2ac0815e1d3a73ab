//! What must hold for any input: run by the fuzz targets of fuzz/, and over their corpora by every `cargo test`.

pub mod engine;
pub mod hostile;
pub mod line;
mod oracle;
pub mod packet;
mod text;
pub mod transcript;
mod wire;

use std::net::IpAddr;

use crate::router::Site;

/// The sites of all kinds. Bits: NAT of the client, NAT of the server, IPv6.
fn site(bits: u8) -> Site {
    let (of_client, of_server) = (bits & 1 != 0, bits & 2 != 0);
    if bits & 4 == 0 { Site::new(of_client, of_server) } else { Site::new6(of_client, of_server) }
}

/// Whether the tests' policy names this address as a third party (198.51.100.0/24).
fn is_listed(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[..3] == [198, 51, 100])
}
