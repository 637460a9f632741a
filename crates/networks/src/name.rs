//! What things are called: ids and hardware addresses.

use std::fmt;
use std::str::FromStr;

use world::World;

pub use driver::{GroupId, NetworkId, PortId};
pub use identity::ProjectId;

ids::uuid_id! {
    /// A subnet, as in the API.
    pub struct SubnetId;
}

ids::uuid_id! {
    /// A rule of a security group, as in the API.
    pub struct RuleId;
}

ids::uuid_id! {
    /// A router, as in the API.
    pub struct RouterId;
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address with these bytes.
    pub const fn from_bytes(bytes: [u8; 6]) -> Mac {
        Mac(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 6] {
        &self.0
    }

    /// An address of the range that clouds use for guests (`fa:16:3e`), its other half drawn from `world`.
    pub fn random(world: &World) -> Mac {
        let [a, b, c] = world.random();
        Mac([0xfa, 0x16, 0x3e, a, b, c])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Six pairs of hexadecimal digits with colons or hyphens; no group address and not all zeros.
    fn from_str(text: &str) -> Result<Mac, String> {
        let refused = || format!("'{text}' is not a valid MAC address");
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let mut bytes = [0; 6];
        if parts.len() != bytes.len() {
            return Err(refused());
        }
        for (byte, part) in bytes.iter_mut().zip(parts) {
            if part.len() != 2 {
                return Err(refused());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if bytes == [0; 6] || bytes[0] & 1 == 1 { Err(refused()) } else { Ok(Mac(bytes)) }
    }
}
