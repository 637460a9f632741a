//! How a port's addresses are found: what was asked for, or one of each IP version that the network has.

use std::net::IpAddr;

use store::Revision;

use crate::address;
use crate::error::NetError;
use crate::keys;
use crate::model::{FixedIp, Network, Subnet};
use crate::name::{Mac, SubnetId};
use crate::plan::Plan;

/// Addresses of one port. Each is an operation of the transaction that makes the port.
pub const FIXED_IPS_MAX: usize = 8;

/// An address that a port is to have: of a subnet, or this one, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedIp {
    /// Of this subnet.
    pub subnet: Option<SubnetId>,
    /// This one.
    pub address: Option<IpAddr>,
}

/// How a port's addresses are found.
pub(super) struct Wanted<'a> {
    pub(super) network: &'a Network,
    pub(super) subnets: &'a [(Subnet, Revision)],
    pub(super) mac: Mac,
    pub(super) router: bool,
    /// What the port has already and may keep.
    pub(super) kept: &'a [FixedIp],
}

impl Wanted<'_> {
    /// One IPv4 address, one IPv6 address that is chosen, and one of each range whose addresses are derived.
    pub(super) fn by_default(&mut self, plan: &mut Plan<'_>) -> Result<Vec<FixedIp>, NetError> {
        let mut found = Vec::new();
        for version in [4, 6] {
            let of_version: Vec<&Subnet> = self
                .subnets
                .iter()
                .map(|(subnet, _)| subnet)
                .filter(|subnet| subnet.ip_version() == version && !subnet.derives_addresses())
                .collect();
            if of_version.is_empty() {
                continue;
            }
            let chosen = of_version.iter().find_map(|subnet| {
                choose(plan, self.network, subnet).map(|address| FixedIp { subnet: subnet.id, address })
            });
            found.push(chosen.ok_or_else(|| NetError::NoAddress(format!("network {}", self.network.id)))?);
        }
        if !self.router {
            self.add_derived(&mut found)?;
        }
        Ok(found)
    }

    pub(super) fn add_derived(&self, found: &mut Vec<FixedIp>) -> Result<(), NetError> {
        for (subnet, _) in self.subnets.iter().filter(|(subnet, _)| subnet.derives_addresses()) {
            if let Some(address) = address::derived(&subnet.cidr, self.mac)
                && !found.iter().any(|fixed| fixed.subnet == subnet.id)
            {
                found.push(FixedIp { subnet: subnet.id, address });
            }
        }
        check_count(found.len())
    }

    /// What `list` asks for.
    pub(super) fn all(&mut self, plan: &mut Plan<'_>, list: &[WantedIp]) -> Result<Vec<FixedIp>, NetError> {
        check_count(list.len())?;
        let mut found: Vec<FixedIp> = Vec::new();
        // Who names an address gets it before somebody else's is chosen.
        for wanted in list.iter().filter(|wanted| wanted.address.is_some()) {
            let fixed = self.named(plan, wanted)?;
            if found.contains(&fixed) {
                return Err(NetError::Invalid("Invalid input for fixed_ips. Reason: Duplicate IP address.".into()));
            }
            found.push(fixed);
        }
        for wanted in list.iter().filter(|wanted| wanted.address.is_none()) {
            let Some(id) = wanted.subnet else {
                return Err(NetError::Invalid("fixed_ips: an entry needs subnet_id or ip_address.".into()));
            };
            let subnet = self.subnet(&id)?;
            let kept = self.kept.iter().find(|kept| kept.subnet == id && !found.contains(kept));
            let address = match kept {
                Some(kept) => Some(kept.address),
                None if subnet.derives_addresses() => address::derived(&subnet.cidr, self.mac),
                None => choose(plan, self.network, subnet),
            };
            let address = address.ok_or_else(|| NetError::NoAddress(format!("subnet {id}")))?;
            found.push(FixedIp { subnet: id, address });
        }
        Ok(found)
    }

    fn named(&self, plan: &mut Plan<'_>, wanted: &WantedIp) -> Result<FixedIp, NetError> {
        let address = wanted.address.ok_or_else(|| NetError::Invalid("fixed_ips: an ip_address is missing.".into()))?;
        let subnet = match &wanted.subnet {
            Some(id) => self.subnet(id)?,
            None => {
                let holding = self.subnets.iter().map(|(subnet, _)| subnet).find(|s| s.cidr.contains(&address));
                holding.ok_or_else(|| {
                    NetError::Invalid(format!(
                        "IP address {address} is not a valid IP for any of the subnets on the network {}.",
                        self.network.id
                    ))
                })?
            }
        };
        let fixed = FixedIp { subnet: subnet.id, address };
        if self.kept.contains(&fixed) {
            return Ok(fixed);
        }
        if !address::is_host(&subnet.cidr, address) {
            let text = format!("IP address {address} is not a valid IP for the specified subnet {}.", subnet.cidr);
            return Err(NetError::Invalid(text));
        }
        if subnet.derives_addresses() && !self.router {
            if address::derived(&subnet.cidr, self.mac) == Some(address) {
                return Ok(fixed);
            }
            let text = format!(
                "IPv6 address {address} can not be directly assigned to a port on subnet {}: its addresses follow from \
                 hardware addresses.",
                subnet.id
            );
            return Err(NetError::Invalid(text));
        }
        let reserved = subnet.gateway == Some(address) && !self.router;
        if reserved || self.network.host_address.map(IpAddr::V4) == Some(address) {
            return Err(NetError::AddressInUse(address));
        }
        let key = keys::address(subnet.id, address);
        if plan.reader.entry(&key).is_some() || !plan.picked.take(&key) {
            return Err(NetError::AddressInUse(address));
        }
        Ok(fixed)
    }

    fn subnet(&self, id: &SubnetId) -> Result<&Subnet, NetError> {
        let found = self.subnets.iter().map(|(subnet, _)| subnet).find(|subnet| subnet.id == *id);
        found.ok_or_else(|| {
            NetError::Invalid(format!("the subnet {id} is not on the network {} of the port", self.network.id))
        })
    }
}

fn check_count(count: usize) -> Result<(), NetError> {
    if count > FIXED_IPS_MAX {
        Err(NetError::Invalid(format!("Exceeded maximum amount of fixed ips per port: {FIXED_IPS_MAX}.")))
    } else {
        Ok(())
    }
}

/// Chooses a free address of the subnet's pools, and holds it.
fn choose(plan: &mut Plan<'_>, network: &Network, subnet: &Subnet) -> Option<IpAddr> {
    let (reader, world, picked) = (plan.reader, plan.world, &mut plan.picked);
    let host = network.host_address.map(IpAddr::V4);
    address::choose(
        &subnet.pools,
        |below| world.random_below(below),
        |address| {
            let key = keys::address(subnet.id, address);
            Some(address) != host && reader.entry(&key).is_none() && picked.take(&key)
        },
    )
}
