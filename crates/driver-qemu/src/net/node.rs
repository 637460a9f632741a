//! Networking as root: namespaces, taps and services of the crate `node-net`, whose calls block.

use std::sync::Arc;

use async_trait::async_trait;
use driver::{DriverError, NetworkId, NetworkState, Nic, PortId};
use node_net::{NetError, NodeNet};

use super::{Card, Net, Plugged};
use crate::layout::off_thread;

pub(crate) struct NodeNetworks {
    node: Arc<NodeNet>,
}

impl NodeNetworks {
    pub(crate) fn open(config: &node_net::Config) -> Result<NodeNetworks, NetError> {
        Ok(NodeNetworks { node: Arc::new(NodeNet::open(config)?) })
    }

    async fn on<T: Send + 'static>(
        &self,
        what: &str,
        act: impl FnOnce(&NodeNet) -> Result<T, NetError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let node = Arc::clone(&self.node);
        off_thread(what, move || act(&node).map_err(DriverError::from)).await
    }
}

#[async_trait]
impl Net for NodeNetworks {
    fn describe(&self) -> &'static str {
        "a namespace for each network, a filtered tap for each port"
    }

    fn serves_metadata(&self) -> bool {
        true
    }

    async fn ensure(&self, network: &NetworkState) -> Result<(), DriverError> {
        let network = network.clone();
        self.on("make a network", move |node| node.ensure(&network)).await
    }

    async fn remove(&self, network: NetworkId) -> Result<(), DriverError> {
        self.on("remove a network", move |node| node.remove(network)).await
    }

    async fn plug(&self, nic: &Nic) -> Result<Card, DriverError> {
        let (network, port) = (nic.network, nic.port);
        self.on("plug a port", move |node| node.plug(network, port)).await.map(Card::Tap)
    }

    async fn unplug(&self, network: NetworkId, port: PortId) -> Result<(), DriverError> {
        self.on("unplug a port", move |node| node.unplug(network, port)).await
    }

    async fn found(&self) -> Result<Plugged, DriverError> {
        let found = self.on("look at networks", NodeNet::found).await?;
        Ok(Plugged {
            networks: found.iter().map(|network| network.id).collect(),
            taps: Some(found.into_iter().flat_map(|network| network.taps).collect()),
        })
    }
}
