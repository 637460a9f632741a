//! A server as its node must see it: from records to the order on the wire.

use std::collections::BTreeSet;

use bytes::Bytes;
use driver::network::PackedMembers;
use driver::{Documents, NetworkSpec};
use ipnet::IpNet;
use networks::node::Describer;
use networks::{GroupId, NetworkId, Port, PortId};
use proto::agent::v1 as wire;
use store::{Reader, Record, Revision};

use crate::metadata::{self, Told};
use crate::server::{Server, ServerId};
use crate::stored::{UserData, bytes};

/// A server's guest cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The server is gone.
    #[error("the server {0} is gone")]
    Gone(ServerId),
    /// Its ports or networks cannot be read.
    #[error(transparent)]
    Network(#[from] networks::NetError),
    /// A record cannot be read.
    #[error(transparent)]
    Damaged(#[from] store::DecodeError),
}

/// The order to build the server: it brings along what the node must know of its networks and its own ports.
pub fn build(reader: &Reader<'_>, id: ServerId) -> Result<wire::Build, GuestError> {
    let (server, _) = reader.get::<Server>(&id)?.ok_or(GuestError::Gone(id))?;
    let ports = ports_of(reader, id)?;
    let user_data = user_data(reader, &server)?;
    let subnets = metadata::subnets_of(reader, &ports)?;
    let told = Told::of(&server, &ports, &subnets);
    let documents = metadata::documents(&server, &ports, &told, &user_data);
    let spec = spec(reader, &server, &ports, told, user_data)?;
    let mut describer = Describer::new(reader);
    let places: BTreeSet<NetworkId> = ports.iter().map(|port| port.network).collect();
    let networks = places.into_iter().map(|network| network_on_wire(reader, &mut describer, network));
    let networks = networks.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    let mut described = Vec::with_capacity(ports.len());
    for port in &ports {
        described.extend(describer.port(port, documents.clone())?.map(|port| port_to_wire(reader, port)));
    }
    Ok(wire::Build { spec: Some(spec), networks, ports: described })
}

/// Networks and ports as they must be on `node`, for the wire. What is gone or has moved is left out: a node is told of
/// nothing but its own.
pub fn described(
    reader: &Reader<'_>,
    node: &str,
    networks: &BTreeSet<NetworkId>,
    ports: &[PortId],
) -> Result<(Vec<wire::NetworkState>, Vec<wire::PortState>), GuestError> {
    let mut describer = Describer::new(reader);
    let networks = networks.iter().map(|network| network_on_wire(reader, &mut describer, *network));
    let networks = networks.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    let mut described = Vec::with_capacity(ports.len());
    for id in ports {
        let Some((port, _)) = reader.get::<Port>(id)?.filter(|(port, _)| port.node() == Some(node)) else { continue };
        let documents = documents_of(reader, &port);
        described.extend(describer.port(&port, documents)?.map(|port| port_to_wire(reader, port)));
    }
    Ok((networks, described))
}

/// The members of a group as of `revision`, for the wire.
pub fn group_to_wire(id: GroupId, revision: Revision, members: &[IpNet]) -> wire::GroupState {
    let PackedMembers { hosts_v4, hosts_v6, ranges } = PackedMembers::of(members);
    wire::GroupState {
        id: bytes(id.as_uuid()),
        revision: revision.as_u64(),
        hosts_v4: hosts_v4.into(),
        hosts_v6: hosts_v6.into(),
        ranges,
    }
}

fn network_on_wire(
    reader: &Reader<'_>,
    describer: &mut Describer<'_>,
    network: NetworkId,
) -> Result<Option<wire::NetworkState>, GuestError> {
    Ok(describer.network(network)?.map(|network| network_to_wire(reader, network)))
}

/// The ports of a server.
pub fn ports_of(reader: &Reader<'_>, id: ServerId) -> Result<Vec<Port>, GuestError> {
    Ok(networks::ports_of(reader, id.guest())?.into_iter().map(|(port, _)| port).collect())
}

fn documents_of(reader: &Reader<'_>, port: &Port) -> Documents {
    let Some(guest) = port.server() else { return Documents::default() };
    let id = ServerId::from_uuid(*guest.as_uuid());
    let found = || -> Result<Documents, GuestError> {
        let (server, _) = reader.get::<Server>(&id)?.ok_or(GuestError::Gone(id))?;
        let ports = ports_of(reader, id)?;
        let subnets = metadata::subnets_of(reader, &ports)?;
        let told = Told::of(&server, &ports, &subnets);
        Ok(metadata::documents(&server, &ports, &told, &user_data(reader, &server)?))
    };
    // A port without its server has nothing to tell; the reason shows where the server is read.
    found().unwrap_or_default()
}

fn user_data(reader: &Reader<'_>, server: &Server) -> Result<Bytes, GuestError> {
    if !server.has_user_data {
        return Ok(Bytes::new());
    }
    let found = reader.entry(&UserData::key_of(&server.id)).map(UserData::decode_entry).transpose()?;
    Ok(found.map(|(data, _)| data.content).unwrap_or_default())
}

fn spec(
    reader: &Reader<'_>,
    server: &Server,
    ports: &[Port],
    told: Told,
    user_data: Bytes,
) -> Result<wire::GuestSpec, GuestError> {
    let mut nics = Vec::with_capacity(ports.len());
    for port in ports {
        let network = reader.get::<networks::Network>(&port.network)?;
        nics.push(wire::Nic {
            port: bytes(port.id.as_uuid()),
            network: bytes(port.network.as_uuid()),
            mac: port.mac.to_string(),
            mtu: network.map_or(1500, |(network, _)| u32::from(network.mtu)),
        });
    }
    let format = if server.content.qcow2 { wire::ImageFormat::Qcow2 } else { wire::ImageFormat::Raw };
    Ok(wire::GuestSpec {
        id: bytes(server.id.as_uuid()),
        name: server.name.clone(),
        vcpus: server.flavor.vcpus,
        memory_mib: server.flavor.ram_mib,
        disk_gib: server.flavor.disk_gib,
        image: Some(wire::ImageRef {
            sha256: server.content.sha256.clone(),
            format: format.into(),
            size_bytes: server.content.size_bytes,
            virtual_size_bytes: server.content.virtual_bytes,
        }),
        nics,
        meta_data: told.meta_data,
        network_data: told.network_data,
        user_data,
        config_drive: server.config_drive || ports.is_empty(),
    })
}

fn network_to_wire(reader: &Reader<'_>, state: NetworkSpec) -> wire::NetworkState {
    wire::NetworkState {
        id: bytes(state.id.as_uuid()),
        revision: reader.revision().as_u64(),
        name: state.name,
        mtu: u32::from(state.mtu),
        subnets: state.subnets.into_iter().map(subnet_to_wire).collect(),
        routers: state
            .routers
            .into_iter()
            .map(|leg| wire::RouterLeg { router: leg.router, address: leg.address.to_string(), mac: leg.mac })
            .collect(),
        host_access: state.host_access,
        host_address: state.host_address.map(|address| address.to_string()).unwrap_or_default(),
    }
}

fn subnet_to_wire(subnet: driver::Subnet) -> wire::SubnetState {
    let route = |(destination, hop): (ipnet::IpNet, std::net::IpAddr)| wire::Route {
        destination: destination.to_string(),
        next_hop: hop.to_string(),
    };
    wire::SubnetState {
        cidr: subnet.cidr.to_string(),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        dhcp: subnet.dhcp,
        dns: subnet.dns.iter().map(ToString::to_string).collect(),
        routes: subnet.routes.into_iter().map(route).collect(),
    }
}

fn port_to_wire(reader: &Reader<'_>, port: driver::PortState) -> wire::PortState {
    wire::PortState {
        id: bytes(port.id.as_uuid()),
        network: bytes(port.network.as_uuid()),
        revision: reader.revision().as_u64(),
        guest: bytes(port.guest.as_uuid()),
        mac: port.mac,
        addresses: port.addresses.iter().map(ToString::to_string).collect(),
        allowed_pairs: port.allowed_pairs.iter().map(ToString::to_string).collect(),
        host_name: port.host_name,
        secured: port.secured,
        rules: port.rules.into_iter().map(rule_to_wire).collect(),
        metadata: port.metadata.iter().map(document_to_wire).collect(),
    }
}

fn document_to_wire((path, content): (&str, &[u8])) -> wire::MetadataFile {
    wire::MetadataFile { path: path.to_owned(), content: Bytes::copy_from_slice(content) }
}

fn rule_to_wire(rule: driver::Rule) -> wire::Rule {
    use wire::rule::Protocol;
    let range = |from: u16, to: u16| wire::PortRange { from: u32::from(from), to: u32::from(to) };
    let protocol = match rule.protocol {
        driver::Protocol::Any => None,
        driver::Protocol::Tcp(from, to) => Some(Protocol::Tcp(range(from, to))),
        driver::Protocol::Udp(from, to) => Some(Protocol::Udp(range(from, to))),
        driver::Protocol::Icmp(kind, code) => {
            Some(Protocol::Icmp(wire::Icmp { r#type: kind.map(u32::from), code: code.map(u32::from) }))
        }
        driver::Protocol::Number(number) => Some(Protocol::Number(u32::from(number))),
    };
    wire::Rule {
        egress: match rule.direction {
            driver::Direction::Egress => true,
            driver::Direction::Ingress => false,
        },
        ipv6: rule.ipv6,
        protocol,
        remote: match rule.remote {
            driver::Remote::Any => None,
            driver::Remote::Prefix(prefix) => Some(wire::rule::Remote::Prefix(prefix.to_string())),
            driver::Remote::Group(group) => Some(wire::rule::Remote::Group(bytes(group.as_uuid()))),
        },
    }
}
