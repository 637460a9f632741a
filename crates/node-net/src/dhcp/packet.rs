//! The form of DHCP messages: reading those of clients, writing those of a server (RFC 2131, 2132, 3396).

use std::net::Ipv4Addr;

use crate::names::Mac;

/// Where the options begin, after the fixed fields and the cookie.
const OPTIONS: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Older clients drop anything shorter.
const SHORTEST: usize = 300;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Discover,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

impl Kind {
    const ALL: [Kind; 8] =
        [Kind::Discover, Kind::Offer, Kind::Request, Kind::Decline, Kind::Ack, Kind::Nak, Kind::Release, Kind::Inform];

    fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.number() == number)
    }

    fn number(self) -> u8 {
        match self {
            Kind::Discover => 1,
            Kind::Offer => 2,
            Kind::Request => 3,
            Kind::Decline => 4,
            Kind::Ack => 5,
            Kind::Nak => 6,
            Kind::Release => 7,
            Kind::Inform => 8,
        }
    }
}

/// A client's message, as far as a server needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) mac: Mac,
    /// The address that the client has and uses already.
    pub(crate) client: Ipv4Addr,
    /// Option 50.
    pub(crate) requested: Option<Ipv4Addr>,
    /// Option 54.
    pub(crate) server: Option<Ipv4Addr>,
    transaction: [u8; 4],
    flags: [u8; 2],
}

impl Message {
    /// Reads a client's message; `None` if it is none, was relayed, or is damaged.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
        let relayed = bytes.get(24..28)? != [0; 4];
        if bytes.get(..3)? != [1, 1, 6] || relayed || bytes.get(236..OPTIONS)? != COOKIE {
            return None;
        }
        let (mut kind, mut requested, mut server) = (None, None, None);
        let mut rest = &bytes[OPTIONS..];
        while let [code, after @ ..] = rest {
            match *code {
                0 => rest = after,
                255 => break,
                code => {
                    let (length, after) = after.split_first()?;
                    let value = after.get(..usize::from(*length))?;
                    rest = &after[usize::from(*length)..];
                    match code {
                        53 => kind = Kind::from_number(*value.first()?),
                        50 => requested = Some(address(value)?),
                        54 => server = Some(address(value)?),
                        _ => {}
                    }
                }
            }
        }
        Some(Message {
            kind: kind?,
            mac: Mac(bytes.get(28..34)?.try_into().ok()?),
            client: address(bytes.get(12..16)?)?,
            requested,
            server,
            transaction: bytes.get(4..8)?.try_into().ok()?,
            flags: bytes.get(10..12)?.try_into().ok()?,
        })
    }

    /// Begins the answer to this message, which gives the client `address` (unspecified: none).
    pub(crate) fn reply(&self, kind: Kind, address: Ipv4Addr) -> Reply {
        let mut bytes = vec![0u8; OPTIONS];
        bytes[..4].copy_from_slice(&[2, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&self.transaction);
        bytes[10..12].copy_from_slice(&self.flags);
        if kind != Kind::Nak {
            bytes[12..16].copy_from_slice(&self.client.octets());
        }
        bytes[16..20].copy_from_slice(&address.octets());
        bytes[28..34].copy_from_slice(&self.mac.0);
        bytes[236..].copy_from_slice(&COOKIE);
        Reply { bytes }.option(53, &[kind.number()])
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

/// A server's message that is being written.
pub(crate) struct Reply {
    bytes: Vec<u8>,
}

impl Reply {
    /// Adds an option; nothing if it is empty. One that is too long for its length byte is continued in further ones
    /// with the same code.
    pub(crate) fn option(mut self, code: u8, value: &[u8]) -> Reply {
        for part in value.chunks(255) {
            let length = u8::try_from(part.len()).expect("chunks(255) yields at most 255 bytes");
            self.bytes.extend_from_slice(&[code, length]);
            self.bytes.extend_from_slice(part);
        }
        self
    }

    /// The finished message.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(255);
        self.bytes.resize(self.bytes.len().max(SHORTEST), 0);
        self.bytes
    }
}
