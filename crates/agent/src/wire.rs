//! Between the wire's messages and the domain's types; nothing else in this crate knows both.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{Act, Descriptions, Epoch, ImageId, Life, Note, Order, Reached, Step, Told, WorkId};
use bytes::Bytes;
use driver::network::{PackedMembers, RouterLeg};
use driver::{
    Direction, Found, GroupId, GroupState, GuestId, GuestSpec, ImageFormat, ImageRef, NetworkId, NetworkSpec, Nic,
    Observed, PortId, PortState, Protocol, Remote, Rule, Stock, Subnet,
};
use ids::uuid::Uuid;
use proto::agent::v1 as sent;

/// A message that no coordinator of this or a neighbouring release sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message makes no sense to this node: {0}")]
pub(crate) struct BadMessage(String);

type Result<T> = std::result::Result<T, BadMessage>;

fn bad(what: impl Into<String>) -> BadMessage {
    BadMessage(what.into())
}

pub(crate) fn id(bytes: &Bytes) -> Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|_| bad(format!("an id of {} bytes", bytes.len())))
}

pub(crate) fn order(request: sent::PerformRequest) -> Result<Order> {
    let work = request.work.ok_or_else(|| bad("no work is named"))?;
    let (act, (networks, ports)) =
        act(request.act.ok_or_else(|| bad("nothing that this release knows is to be done"))?)?;
    Ok(Order {
        work: WorkId::from_uuid(id(&work.work)?),
        epoch: Epoch(work.epoch),
        step: Step(work.step),
        floor: work.floor,
        created: work.created,
        guest: GuestId::from_uuid(id(&request.guest)?),
        act,
        networks,
        ports,
    })
}

/// What an order says of networks and ports.
type Plugs = (Vec<Told<NetworkSpec>>, Vec<Told<PortState>>);

fn act(act: sent::perform_request::Act) -> Result<(Act, Plugs)> {
    use sent::perform_request::Act as From;
    let grace = |grace_ms: u32| (grace_ms > 0).then(|| Duration::from_millis(grace_ms.into()));
    let act = match act {
        From::Build(build) => {
            let spec = guest_spec(build.spec.ok_or_else(|| bad("a guest without a description"))?)?;
            let plugs = (all(build.networks, network)?, all(build.ports, port)?);
            return Ok((Act::Build(Arc::new(spec)), plugs));
        }
        From::Destroy(destroy) => {
            let networks = destroy.networks.iter().map(|network| Ok(NetworkId::from_uuid(id(network)?)));
            Act::Destroy(networks.collect::<Result<_>>()?)
        }
        From::Start(sent::Start {}) => Act::Start,
        From::Stop(stop) => Act::Stop(grace(stop.grace_ms)),
        From::Reboot(reboot) => Act::Reboot(if reboot.hard { None } else { grace(reboot.grace_ms) }),
        From::Pause(sent::Pause {}) => Act::Pause,
        From::Unpause(sent::Unpause {}) => Act::Unpause,
        From::Snapshot(snapshot) => Act::Snapshot(ImageId::from_uuid(id(&snapshot.image)?)),
    };
    Ok((act, Plugs::default()))
}

pub(crate) fn reached(reached: Reached) -> sent::PerformResponse {
    sent::PerformResponse { state: state(reached.life).into(), run: reached.run.0 }
}

pub(crate) fn report(note: &Note) -> sent::GuestReport {
    sent::GuestReport {
        guest: Bytes::copy_from_slice(note.guest.as_uuid().as_bytes()),
        state: state(note.life).into(),
        run: note.run.0,
        cause: note.cause.clone(),
        known: note.known,
    }
}

pub(crate) fn stock(stock: Stock) -> sent::TakeStockResponse {
    let bytes = |id: &Uuid| Bytes::copy_from_slice(id.as_bytes());
    let guest = |found: &Found| {
        let (state, run) = match found.observed {
            Observed::Running(run) => (sent::GuestState::Running, run.0),
            Observed::Paused(run) => (sent::GuestState::Paused, run.0),
            Observed::Stopped => (sent::GuestState::Stopped, 0),
        };
        sent::StockedGuest { guest: bytes(found.guest.as_uuid()), state: state.into(), run }
    };
    sent::TakeStockResponse {
        guests: stock.guests.iter().map(guest).collect(),
        disks: stock.disks.iter().map(|guest| bytes(guest.as_uuid())).collect(),
        has_taps: stock.taps.is_some(),
        taps: stock.taps.unwrap_or_default().iter().map(|port| bytes(port.as_uuid())).collect(),
        networks: stock.networks.iter().map(|network| bytes(network.as_uuid())).collect(),
    }
}

fn state(life: Life) -> sent::GuestState {
    match life {
        Life::Absent => sent::GuestState::Absent,
        Life::Stopped => sent::GuestState::Stopped,
        Life::Running => sent::GuestState::Running,
        Life::Paused => sent::GuestState::Paused,
    }
}

fn guest_spec(spec: sent::GuestSpec) -> Result<GuestSpec> {
    Ok(GuestSpec {
        id: GuestId::from_uuid(id(&spec.id)?),
        name: spec.name,
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        disk_gib: spec.disk_gib,
        image: image(spec.image.ok_or_else(|| bad("a guest without an image"))?)?,
        nics: spec.nics.into_iter().map(nic).collect::<Result<_>>()?,
        meta_data: spec.meta_data,
        network_data: spec.network_data,
        user_data: spec.user_data.into(),
        config_drive: spec.config_drive,
    })
}

