//! What a driver needs of the node's network, and how it does without one.

mod node;
mod user;

use std::os::fd::OwnedFd;

use async_trait::async_trait;
use driver::{DriverError, NetworkId, NetworkState, Nic, PortId};

use crate::Networking;

/// The network that is configured.
pub(crate) fn open(networking: &Networking) -> Result<Box<dyn Net>, DriverError> {
    Ok(match networking {
        Networking::User => Box::new(user::UserNet::default()),
        Networking::Node(config) => Box::new(node::NodeNetworks::open(config)?),
    })
}

/// What a card of a guest is plugged into.
pub(crate) enum Card {
    /// A tap, to be inherited by QEMU.
    Tap(OwnedFd),
    /// QEMU's own user-mode network, with these options.
    User(String),
}

/// What exists of networks on the node.
pub(crate) struct Plugged {
    pub(crate) networks: Vec<NetworkId>,
    /// Ports with a tap; `None`: there are no taps here.
    pub(crate) taps: Option<Vec<PortId>>,
}

/// The node's network, as the driver uses it. Every method may be called again at any time.
#[async_trait]
pub(crate) trait Net: Send + Sync {
    /// For people: what kind of network this is, and what it lacks.
    fn describe(&self) -> &'static str;

    /// Whether guests reach the metadata service; without it they get a config drive, asked for or not.
    fn serves_metadata(&self) -> bool;

    async fn ensure(&self, network: &NetworkState) -> Result<(), DriverError>;

    async fn remove(&self, network: NetworkId) -> Result<(), DriverError>;

    /// The other end of a port of a network that was ensured.
    async fn plug(&self, nic: &Nic) -> Result<Card, DriverError>;

    async fn unplug(&self, network: NetworkId, port: PortId) -> Result<(), DriverError>;

    /// What of all this is on the node.
    async fn found(&self) -> Result<Plugged, DriverError>;
}
