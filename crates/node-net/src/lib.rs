//! Networks on one Linux node: what a [`NetworkState`] describes, made real.
//!
//! How to think of it. Each network has a network namespace of its own, and in it a bridge on which the taps of its
//! ports are; gateway addresses and the node's services (DHCP, router advertisements, metadata) live on that bridge.
//! Networks cannot see each other there, so two may use the same addresses. A router is a namespace too, with a leg
//! into each network that it joins. What a guest may send and receive is decided by the rules of the namespace
//! (`rules.rs`), which know a guest by its tap and by nothing that the guest says.
//!
//! Everything is an *ensure*: it compares with what is there and does only what is missing. Nothing is recorded on
//! disk; names follow from ids, so whatever a crash left is found by name and adopted, completed or removed. Guests
//! keep their taps while this process is away; only DHCP, advertisements and metadata pause. After a restart the
//! caller ensures each network again.
//!
//! Calls block for some tens of milliseconds, as they run `ip` and `nft`: they belong on a thread that may block.
//! Calls for different networks may run side by side.
//!
//! Not here: which ports, addresses and rules there should be (the cloud decides that), links to other nodes, and any
//! change to devices of the machine that this agent did not make: several agents of a cell may share it, each with a part
//! of every network of its own.

mod advert;
mod devices;
mod dhcp;
mod error;
mod host;
mod metadata;
mod names;
mod node;
mod plan;
mod router;
mod rules;
mod service;
mod space;
mod sys;
mod tools;

#[cfg(test)]
mod tests;

use driver::{NetworkId, PortId};
use ipnet::IpNet;
use names::Tag;

pub use error::NetError;
pub use node::NodeNet;

#[cfg(doc)]
use driver::NetworkState;

/// What [`NodeNet::open`] needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Tells this cell's devices from those of other cells on the machine: 1 to 4 lower-case letters or digits. It
    /// must stay the same for as long as the cell's home does.
    pub tag: String,
    /// Tells this agent's devices from those of the cell's other agents on the machine: the name of its node. `None`: it
    /// is alone, or the first of them. It must stay the same for as long as the node does, since guests hold on to their
    /// devices.
    pub node: Option<String>,
}

/// A network that exists on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundNetwork {
    /// Which one.
    pub id: NetworkId,
    /// The ports that have a tap on it.
    pub taps: Vec<PortId>,
}

/// The ranges that this machine has or reaches already: a network that the host is to reach must not share an address
/// with any of them. Default routes are not among them. Needs no root.
pub fn reached_by_host() -> Result<Vec<IpNet>, NetError> {
    host::reached()
}

/// Removes all namespaces and links that agents of the cell with this tag made, whatever they are. For taking a cell
/// down; its guests and its agents have ended before.
pub fn destroy_all(tag: &str) -> Result<(), NetError> {
    let alone = node::parse_tag(&Config { tag: tag.to_string(), node: None })?;
    let namespaces: Vec<(String, Tag)> =
        space::list()?.into_iter().filter_map(|name| Tag::owner_of(tag, &name).map(|owner| (name, owner))).collect();
    let owns = |link: &String| alone.owns_link(link) || namespaces.iter().any(|(_, owner)| owner.owns_link(link));
    for link in tools::links(None)?.into_keys().filter(owns) {
        host::remove(&link)?;
    }
    for (namespace, _) in namespaces {
        space::remove(&namespace)?;
    }
    Ok(())
}
