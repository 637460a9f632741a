//! Networks, subnets, ports, security groups and routers: what they are, who may do what to them, and what a node
//! must do about them.
//!
//! Everything that decides is a plain function from a [`store::Reader`] to a [`store::Txn`]: it reads one state, checks
//! the rules, and says what has to hold and what changes. Two shells use these functions: [`Networks`], which commits
//! what the networking API asks for, and the workflow of a server, which takes [`server_ports`] into its own
//! manifest, so that capacity, addresses and ports are claimed in one commit or not at all.
//!
//! How races are decided:
//!  - Addresses and hardware addresses are keys that must be absent (`addr/<subnet>/<ip>`, `mac/<network>/<mac>`),
//!    chosen from the view minus the picks of this process that are in flight ([`picks`]). An address that is derived
//!    from a port's hardware address (SLAAC) needs no key: it is as unique as that.
//!  - Each change of a network's ports moves the counter `net-use/<network>`, and each change of a project's ports the
//!    counter of its port quota. So a deletion that has found no user of a network, subnet or group names that
//!    counter's revision, and a port made meanwhile makes it decide again. Creating ports conflicts with nothing.
//!  - Subnets of one network exclude each other through the network's record, interfaces of one router through the
//!    router's.
//!
//! Deliberately absent: HTTP, JSON, and every device of a node (crates `api-network` and `node-net`).

pub mod address;
pub mod affected;
mod bootstrap;
mod cloud;
mod error;
pub mod group;
pub mod keys;
pub mod model;
mod name;
pub mod network;
pub mod node;
pub mod picks;
pub mod plan;
pub mod port;
pub mod quota;
pub mod router;
mod server;
mod stored;
pub mod subnet;
#[cfg(test)]
mod tests;

pub use bootstrap::SHARED_NETWORK;
pub use cloud::Networks;
pub use error::{Kind, NetError};
pub use keys::indexes;
pub use model::{
    AllowedPair, FixedIp, Holder, Ipv6Mode, Network, Port, Remote, Router, RuleDirection, SecurityGroup, SecurityRule,
    Standard, Subnet,
};
pub use name::{GroupId, Mac, NetworkId, PortId, ProjectId, RouterId, RuleId, SubnetId};
pub use picks::{Picked, Picks};
pub use plan::{Plan, Who};
pub use server::{
    PortRequest, ServerNeeds, check_requests, claim_ports, default_network, ports_of, release_ports, return_ports,
    server_ports,
};
