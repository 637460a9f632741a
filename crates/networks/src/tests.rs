//! Whole decisions over a memory store: what a tenant sees of the rules, and what nodes are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use driver::{GuestId, NetworkSpec, PortState, Protocol};
use ids::uuid::Uuid;
use store::{CommitError, Entry, Key, KeyRange, Page, ReadError, Record, Revision, Store, Txn, Watch, WatchError};

use super::*;
use crate::affected::{Affected, Parts, Tracker};
use crate::network::NewNetwork;
use crate::port::{NewPort, WantedIp};
use crate::quota::{Quota, Resource};
use crate::router::Interface;
use crate::subnet::{Gateway, NewSubnet};

struct Cell {
    world: world::World,
    cloud: Networks,
}

const NODE: &str = "node-1";

async fn cell() -> Cell {
    cell_over(|engine| Arc::new(engine)).await
}

async fn cell_over(wrap: impl FnOnce(store::engine::Engine) -> Arc<dyn Store>) -> Cell {
    let world = world::os::OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
    let engine = store::memory::open(&world);
    let view = store::View::open(&world, wrap(engine), indexes()).await.unwrap();
    Cell { cloud: Networks::new(&world, view), world }
}

fn who(project: &str) -> Who {
    Who { project: project.parse().unwrap(), admin: false }
}

fn admin() -> Who {
    Who { project: "admin".parse().unwrap(), admin: true }
}

impl Cell {
    async fn network(&self, who: &Who, name: &str) -> Network {
        let new = NewNetwork { name: name.into(), ..NewNetwork::default() };
        self.cloud.decide(who, |plan| network::create(plan, new.clone())).await.unwrap()
    }

    async fn try_subnet(&self, who: &Who, network: NetworkId, cidr: &str) -> Result<Subnet, NetError> {
        let mode = (cidr.contains("/64")).then_some(Ipv6Mode::Slaac);
        let new = NewSubnet {
            network,
            name: String::new(),
            description: String::new(),
            project: None,
            cidr: cidr.parse().unwrap(),
            gateway: Gateway::First,
            dhcp: true,
            pools: None,
            name_servers: Vec::new(),
            routes: Vec::new(),
            ra_mode: mode,
            address_mode: mode,
        };
        self.cloud.decide(who, |plan| subnet::create(plan, new.clone())).await
    }

    async fn subnet(&self, who: &Who, network: NetworkId, cidr: &str) -> Subnet {
        self.try_subnet(who, network, cidr).await.unwrap()
    }

    async fn port(&self, who: &Who, network: NetworkId) -> Result<Port, NetError> {
        self.cloud.decide(who, |plan| port::create(plan, NewPort::on(network))).await
    }

    async fn server(&self, who: &Who, network: NetworkId, node: &str) -> (GuestId, Port) {
        let server = GuestId::random(&self.world);
        let request = [PortRequest::Network { network, fixed_ip: None }];
        let needs =
            ServerNeeds { server, requests: &request, groups: &[], host_name: "web", node: Some(node), zone: "nova" };
        let ports = self.cloud.decide(who, |plan| {
            let claimed = claim_ports(plan.reader, &who.project, 1)?;
            plan.txn.merge(claimed);
            server_ports(plan, &needs)
        });
        (server, ports.await.unwrap().remove(0))
    }

    /// How `port` is described to its node, and its network.
    async fn described(&self, port: PortId) -> (NetworkSpec, PortState) {
        let described = self.cloud.read(|reader| {
            let (port, _) = reader.get::<Port>(&port)?.unwrap();
            let mut describer = node::Describer::new(reader);
            Ok((
                describer.network(port.network)?.unwrap(),
                describer.port(&port, driver::Documents::default())?.unwrap(),
            ))
        });
        described.await.unwrap()
    }

    /// Everything up to now, in a tracker.
    async fn tracker(&self) -> Tracker {
        self.cloud.read(Tracker::open).await.unwrap()
    }