fn image(image: sent::ImageRef) -> Result<ImageRef> {
    let format = match image.format() {
        sent::ImageFormat::Raw => ImageFormat::Raw,
        sent::ImageFormat::Qcow2 => ImageFormat::Qcow2,
        sent::ImageFormat::Unspecified => return Err(bad("an image of a format that is not told")),
    };
    // The hash becomes a file name in the cache.
    if image.sha256.len() != 64 || !image.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(bad("an image without a SHA-256"));
    }
    Ok(ImageRef {
        sha256: image.sha256,
        format,
        size_bytes: image.size_bytes,
        virtual_size_bytes: image.virtual_size_bytes,
    })
}

fn nic(nic: sent::Nic) -> Result<Nic> {
    Ok(Nic {
        port: PortId::from_uuid(id(&nic.port)?),
        network: NetworkId::from_uuid(id(&nic.network)?),
        mac: nic.mac,
        mtu: small(nic.mtu)?,
    })
}

pub(crate) fn descriptions(request: sent::ApplyNetworksRequest) -> Result<Descriptions> {
    let gone = |gone: &sent::GroupGone| Ok((GroupId::from_uuid(id(&gone.id)?), gone.revision));
    Ok(Descriptions {
        networks: all(request.networks, network)?,
        ports: all(request.ports, port)?,
        groups: all(request.groups, group)?,
        groups_gone: request.groups_gone.iter().map(gone).collect::<Result<_>>()?,
    })
}

fn all<M, T>(messages: Vec<M>, take: impl Fn(M) -> Result<T>) -> Result<Vec<T>> {
    messages.into_iter().map(take).collect()
}

fn group(group: sent::GroupState) -> Result<Told<GroupState>> {
    let packed =
        PackedMembers { hosts_v4: group.hosts_v4.into(), hosts_v6: group.hosts_v6.into(), ranges: group.ranges };
    let members = packed.members().ok_or_else(|| bad("members of a group that are no addresses"))?;
    let what = Arc::new(GroupState { id: GroupId::from_uuid(id(&group.id)?), members });
    Ok(Told { revision: group.revision, what })
}

fn network(network: sent::NetworkState) -> Result<Told<NetworkSpec>> {
    let revision = network.revision;
    let what = NetworkSpec {
        id: NetworkId::from_uuid(id(&network.id)?),
        name: network.name,
        mtu: small(network.mtu)?,
        subnets: network.subnets.into_iter().map(subnet).collect::<Result<_>>()?,
        routers: network.routers.into_iter().map(router).collect::<Result<_>>()?,
        host_access: network.host_access,
        host_address: optional(&network.host_address)?,
    };
    Ok(Told { revision, what: Arc::new(what) })
}

fn subnet(subnet: sent::SubnetState) -> Result<Subnet> {
    let route = |route: &sent::Route| Ok((parse(&route.destination)?, parse(&route.next_hop)?));
    Ok(Subnet {
        cidr: parse(&subnet.cidr)?,
        gateway: optional(&subnet.gateway)?,
        dhcp: subnet.dhcp,
        dns: parse_all(&subnet.dns)?,
        routes: subnet.routes.iter().map(route).collect::<Result<_>>()?,
    })
}

fn port(port: sent::PortState) -> Result<Told<PortState>> {
    let revision = port.revision;
    let what = PortState {
        id: PortId::from_uuid(id(&port.id)?),
        network: NetworkId::from_uuid(id(&port.network)?),
        guest: GuestId::from_uuid(id(&port.guest)?),
        mac: port.mac,
        addresses: parse_all(&port.addresses)?,
        allowed_pairs: parse_all(&port.allowed_pairs)?,
        host_name: port.host_name,
        secured: port.secured,
        rules: port.rules.into_iter().map(rule).collect::<Result<_>>()?,
        metadata: port.metadata.iter().map(|file| (&file.path, &file.content)).collect(),
    };
    Ok(Told { revision, what: Arc::new(what) })
}

fn rule(rule: sent::Rule) -> Result<Rule> {
    use sent::rule::Protocol as From;
    let protocol = match rule.protocol {
        None => Protocol::Any,
        Some(From::Tcp(ports)) => Protocol::Tcp(small(ports.from)?, small(ports.to)?),
        Some(From::Udp(ports)) => Protocol::Udp(small(ports.from)?, small(ports.to)?),
        Some(From::Icmp(icmp)) => Protocol::Icmp(tiny(icmp.r#type)?, tiny(icmp.code)?),
        Some(From::Number(number)) => Protocol::Number(u8::try_from(number).map_err(|_| bad("no IP protocol"))?),
    };
    Ok(Rule {
        direction: if rule.egress { Direction::Egress } else { Direction::Ingress },
        ipv6: rule.ipv6,
        protocol,
        remote: match rule.remote {
            None => Remote::Any,
            Some(sent::rule::Remote::Prefix(prefix)) => Remote::Prefix(parse(&prefix)?),
            Some(sent::rule::Remote::Group(group)) => Remote::Group(GroupId::from_uuid(id(&group)?)),
        },
    })
}

fn router(leg: sent::RouterLeg) -> Result<RouterLeg> {
    Ok(RouterLeg { router: leg.router, address: parse(&leg.address)?, mac: leg.mac })
}

fn parse<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| bad(format!("{text:?} is no address")))
}

fn parse_all<T: FromStr>(texts: &[String]) -> Result<Vec<T>> {
    texts.iter().map(|text| parse(text)).collect()
}

fn optional<T: FromStr>(text: &str) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn small(value: u32) -> Result<u16> {
    u16::try_from(value).map_err(|_| bad(format!("{value} is above 65535")))
}

fn tiny(value: Option<u32>) -> Result<Option<u8>> {
    value.map(|value| u8::try_from(value).map_err(|_| bad(format!("{value} is above 255")))).transpose()
}
