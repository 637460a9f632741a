//! What a guest is told over DHCP (IPv4): a pure function of its port and its question.
//!
//! There are no leases to keep: the port says what the address is, so the same question always has the same answer,
//! also after a restart. The port is known by the tap that the question came from (the caller passes it); what the
//! guest says about itself only decides whether the answer is yes or no.
//!
//! Not here: DHCPv6, and boot from the network.

mod packet;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

pub(crate) use packet::{Kind, Message};

use crate::names::{METADATA, Mac};

/// How long an address may be used without asking again. Long, because it never changes while the port lives.
const LEASE_SECONDS: u32 = 86_400;

/// What one port is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) mac: Mac,
    pub(crate) address: Ipv4Net,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) dns: Vec<Ipv4Addr>,
    pub(crate) routes: Vec<(Ipv4Net, Ipv4Addr)>,
    pub(crate) mtu: u16,
    pub(crate) host_name: String,
}

/// An answer and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// `None`: to everyone, which the bridge's rules narrow to the one tap.
    pub(crate) to: Option<Ipv4Addr>,
}

/// Answers `question`, which came from the tap of the port that `lease` describes. `None`: nothing is to be said.
pub(crate) fn answer(lease: &Lease, question: &[u8]) -> Option<Answer> {
    let question = Message::parse(question)?;
    if question.mac != lease.mac {
        return None;
    }
    let unset = Ipv4Addr::UNSPECIFIED;
    let configured = (question.client != unset).then_some(question.client);
    match question.kind {
        Kind::Discover => Some(give(lease, &question, Kind::Offer, None)),
        Kind::Request => {
            if question.server.is_some_and(|server| server != METADATA) {
                return None;
            }
            let wanted = question.requested.or(configured)?;
            if wanted == lease.address.addr() {
                Some(give(lease, &question, Kind::Ack, configured))
            } else {
                Some(Answer {
                    bytes: question.reply(Kind::Nak, unset).option(54, &METADATA.octets()).finish(),
                    to: None,
                })
            }
        }
        Kind::Inform => {
            let reply = question.reply(Kind::Ack, unset);
            Some(Answer { bytes: settings(lease, reply).finish(), to: configured })
        }
        // There is nothing to give back, and a guest that finds its address taken is told the same one again: only
        // the person who placed a second user of it can help.
        Kind::Release | Kind::Decline => None,
        Kind::Offer | Kind::Ack | Kind::Nak => None,
    }
}

fn give(lease: &Lease, question: &Message, kind: Kind, to: Option<Ipv4Addr>) -> Answer {
    let reply = question
        .reply(kind, lease.address.addr())
        .option(51, &LEASE_SECONDS.to_be_bytes())
        .option(58, &(LEASE_SECONDS / 2).to_be_bytes())
        .option(59, &(LEASE_SECONDS / 8 * 7).to_be_bytes());
    Answer { bytes: settings(lease, reply).finish(), to }
}

/// All that is independent of how long the address may be used.
fn settings(lease: &Lease, reply: packet::Reply) -> packet::Reply {
    let mut reply = reply
        .option(54, &METADATA.octets())
        .option(1, &lease.address.netmask().octets())
        .option(28, &lease.address.broadcast().octets())
        .option(26, &lease.mtu.to_be_bytes());
    if let Some(gateway) = lease.gateway {
        reply = reply.option(3, &gateway.octets());
    }
    let dns: Vec<u8> = lease.dns.iter().flat_map(Ipv4Addr::octets).collect();
    let name: Vec<u8> = lease.host_name.bytes().take(255).collect();
    reply.option(6, &dns).option(12, &name).option(121, &routes(lease))
}

/// The classless routes. A guest that reads them ignores option 3, so the default route is among them.
fn routes(lease: &Lease) -> Vec<u8> {
    let metadata = (Ipv4Net::from(METADATA), lease.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED));
    let default = lease.gateway.map(|gateway| (Ipv4Net::default(), gateway));
    let mut bytes = Vec::new();
    for (net, hop) in std::iter::once(metadata).chain(lease.routes.iter().copied()).chain(default) {
        let significant = usize::from(net.prefix_len().div_ceil(8));
        bytes.push(net.prefix_len());
        bytes.extend_from_slice(&net.network().octets()[..significant]);
        bytes.extend_from_slice(&hop.octets());
    }
    bytes
}

#[cfg(test)]
mod tests;
