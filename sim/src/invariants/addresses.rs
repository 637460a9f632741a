//! Every claimed address and hardware address belongs to a port that has it, and the other way round; every port belongs
//! to a server that is built.
//!
//! An address without its port is lost to everybody; a port without its server keeps its address for ever.

use std::collections::BTreeMap;

use networks::keys;
use servers::VmState;
use store::{Key, KeyRange};

use super::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut wanted: BTreeMap<Key, String> = BTreeMap::new();
    for port in &scene.ports {
        wanted.insert(keys::mac(port.network, port.mac), port.id.to_string());
        for fixed in &port.fixed_ips {
            let subnet = scene.subnets.iter().find(|subnet| subnet.id == fixed.subnet);
            if subnet.is_some_and(|subnet| !subnet.derives_addresses()) {
                wanted.insert(keys::address(fixed.subnet, fixed.address), port.id.to_string());
            }
        }
        let server = port.server().and_then(|guest| scene.servers.get(&guest));
        if server
            .is_none_or(|server| matches!(server.state, VmState::Building | VmState::Error) && server.node.is_none())
        {
            complaints.push(format!("the port {} has no server", port.id));
        }
    }
    for prefix in ["addr/", "mac/"] {
        for (key, _) in scene.reader.range(KeyRange::prefix(prefix.as_bytes())) {
            if wanted.remove(key).is_none() {
                complaints.push(format!("{key} is claimed by no port"));
            }
        }
    }
    complaints.extend(wanted.iter().map(|(key, port)| format!("the port {port} uses {key} without its claim")));
    for network in &scene.networks {
        let ports = scene.ports.iter().filter(|port| port.network == network.id).count() as u64;
        scene.compare(&keys::network_use(network.id), ports, "ports", &mut complaints);
    }
    complaints
}
