//! The shell: carries out, in an order that is safe to be cut anywhere, what the plan comes to.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use driver::{NetworkId, NetworkState, PortId};
use ipnet::IpNet;
use parking_lot::Mutex;

use crate::dhcp::Lease;
use crate::error::NetError;
use crate::metadata::Tree;
use crate::names::{self, BRIDGE, Tag};
use crate::plan::{Gateway, Index, Plan, PlannedPort, number_ports, v4};
use crate::router::RouterLock;
use crate::service::{Answers, Current, PortAnswers, Services, Sockets};
use crate::tools::Link;
use crate::{Config, FoundNetwork, advert, devices, host, router, rules, space, sys, tools};

/// How often a tap is tried that another process still has open: one that is just ending lets go within this.
const TAP_TRIES: u32 = 20;
const TAP_PAUSE: Duration = Duration::from_millis(25);

/// The networks of one agent on this machine.
pub struct NodeNet {
    tag: Tag,
    services: Services,
    routers: RouterLock,
    networks: Mutex<BTreeMap<NetworkId, Arc<Mutex<Network>>>>,
}

/// What this process has done for a network.
#[derive(Default)]
struct Network {
    state: Option<NetworkState>,
    numbers: BTreeMap<PortId, Index>,
    next_number: Index,
    /// The rules as they were last applied.
    rules: Option<String>,
    /// What its services answer from, while they run.
    current: Option<Arc<Current>>,
}

pub(crate) fn parse_tag(config: &Config) -> Result<Tag, NetError> {
    let Config { tag, node } = config;
    Tag::parse(tag, node.as_deref()).ok_or_else(|| {
        let node = node.as_deref().map(|node| format!(", the node's name {node:?} lower-case letters, digits and '-'"));
        let node = node.unwrap_or_default();
        NetError::Config(format!("the network tag {tag:?} must be 1 to 4 lower-case letters or digits{node}"))
    })
}

impl NodeNet {
    /// Gets ready to make networks. Changes nothing that exists, and needs the right to administer networks.
    pub fn open(config: &Config) -> Result<NodeNet, NetError> {
        let tag = parse_tag(config)?;
        space::prepare_bridge_filter()?;
        let services = Services::start().map_err(NetError::io("start the thread that serves networks"))?;
        Ok(NodeNet { tag, services, routers: RouterLock::default(), networks: Mutex::default() })
    }

    /// Makes the network as described, and its services run. A description older than the last one is ignored.
    pub fn ensure(&self, state: &NetworkState) -> Result<(), NetError> {
        let network = self.network(state.spec.id);
        let mut network = network.lock();
        if network.state.as_ref().is_some_and(|known| known.version > state.version) {
            return Ok(());
        }
        let mut next = network.next_number;
        let numbers = number_ports(&network.numbers, &mut next, &state.ports);
        // Even if the rest fails: rules with these numbers may be in force then.
        network.next_number = next;
        let plan = Plan::of(state, &numbers)?;
        self.make(&mut network, &plan)?;
        network.state = Some(state.clone());
        network.numbers = numbers;
        Ok(())
    }

    /// Services learn of new ports first and rules come before devices, so at no moment does anything pass that is not
    /// in the description.
    fn make(&self, network: &mut Network, plan: &Plan<'_>) -> Result<(), NetError> {
        host::check_ranges(&self.tag, plan)?;
        let namespace = self.tag.network(plan.id());
        let made = space::ensure(&namespace)?;
        if made {
            tracing::info!(network = %plan.id(), name = plan.spec.name, "made a network");
            // What served the network before has sockets in a namespace that is gone.
            network.current = None;
            network.rules = None;
        }
        if let Some(current) = &network.current {
            current.set(answers(plan));
        }
        space::settings(&namespace, &settings(plan))?;
        let rules = rules::network_ruleset(plan);
        if network.rules.as_ref() != Some(&rules) {
            // If it fails, or this process dies within, the old rules are all still there.
            tools::nft(&namespace, &rules)?;
            network.rules = Some(rules);
        }
        let found = tools::links(Some(&namespace))?;
        let bridge = devices::create_bridge(plan, &found);
        let new_bridge = !bridge.is_empty();
        tools::ip_batch(Some(&namespace), &bridge)?;
        // Also for one that was there: whoever made it may have been killed before this.
        space::settings(&namespace, &bridge_settings())?;
        if new_bridge {
            network.current = None;
        }
        let mut lines = devices::configure(plan, &found);
        for family in ["-4", "-6"] {
            let selection = ["dev", BRIDGE, "proto", "static"];
            let routes = if new_bridge { Vec::new() } else { tools::routes(Some(&namespace), family, &selection)? };
            lines.extend(devices::routes(plan, family == "-6", &routes));
        }
        tools::ip_batch(Some(&namespace), &lines)?;
        router::ensure_legs(&self.tag, &self.routers, &namespace, plan, &found)?;
        host::ensure(&self.tag, &namespace, plan)?;
        self.serve(network, plan, &namespace)
    }