    /// All keys that are left, counters at zero aside.
    async fn left(&self) -> Vec<String> {
        let view = self.cloud.view();
        view.read(|reader| {
            let all =
                reader.range(KeyRange::all()).filter(|(_, entry)| entry.record().is_some() || entry.counter() > 0);
            all.map(|(key, _)| key.to_text().into_owned()).collect()
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn what_is_made_and_deleted_again_leaves_nothing_but_the_default_group() {
    let cell = cell().await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    let v4 = cell.subnet(&me, network.id, "10.1.0.0/29").await;
    cell.subnet(&me, network.id, "fd00:1::/64").await;
    let mut ports = Vec::new();
    for _ in 0..5 {
        ports.push(cell.port(&me, network.id).await.unwrap());
    }
    let refused = cell.port(&me, network.id).await;
    assert!(matches!(refused, Err(NetError::NoAddress(_))), "6 hosts, one of them the gateway: {refused:?}");
    for port in &ports {
        let [one, other] = port.fixed_ips.as_slice() else { panic!("{port:?}") };
        assert!(v4.cidr.contains(&one.address) && Some(one.address) != v4.gateway);
        assert_eq!(Some(other.address), address::derived(&"fd00:1::/64".parse().unwrap(), port.mac));
    }
    let in_use = cell.cloud.decide(&me, |plan| subnet::delete(plan, v4.id)).await;
    assert!(matches!(in_use, Err(NetError::InUse { kind: Kind::Subnet, .. })), "{in_use:?}");
    let in_use = cell.cloud.decide(&me, |plan| network::delete(plan, network.id)).await;
    assert!(matches!(in_use, Err(NetError::InUse { kind: Kind::Network, .. })), "{in_use:?}");
    for port in ports {
        cell.cloud.decide(&me, |plan| port::delete(plan, port.id)).await.unwrap();
    }
    cell.cloud.decide(&me, |plan| network::delete(plan, network.id)).await.unwrap();
    let left = cell.left().await;
    let kinds: Vec<&str> = left.iter().map(|key| key.rsplit_once('/').map_or("", |(_, last)| last)).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(kinds.contains(&"security_group") && kinds.contains(&"security_group_rule"), "{left:?}");
}

#[tokio::test]
async fn a_quota_is_claimed_exactly_by_creates_that_race() {
    let cell = cell().await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    cell.subnet(&me, network.id, "10.1.0.0/24").await;
    let limit = [(Resource::Port, Some(10))].into();
    cell.cloud
        .decide(&admin(), |plan| {
            let (txn, quota) = quota::set(plan.reader, &me.project, &limit)?;
            plan.txn.merge(txn);
            Ok(quota)
        })
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (cloud, me, id) = (cell.cloud.clone(), me.clone(), network.id);
        tasks.spawn(async move { cloud.decide(&me, |plan| port::create(plan, NewPort::on(id))).await });
    }
    let outcomes = tasks.join_all().await;
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes.iter().filter(|o| matches!(o, Err(NetError::OverQuota(Resource::Port)))).count();
    assert_eq!((made, refused), (10, 30));
    let groups = cell.left().await.iter().filter(|key| key.starts_with("sg-default/")).count();
    assert_eq!(groups, 1);
}

#[tokio::test]
async fn ranges_of_one_network_do_not_overlap_and_those_of_two_may() {
    let cell = cell().await;
    let me = who("p1");
    let (one, two) = (cell.network(&me, "one").await, cell.network(&me, "two").await);
    cell.subnet(&me, one.id, "10.1.0.0/24").await;
    cell.subnet(&me, two.id, "10.1.0.0/24").await;
    let refused = cell.try_subnet(&me, one.id, "10.1.0.128/25").await.unwrap_err();
    assert!(refused.to_string().contains("overlaps with another subnet"), "{refused}");
    for nonsense in ["224.0.0.0/24", "127.0.0.0/8", "169.254.0.0/16", "10.0.0.0/31", "fe80::/64"] {
        assert!(cell.try_subnet(&me, two.id, nonsense).await.is_err(), "{nonsense}");
    }
}

#[tokio::test]
async fn the_network_of_another_project_is_not_there_and_a_shared_one_is_not_mine() {
    let cell = cell().await;
    let (me, other) = (who("p1"), who("p2"));
    let network = cell.network(&me, "n").await;
    let subnet = cell.subnet(&me, network.id, "10.1.0.0/24").await;
    let refused = cell.port(&other, network.id).await.unwrap_err();
    assert!(matches!(refused, NetError::NotFound { .. }), "{refused:?}");
    let share = network::Change { shared: Some(true), ..network::Change::default() };
    cell.cloud.decide(&admin(), |plan| network::update(plan, network.id, share.clone())).await.unwrap();
    cell.port(&other, network.id).await.unwrap();
    let wanted = WantedIp { subnet: Some(subnet.id), address: Some("10.1.0.9".parse().unwrap()) };
    let special = [
        NewPort { mac: Some("fa:16:3e:00:00:01".parse().unwrap()), ..NewPort::on(network.id) },
        NewPort { port_security: Some(false), ..NewPort::on(network.id) },
        NewPort { fixed_ips: Some(vec![wanted]), ..NewPort::on(network.id) },
    ];
    for new in special {
        let refused = cell.cloud.decide(&other, |plan| port::create(plan, new.clone())).await.unwrap_err();
        assert!(matches!(refused, NetError::Forbidden(_)), "{refused:?}");
    }
    let refused = cell.cloud.decide(&other, |plan| network::delete(plan, network.id)).await.unwrap_err();
    assert!(matches!(refused, NetError::Forbidden(_)), "{refused:?}");
}

#[tokio::test]
async fn routers_take_gateways_and_hold_them() {
    let cell = cell().await;
    let me = who("p1");
    let (one, two) = (cell.network(&me, "one").await, cell.network(&me, "two").await);
    let first = cell.subnet(&me, one.id, "10.1.0.0/24").await;
    let second = cell.subnet(&me, two.id, "10.1.0.0/16").await;
    let router =
        cell.cloud.decide(&me, |plan| router::create(plan, "r".into(), String::new(), None, true)).await.unwrap();
    let add =
        |subnet| cell.cloud.decide(&me, move |plan| router::add_interface(plan, router.id, Interface::Subnet(subnet)));
    let (_, port, _) = add(first.id).await.unwrap();
    assert_eq!(port.fixed_ips[0].address, first.gateway.unwrap());
    let refused = add(second.id).await.unwrap_err();
    assert!(refused.to_string().contains("overlaps"), "{refused}");
    assert!(add(first.id).await.is_err());
    let refused = cell.cloud.decide(&me, |plan| router::delete(plan, router.id)).await.unwrap_err();
    assert!(matches!(refused, NetError::InUse { kind: Kind::Router, .. }));
    assert!(cell.cloud.decide(&me, |plan| port::delete(plan, port.id)).await.is_err());
    assert!(cell.cloud.decide(&me, |plan| subnet::delete(plan, first.id)).await.is_err());
    let (server, plugged) = cell.server(&me, one.id, NODE).await;
    let legs = cell.described(plugged.id).await.0.routers;
    assert_eq!((legs.len(), legs[0].address.to_string().as_str()), (1, "10.1.0.1/24"));
    let (_, removed, _) =
        cell.cloud.decide(&me, |plan| router::remove_interface(plan, router.id, None, Some(first.id))).await.unwrap();
    assert_eq!(removed.id, port.id);
    cell.subnet(&me, one.id, "fd00:1::/64").await;
    let port = cell.port(&me, one.id).await.unwrap();
    let both = |plan: &mut Plan<'_>| router::add_interface(plan, router.id, Interface::Port(port.id));
    let (_, leg, _) = cell.cloud.decide(&me, both).await.unwrap();
    assert!(!leg.port_security && leg.groups.is_empty());
    assert_eq!(cell.described(plugged.id).await.0.routers.len(), 2, "one leg of each IP version");
    let without = |plan: &mut Plan<'_>| router::remove_interface(plan, router.id, Some(port.id), None);
    cell.cloud.decide(&me, without).await.unwrap();
    cell.cloud.decide(&me, |plan| router::delete(plan, router.id)).await.unwrap();
    assert!(cell.described(plugged.id).await.0.routers.is_empty());
    assert!(cell.cloud.read(|reader| ports_of(reader, server)).await.is_ok());
}

#[tokio::test]
async fn a_server_gets_its_ports_in_a_foreign_commit_and_leaves_none() {
    let cell = cell().await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    cell.subnet(&me, network.id, "10.1.0.0/24").await;
    let kept = cell.port(&me, network.id).await.unwrap();
    let before = cell.left().await;
    let server = GuestId::random(&cell.world);
    let requests = [PortRequest::Network { network: network.id, fixed_ip: None }, PortRequest::Port(kept.id)];
    let needs =
        ServerNeeds { server, requests: &requests, groups: &[], host_name: "web", node: Some(NODE), zone: "nova" };
    cell.cloud.read(|reader| check_requests(reader, &me, &requests, &[])).await.unwrap();
    let ports = cell
        .cloud
        .decide(&me, |plan| {
            let claimed = claim_ports(plan.reader, &me.project, 1)?;
            plan.txn.merge(claimed);
            let ports = server_ports(plan, &needs)?;
            let size = plan.txn.preconditions.len() + plan.txn.ops.len();
            assert!(size <= 16, "two ports, one of them new, take {size} operations");
            Ok(ports)
        })
        .await
        .unwrap();
    assert_eq!(ports[1].id, kept.id);
    assert_eq!(ports[0].device_owner(), "compute:nova");
    // The guest's cards are in the order of the requests, whatever is older.
    let cards = cell.cloud.read(|reader| ports_of(reader, server)).await.unwrap();
    assert_eq!(cards.iter().map(|(port, _)| port.id).collect::<Vec<_>>(), [ports[0].id, kept.id]);
    assert!(cell.cloud.read(|reader| check_requests(reader, &me, &requests, &[])).await.is_err(), "it is taken");
    assert_eq!(cell.tracker().await.all_on(NODE).ports, ports.iter().map(|port| port.id).collect());
    assert!(cell.cloud.decide(&me, |plan| port::delete(plan, ports[0].id)).await.is_err(), "the guest has it");
    let (mut release, removed) = cell.cloud.read(|reader| release_ports(reader, server)).await.unwrap();
    release.merge(return_ports(&me.project, removed));
    cell.cloud.view().store().commit(release).await.unwrap();
    assert_eq!(cell.left().await, before);
}

#[tokio::test]
async fn the_shared_network_is_made_once_beside_what_the_machine_reaches() {
    let cell = cell().await;
    let elsewhere: Vec<ipnet::IpNet> =
        ["10.0.0.0/9", "10.128.0.0/10", "10.192.64.0/18"].map(|net| net.parse().unwrap()).into();
    assert!(!cell.cloud.has_shared_network().await.unwrap());
    cell.cloud.bootstrap(&admin().project, &elsewhere).await.unwrap();
    assert!(cell.cloud.has_shared_network().await.unwrap());
    let ranges = async || {
        let found = cell.cloud.view().read(|reader| reader.all::<Subnet>().map(|one| one.unwrap().0.cidr).collect());
        let ranges: Vec<ipnet::IpNet> = found.await.unwrap();
        ranges
    };
    let made = ranges().await;
    assert_eq!(made.len(), 2);
    for range in &made {
        assert!(!elsewhere.iter().any(|other| address::overlap(range, other)), "{range}");
    }
    // What is recorded stays, though the machine reaches that range by now: through the cell itself.
    cell.cloud.bootstrap(&admin().project, &["10.0.0.0/8".parse().unwrap()]).await.unwrap();
    assert_eq!(ranges().await, made);
}

#[tokio::test]
async fn members_of_the_default_group_reach_each_other_wherever_they_run() {
    let cell = cell().await;
    let (me, other) = (who("p1"), who("p2"));
    cell.cloud.bootstrap(&admin().project, &[]).await.unwrap();
    cell.cloud.bootstrap(&admin().project, &[]).await.unwrap();
    let network = cell.cloud.read(|reader| default_network(reader, &me)).await.unwrap().unwrap();
    let (_, one) = cell.server(&me, network, NODE).await;
    let (_, two) = cell.server(&me, network, "node-2").await;
    cell.server(&other, network, "node-2").await;
    let (state, port) = cell.described(one.id).await;
    assert!(state.host_access && state.host_address.is_some() && state.subnets.iter().all(|subnet| subnet.dhcp));
    assert_eq!((port.host_name.as_str(), port.network), ("web", network));
    assert!(port.secured);
    let (ingress, egress): (Vec<_>, Vec<_>) =
        port.rules.iter().partition(|rule| rule.direction == RuleDirection::Ingress);
    let [group] = one.groups[..] else { panic!("{one:?}") };
    assert_eq!(two.groups, [group]);
    assert!(ingress.iter().all(|rule| rule.protocol == Protocol::Any && rule.remote == driver::Remote::Group(group)));
    assert_eq!((ingress.len(), egress.len()), (2, 2));

    let tracker = cell.tracker().await;
    let both = [&one, &two].into_iter().flat_map(|port| &port.fixed_ips);
    let mut expected: Vec<ipnet::IpNet> = both.map(|fixed| fixed.address.into()).collect();
    expected.sort();
    assert_eq!(tracker.members(group), expected);
    assert_eq!(tracker.nodes_naming(group).map(|node| &**node).collect::<Vec<_>>(), [NODE, "node-2"]);
}

#[tokio::test]
async fn a_tracker_names_what_a_commit_touches() {
    let cell = cell().await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    let subnet = cell.subnet(&me, network.id, "10.1.0.0/24").await;
    let (_, first) = cell.server(&me, network.id, "node-1").await;
    let (gone, second) = cell.server(&me, network.id, "node-2").await;
    let [group] = first.groups[..] else { panic!("{first:?}") };
    let (mut tracker, mut revision) =
        cell.cloud.read(|reader| Ok((Tracker::open(reader)?, reader.revision()))).await.unwrap();
    let all = tracker.all_on("node-1");
    assert_eq!((all.networks, all.ports, all.groups), ([network.id].into(), [first.id].into(), [group].into()));
    let mut watch = cell.cloud.view().store().watch(&KeyRange::all(), revision).await.unwrap();
    let mut next = async |tracker: &mut Tracker| {
        let mut affected = Affected::default();
        let head = cell.cloud.view().store().head().await.unwrap();
        while revision < head {
            for batch in watch.next().await.unwrap() {
                revision = batch.revision;
                affected.merge(tracker.apply(&batch));
            }
        }
        affected
    };
    let on = |node: &str, parts: Parts| (Arc::from(node), parts);

    // The order that builds the guest describes its port; its group is another matter.
    let (_, third) = cell.server(&me, network.id, "node-3").await;
    let affected = next(&mut tracker).await;
    let named = Parts { groups: [group].into(), ..Parts::default() };
    assert_eq!(affected, Affected { nodes: [on("node-3", named)].into(), members: [group].into() });

    // A port without a node is a member of its group all the same, and changes nothing else.
    let port = cell.port(&me, network.id).await.unwrap();
    let affected = next(&mut tracker).await;
    assert_eq!(affected, Affected { members: [group].into(), ..Affected::default() });
    assert_eq!(tracker.nodes_naming(group).count(), 3);
    assert_eq!(tracker.members(group).len(), 4);
    let rename = |id| {
        let rename = port::Change { name: Some("x".into()), ..port::Change::default() };
        cell.cloud.decide(&me, move |plan| port::update(plan, id, rename.clone()))
    };
    rename(port.id).await.unwrap();
    assert!(next(&mut tracker).await.is_empty());
    rename(second.id).await.unwrap();
    let renamed = Parts { ports: [second.id].into(), ..Parts::default() };
    assert_eq!(next(&mut tracker).await, Affected { nodes: [on("node-2", renamed)].into(), ..Affected::default() });

    // The order that removes the guest takes its port along.
    let (release, _) = cell.cloud.read(|reader| release_ports(reader, gone)).await.unwrap();
    cell.cloud.view().store().commit(release).await.unwrap();
    let affected = next(&mut tracker).await;
    let unnamed = Parts { unnamed: [group].into(), ..Parts::default() };
    assert_eq!(affected, Affected { nodes: [on("node-2", unnamed)].into(), members: [group].into() });
    assert_eq!(tracker.all_on("node-2"), Parts::default());

    let change = subnet::Change { dhcp: Some(false), ..subnet::Change::default() };
    cell.cloud.decide(&me, |plan| subnet::update(plan, subnet.id, change.clone())).await.unwrap();
    let both = |port| Parts { networks: [network.id].into(), ports: [port].into(), ..Parts::default() };
    let nodes = [on("node-1", both(first.id)), on("node-3", both(third.id))];
    assert_eq!(next(&mut tracker).await, Affected { nodes: nodes.into(), ..Affected::default() });
}

#[tokio::test]
async fn a_rule_that_names_another_group_makes_it_known_where_its_ports_are() {
    let cell = cell().await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    cell.subnet(&me, network.id, "10.1.0.0/24").await;
    let (_, port) = cell.server(&me, network.id, "node-1").await;
    let [default] = port.groups[..] else { panic!("{port:?}") };
    let other = cell.cloud.decide(&me, |plan| group::create(plan, "one".into(), String::new(), None)).await.unwrap();
    let (mut tracker, revision) =
        cell.cloud.read(|reader| Ok((Tracker::open(reader)?, reader.revision()))).await.unwrap();
    let mut watch = cell.cloud.view().store().watch(&KeyRange::all(), revision).await.unwrap();
    let rule = group::NewRule {
        group: default,
        direction: RuleDirection::Ingress,
        ipv6: false,
        protocol: None,
        port_min: None,
        port_max: None,
        remote: Remote::Group(other.id),
        description: String::new(),
    };
    let added = cell.cloud.decide(&me, |plan| group::add_rules(plan, default, vec![rule.clone()])).await.unwrap();
    let mut next = async |tracker: &mut Tracker| {
        let mut affected = Affected::default();
        for batch in watch.next().await.unwrap() {
            affected.merge(tracker.apply(&batch));
        }
        affected.nodes.remove("node-1").unwrap()
    };
    let parts = next(&mut tracker).await;
    assert_eq!(parts, Parts { ports: [port.id].into(), groups: [other.id].into(), ..Parts::default() });
    assert_eq!(tracker.all_on("node-1").groups, [default, other.id].into());
    cell.cloud.decide(&me, |plan| group::delete_rule(plan, added[0].id)).await.unwrap();
    let parts = next(&mut tracker).await;
    assert_eq!(parts, Parts { ports: [port.id].into(), unnamed: [other.id].into(), ..Parts::default() });
}

#[tokio::test]
async fn a_default_group_is_deleted_by_administrators_only_and_made_anew() {
    let cell = cell().await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    let port = cell.port(&me, network.id).await.unwrap();
    let [first] = port.groups[..] else { panic!("{port:?}") };
    let (me_too, boss) = (me.clone(), admin());
    let delete = |who: &Who| {
        let (cloud, who) = (cell.cloud.clone(), who.clone());
        async move { cloud.decide(&who, |plan| group::delete(plan, first)).await }
    };
    assert!(matches!(delete(&me_too).await, Err(NetError::DefaultGroup(_))));
    assert!(matches!(delete(&boss).await, Err(NetError::InUse { kind: Kind::SecurityGroup, .. })));
    cell.cloud.decide(&me, |plan| port::delete(plan, port.id)).await.unwrap();

    // Somebody has just decided on a port in it.
    let late = cell.cloud.read(|reader| {
        let mut plan = plan::Plan::new(reader, &cell.world, cell.cloud.picks(), &me);
        port::create(&mut plan, NewPort::on(network.id))?;
        Ok(plan.finish().0)
    });
    let late = late.await.unwrap();
    delete(&boss).await.unwrap();
    let refused = cell.cloud.view().store().commit(late).await;
    assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
    let left = cell.left().await;
    assert!(!left.iter().any(|key| key.contains(&first.to_string())), "{left:?}");

    let port = cell.port(&me, network.id).await.unwrap();
    let [second] = port.groups[..] else { panic!("{port:?}") };
    assert_ne!(second, first);
    let used = cell.cloud.read(|reader| Ok(quota::used(reader, &me.project, Resource::SecurityGroup)));
    assert_eq!(used.await.unwrap(), 1);
}

#[tokio::test]
async fn a_group_goes_only_when_nobody_is_in_it_and_takes_rules_that_name_it_along() {
    let cell = cell().await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    let make =
        |name: &'static str| cell.cloud.decide(&me, move |plan| group::create(plan, name.into(), String::new(), None));
    let (one, two) = (make("one").await.unwrap(), make("two").await.unwrap());
    assert!(matches!(make("default").await, Err(NetError::DefaultGroup(_))));
    let rule = group::NewRule {
        group: two.id,
        direction: RuleDirection::Ingress,
        ipv6: false,
        protocol: Some("TCP".into()),
        port_min: Some(22),
        port_max: Some(22),
        remote: Remote::Group(one.id),
        description: String::new(),
    };
    let add =
        |rule: group::NewRule| cell.cloud.decide(&me, move |plan| group::add_rules(plan, two.id, vec![rule.clone()]));
    add(rule.clone()).await.unwrap();
    let same = group::NewRule { protocol: Some("6".into()), ..rule.clone() };
    assert!(matches!(add(same).await, Err(NetError::RuleExists(_))));
    for nonsense in [
        group::NewRule { protocol: Some("tpc".into()), ..rule.clone() },
        group::NewRule { protocol: None, ..rule.clone() },
        group::NewRule { port_max: Some(21), ..rule.clone() },
        group::NewRule { remote: Remote::Prefix("fd00::/64".parse().unwrap()), ..rule.clone() },
    ] {
        let refused = add(nonsense).await.unwrap_err();
        assert!(matches!(refused, NetError::Invalid(_)), "{refused:?}");
    }
    let new = NewPort { groups: Some(vec![one.id]), ..NewPort::on(network.id) };
    let port = cell.cloud.decide(&me, |plan| port::create(plan, new.clone())).await.unwrap();
    let delete = || cell.cloud.decide(&me, |plan| group::delete(plan, one.id));
    assert!(matches!(delete().await, Err(NetError::InUse { kind: Kind::SecurityGroup, .. })));
    cell.cloud.decide(&me, |plan| port::delete(plan, port.id)).await.unwrap();
    delete().await.unwrap();
    let (left, used) = cell
        .cloud
        .read(|reader| {
            let (group, _) = plan::seen::<SecurityGroup>(reader, &me, &two.id)?;
            Ok((group.rules.len(), quota::used(reader, &me.project, Resource::SecurityRule)))
        })
        .await
        .unwrap();
    assert_eq!((left, used), (2, 6), "the default group's four and two of the group that is left");
}

#[tokio::test]
async fn records_are_read_as_they_were_written() {
    fn check<R: Record + PartialEq + std::fmt::Debug>(record: R) {
        assert_eq!(R::decode(&record.encode()).unwrap(), record);
    }
    let cell = cell().await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    check(cell.subnet(&me, network.id, "10.1.0.0/24").await);
    check(cell.subnet(&me, network.id, "fd00:1::/64").await);
    let (server, port) = cell.server(&me, network.id, NODE).await;
    check(port.clone());
    check(Port { holder: Holder::Router(RouterId::from_uuid(Uuid::nil())), ..port.clone() });
    let pair = AllowedPair { address: "10.9.0.0/24".parse().unwrap(), mac: Some(port.mac) };
    check(Port { allowed_pairs: vec![pair], ..port });
    check(network);
    let mut group = group::default_of(&cell.world, &me.project);
    group.rules[0].remote = Remote::Prefix("10.0.0.0/8".parse().unwrap());
    group.rules[0].port_min = Some(0);
    group.standard.tags.insert("red".into());
    check(group);
    check(Quota { project: me.project, limits: [(Resource::Port, None), (Resource::Network, Some(3))].into() });
    assert_eq!(server.to_string().len(), 36);
}

/// A store whose every second commit has an unknown outcome: it has happened, or it has not.
struct Doubtful {
    inner: store::engine::Engine,
    commits: AtomicU64,
}

#[async_trait::async_trait]
impl Store for Doubtful {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.inner.get(key).await
    }
    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.inner.range(range, limit).await
    }
    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        self.inner.watch(range, after).await
    }
    async fn snapshot(&self) -> Result<Box<dyn store::port::Snapshot>, ReadError> {
        self.inner.snapshot().await
    }
    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let turn = self.commits.fetch_add(1, Ordering::Relaxed);
        if turn.is_multiple_of(2) && !turn.is_multiple_of(4) {
            return Err(CommitError::Unknown { reason: "it never arrived".into() });
        }
        let outcome = self.inner.commit(txn).await;
        if turn.is_multiple_of(4) {
            Err(CommitError::Unknown { reason: "the answer was lost".into() })
        } else {
            outcome
        }
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_before_the_answer() {
    let cell = cell_over(|inner| Arc::new(Doubtful { inner, commits: AtomicU64::new(0) })).await;
    let me = who("p1");
    let network = cell.network(&me, "n").await;
    cell.subnet(&me, network.id, "10.1.0.0/24").await;
    let mut ports = Vec::new();
    for _ in 0..4 {
        ports.push(cell.port(&me, network.id).await.unwrap().id);
    }
    let used = |resource| cell.cloud.view().peek(|reader| quota::used(reader, &me.project, resource));
    cell.left().await;
    assert_eq!((used(Resource::Network), used(Resource::Subnet), used(Resource::Port)), (1, 1, 4));
    let rename = port::Change { name: Some("x".into()), ..port::Change::default() };
    for id in &ports {
        let port = cell.cloud.decide(&me, |plan| port::update(plan, *id, rename.clone())).await.unwrap();
        assert_eq!(port.standard.revision, 2, "changed once");
    }
    for id in &ports {
        cell.cloud.decide(&me, |plan| port::delete(plan, *id)).await.unwrap();
    }
    cell.cloud.decide(&me, |plan| network::delete(plan, network.id)).await.unwrap();
    let left = cell.left().await;
    assert_eq!(left.len(), 4, "the default group and what counts it: {left:?}");
}
