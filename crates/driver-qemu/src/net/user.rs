//! Networking without root: QEMU's user-mode network, one for each card.
//!
//! A guest gets the address of its port by QEMU's own DHCP server and reaches out through the agent's host; nothing
//! reaches it, guests do not see each other, and security groups are not enforced. `mainstay dev` uses it when it is
//! not root, and says so.

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use driver::{DriverError, NetworkId, NetworkState, Nic, PortId};
use ipnet::IpNet;

use super::{Card, Net, Plugged};

#[derive(Default)]
pub(crate) struct UserNet {
    networks: parking_lot::Mutex<BTreeMap<NetworkId, NetworkState>>,
}

#[async_trait]
impl Net for UserNet {
    fn describe(&self) -> &'static str {
        "user mode: guests reach out, nothing reaches them, security groups are not enforced"
    }

    fn serves_metadata(&self) -> bool {
        false
    }

    async fn ensure(&self, network: &NetworkState) -> Result<(), DriverError> {
        let mut networks = self.networks.lock();
        if networks.get(&network.spec.id).is_none_or(|known| known.version <= network.version) {
            networks.insert(network.spec.id, network.clone());
        }
        Ok(())
    }

    async fn remove(&self, network: NetworkId) -> Result<(), DriverError> {
        self.networks.lock().remove(&network);
        Ok(())
    }

    async fn plug(&self, nic: &Nic) -> Result<Card, DriverError> {
        let networks = self.networks.lock();
        let network = networks
            .get(&nic.network)
            .ok_or_else(|| DriverError::Failed(format!("the network {} was not made on this node", nic.network)))?;
        Ok(Card::User(options(network, nic.port)))
    }

    async fn unplug(&self, _network: NetworkId, _port: PortId) -> Result<(), DriverError> {
        Ok(())
    }

    async fn found(&self) -> Result<Plugged, DriverError> {
        Ok(Plugged { networks: self.networks.lock().keys().copied().collect(), taps: None })
    }
}

/// Options that make QEMU's DHCP server give exactly the port's first IPv4 address.
fn options(network: &NetworkState, port: PortId) -> String {
    let addresses = network.ports.iter().find(|known| known.id == port).map_or(&[][..], |known| &known.addresses[..]);
    let mut out = String::new();
    for subnet in &network.spec.subnets {
        let own = addresses.iter().map(IpNet::addr).find(|address| subnet.cidr.contains(address));
        match (subnet.cidr, subnet.gateway, own) {
            (IpNet::V4(cidr), gateway, Some(IpAddr::V4(own))) if !out.contains(",net=") => {
                // QEMU's end must be in the range and must not be the guest.
                let host = match gateway {
                    Some(IpAddr::V4(gateway)) => Some(gateway),
                    Some(IpAddr::V6(_)) | None => cidr.hosts().find(|host| *host != own),
                };
                let dns = cidr.hosts().rfind(|one| *one != own && Some(*one) != host);
                if let (Some(host), Some(dns)) = (host, dns) {
                    out.push_str(&format!(",net={},host={host},dns={dns},dhcpstart={own}", cidr.trunc()));
                }
            }
            (IpNet::V6(cidr), gateway, Some(IpAddr::V6(_)))
                if cidr.prefix_len() == 64 && !out.contains(",ipv6-net=") =>
            {
                out.push_str(&format!(",ipv6-net={}", cidr.trunc()));
                if let Some(IpAddr::V6(gateway)) = gateway {
                    out.push_str(&format!(",ipv6-host={gateway}"));
                }
            }
            (IpNet::V4(_) | IpNet::V6(_), _, _) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::{network, spec};

    #[test]
    fn a_guest_gets_the_address_of_its_port() {
        let nic = spec().nics[0].clone();
        let options = options(&network(&nic), nic.port);
        assert_eq!(
            options,
            ",net=10.9.0.0/24,host=10.9.0.1,dns=10.9.0.254,dhcpstart=10.9.0.5,ipv6-net=fd00:9::/64,ipv6-host=fd00:9::1"
        );
    }
}