    fn serve(&self, network: &mut Network, plan: &Plan<'_>, namespace: &str) -> Result<(), NetError> {
        if network.current.is_some() {
            return Ok(());
        }
        let failed = || NetError::io(format!("serve network {}", plan.id()));
        self.services.stop(plan.id()).map_err(failed())?;
        let sockets = Sockets::open(&space::path(namespace)).map_err(failed())?;
        let current = Current::new(answers(plan));
        self.services.serve(plan.id(), sockets, current.clone()).map_err(failed())?;
        network.current = Some(current);
        Ok(())
    }

    /// Removes all of the network from this node; nothing to do if there is nothing.
    pub fn remove(&self, id: NetworkId) -> Result<(), NetError> {
        let network = self.network(id);
        {
            let mut network = network.lock();
            let namespace = self.tag.network(id);
            self.services.stop(id).map_err(NetError::io(format!("stop serving network {id}")))?;
            *network = Network::default();
            host::remove(&self.tag.host_link(id))?;
            if space::path(&namespace).exists() {
                space::ensure(&namespace)?;
                router::remove_legs(&self.tag, &self.routers, &namespace)?;
                space::remove(&namespace)?;
                tracing::info!(network = %id, "removed a network");
            }
        }
        let mut networks = self.networks.lock();
        // Who else holds it is about to use it again.
        if Arc::strong_count(&network) == 2 {
            networks.remove(&id);
        }
        Ok(())
    }

    /// Opens the tap of a port for the one process that runs its guest, and makes it if it is not there. The network
    /// has been ensured with the port. The tap has a virtio header in front of each frame (`vnet_hdr`).
    pub fn plug(&self, id: NetworkId, port: PortId) -> Result<OwnedFd, NetError> {
        self.on_port(id, port, |namespace, planned, mtu| {
            let tap = open_tap(namespace, planned, port)?;
            self.enslave(namespace, planned, mtu)?;
            Ok(tap)
        })
    }

    /// Stands a pair of devices where the port's tap would be: its other end is `eth0` in the namespace `guest`, with
    /// the port's hardware address.
    #[cfg(test)]
    pub(crate) fn plug_veth(&self, id: NetworkId, port: PortId, guest: &str) -> Result<(), NetError> {
        self.on_port(id, port, |namespace, planned, mtu| {
            let (tap, mac) = (&planned.tap, planned.mac);
            let pair =
                format!("link add name {tap} mtu {mtu} type veth peer name eth0 address {mac} mtu {mtu} netns {guest}");
            tools::ip_batch(Some(namespace), &[pair])?;
            self.enslave(namespace, planned, mtu)
        })
    }

    fn on_port<T>(
        &self,
        id: NetworkId,
        port: PortId,
        act: impl FnOnce(&str, &PlannedPort<'_>, u16) -> Result<T, NetError>,
    ) -> Result<T, NetError> {
        let unknown = || NetError::UnknownPort { network: id, port };
        let network = self.network(id);
        let network = network.lock();
        let state = network.state.as_ref().ok_or_else(unknown)?;
        let plan = Plan::of(state, &network.numbers)?;
        let planned = plan.ports.iter().find(|planned| planned.state.id == port).ok_or_else(unknown)?;
        act(&self.tag.network(id), planned, plan.device_mtu())
    }

    fn enslave(&self, namespace: &str, port: &PlannedPort<'_>, mtu: u16) -> Result<(), NetError> {
        let line = devices::enslave(&port.tap, &Link::default(), mtu, &port.state.id.to_string());
        tools::ip_batch(Some(namespace), line.as_slice())
    }

    /// Removes the tap of a port; nothing to do if there is none. A process that has it open reads nothing any more.
    pub fn unplug(&self, id: NetworkId, port: PortId) -> Result<(), NetError> {
        let network = self.network(id);
        let _one_at_a_time = network.lock();
        let namespace = self.tag.network(id);
        let tap = names::tap(port);
        if !space::path(&namespace).exists() || !tools::links(Some(&namespace))?.contains_key(&tap) {
            return Ok(());
        }
        tools::ip_batch(Some(&namespace), &[format!("link delete dev {tap}")])
    }

    /// The agent's networks that exist on this machine, whenever they were made.
    pub fn found(&self) -> Result<Vec<FoundNetwork>, NetError> {
        let mut all = Vec::new();
        for namespace in space::list()? {
            if let Some(id) = self.tag.network_of(&namespace) {
                // One that a crash left without anything behind its name counts too: it can be removed.
                let taps = tools::links(Some(&namespace)).map(|links| devices::ports_of(&links)).unwrap_or_default();
                all.push(FoundNetwork { id, taps });
            }
        }
        Ok(all)
    }

    fn network(&self, id: NetworkId) -> Arc<Mutex<Network>> {
        self.networks.lock().entry(id).or_default().clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "waits for another process of this machine on a thread that may block")]
fn open_tap(namespace: &str, planned: &PlannedPort<'_>, port: PortId) -> Result<OwnedFd, NetError> {
    let tap = &planned.tap;
    let open = || {
        let mut tries = 0;
        loop {
            match sys::open_tap(tap) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries < TAP_TRIES => tries += 1,
                result => return result,
            }
            std::thread::sleep(TAP_PAUSE);
        }
    };
    sys::in_namespace(&space::path(namespace), open).map_err(|source| {
        if source.kind() == io::ErrorKind::ResourceBusy {
            NetError::Busy { port, tap: tap.clone() }
        } else {
            NetError::Io { what: format!("open the tap {tap} of port {port}"), source }
        }
    })
}

/// Settings of a network's namespace, all of which may be written again at any time.
fn settings(plan: &Plan<'_>) -> Vec<(String, &'static str)> {
    let forward = if plan.spec.host_access { "1" } else { "0" };
    let values = [
        // Without these two, rules that need a connection's state would not see bridged packets at all.
        ("bridge/bridge-nf-call-iptables", "1"),
        ("bridge/bridge-nf-call-ip6tables", "1"),
        ("bridge/bridge-nf-call-arptables", "0"),
        // The metadata service asks a connection for the mark of its tap.
        ("ipv4/tcp_fwmark_accept", "1"),
        ("ipv4/ip_forward", forward),
        ("ipv6/conf/all/forwarding", forward),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
        ("ipv4/conf/all/arp_ignore", "1"),
        // Devices on the bridge speak no IP of their own; the bridge is told otherwise.
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
    ];
    values.into_iter().map(|(setting, value)| (setting.to_string(), value)).collect()
}

fn bridge_settings() -> Vec<(String, &'static str)> {
    let values = [("accept_ra", "0"), ("accept_dad", "0"), ("accept_redirects", "0"), ("disable_ipv6", "0")];
    values.into_iter().map(|(setting, value)| (format!("ipv6/conf/{BRIDGE}/{setting}"), value)).collect()
}

fn answers(plan: &Plan<'_>) -> Answers {
    let of_port = |port: &PlannedPort<'_>| {
        let answers = PortAnswers { lease: lease(plan, port), metadata: Tree::new(&port.state.metadata) };
        (port.index, Arc::new(answers))
    };
    let ports = plan.ports.iter().map(of_port).collect();
    Answers { ports, adverts: advert::adverts(plan), gateways: advert::gateways(plan) }
}

/// What DHCP tells the port: its first IPv4 address in a subnet where the node hands out addresses.
fn lease(plan: &Plan<'_>, port: &PlannedPort<'_>) -> Option<Lease> {
    port.state.addresses.iter().find_map(|address| {
        let IpNet::V4(address) = address else { return None };
        let mut subnets = plan.spec.subnets.iter().filter(|subnet| subnet.dhcp);
        let subnet = subnets.find(|subnet| subnet.cidr.contains(&IpAddr::V4(address.addr())))?;
        let gateway = plan.gateway(subnet).map(|gateway| match gateway {
            Gateway::Bridge(address) | Gateway::Leg(address, _) => address,
        });
        let routes = subnet.routes.iter().filter_map(|(range, hop)| match range {
            IpNet::V4(range) => v4(*hop).map(|hop| (*range, hop)),
            IpNet::V6(_) => None,
        });
        Some(Lease {
            mac: port.mac,
            address: *address,
            gateway: gateway.and_then(v4),
            dns: subnet.dns.iter().copied().filter_map(v4).collect(),
            routes: routes.collect(),
            mtu: plan.spec.mtu,
            host_name: port.state.host_name.clone(),
        })
    })
}
