//! A small cell by hand, and one thing of it broken at a time.

use std::collections::BTreeMap;

use coordinator::Work;
use driver::{Found, GuestId, Observed, PortId, Run, Stock};
use ids::uuid::Uuid;
use networks::{FixedIp, Holder as Behind, Mac, Network, NetworkId, Port, Standard, Subnet, SubnetId};
use placement::{Claim, ConsumerId, Holder, Inventory, Provider, ProviderId, TakerId};
use proto::compute::state::v1 as compute;
use proto::work::state::v1 as work;
use servers::{Flavor, Server, ServerId};
use store::{Batch, Entry, Event, Key, Record, Revision, State, Value};
use world::Wall;

use super::*;

const NETWORK: NetworkId = NetworkId::from_uuid(Uuid::from_u128(0xaa));
const SUBNET: SubnetId = SubnetId::from_uuid(Uuid::from_u128(0xab));
const NODE: ProviderId = ProviderId::from_uuid(Uuid::from_u128(0xac));
const ADDRESS: &str = "10.0.0.7";

/// The entries of a store, to be changed by hand.
#[derive(Clone, Default)]
struct Cell(BTreeMap<Key, Value>);

impl Cell {
    fn put(&mut self, record: &impl Record) {
        self.0.insert(record.key(), Value::Record(record.encode()));
    }

    fn set(&mut self, counter: impl Into<String>, number: u64) {
        self.0.insert(Key::from(counter.into()), Value::Counter(number));
    }

    fn mark(&mut self, key: Key, id: u128) {
        self.0.insert(key, Value::Record(bytes::Bytes::copy_from_slice(Uuid::from_u128(id).as_bytes())));
    }

    fn remove(&mut self, key: Key) {
        self.0.remove(&key).expect("it is there");
    }

    fn state(&self) -> State {
        let revision = Revision::ZERO.next();
        let entry = |value: &Value| Entry { value: value.clone(), created: revision, modified: revision };
        let events = self.0.iter().map(|(key, value)| Event { key: key.clone(), entry: Some(entry(value)) });
        let mut state = State::new(Vec::new());
        state.apply(&Batch { revision, events: events.collect() });
        state
    }

    fn findings(&self) -> Vec<Finding> {
        self.state().read(balance)
    }
}

fn server(id: u128, state: compute::VmState, node: &str) -> Server {
    let mut stored = compute::Server {
        id: Uuid::from_u128(id).as_bytes().to_vec().into(),
        project: "p".into(),
        user: "u".into(),
        node: node.into(),
        group: "g".into(),
        counted_in_group: true,
        ..compute::Server::default()
    };
    stored.set_state(state);
    let card = servers::Card::Network { network: NETWORK, fixed_ip: None };
    let server = Server::from_stored(stored).expect("it makes sense");
    Server { flavor: Flavor::plain("f", "f", 2, 512, 1), cards: vec![card], ..server }
}

fn claim(server: &Server, holder: Holder) -> Claim {
    Claim {
        consumer: server.id.consumer(),
        holder,
        provider: NODE,
        resources: server.resources(),
        project: "p".into(),
        user: "u".into(),
    }
}

fn port(id: u128, behind: Behind) -> Port {
    let standard = Standard::new(String::new(), String::new(), "p".parse().expect("an id"), Wall::default());
    Port {
        id: PortId::from_uuid(Uuid::from_u128(id)),
        standard,
        network: NETWORK,
        admin_state_up: true,
        mac: Mac::from_bytes([0xfa, 0x16, 0x3e, 0, 0, u8::try_from(id).expect("small")]),
        fixed_ips: Vec::new(),
        groups: Vec::new(),
        allowed_pairs: Vec::new(),
        port_security: true,
        host_name: String::new(),
        requested_node: String::new(),
        holder: behind,
    }
}

fn of(server: &Server) -> Behind {
    let (server, zone) = (server.id.guest(), String::new());
    Behind::Server { server, made_for_it: true, node: Some("n1".into()), zone, card: 0 }
}

fn work(id: u128, kind: &str, subject: ServerId) -> Work {
    let stored = work::Work {
        id: Uuid::from_u128(id).as_bytes().to_vec().into(),
        kind: kind.into(),
        subject: subject.to_string(),
        trace: vec![0; 16].into(),
        ..work::Work::default()
    };
    Work::from_stored(stored).expect("it makes sense")
}

/// One node; the server 1 runs on it, the server 2 is being built there by the work 12, the server 3 was accepted and
/// waits for its boot, the work 13; a port 9 that is nobody's.
fn cell() -> Cell {
    let mut cell = Cell::default();
    let inventory = |total| Inventory::plain(total, 1000);
    let inventories = [("VCPU", 8), ("MEMORY_MB", 2048), ("DISK_GB", 10)];
    let inventories = inventories.into_iter().map(|(class, total)| (class.to_owned(), inventory(total))).collect();
    cell.put(&Provider { id: NODE, name: "n1".into(), inventories, traits: Vec::new() });
    let standard = || Standard::new(String::new(), String::new(), "p".parse().expect("an id"), Wall::default());
    cell.put(&Network {
        id: NETWORK,
        standard: standard(),
        admin_state_up: true,
        shared: false,
        mtu: 1500,
        port_security: true,
        host_address: None,
    });
    cell.put(&Subnet {
        id: SUBNET,
        standard: standard(),
        network: NETWORK,
        cidr: "10.0.0.0/24".parse().expect("a range"),
        gateway: None,
        dhcp: true,
        pools: Vec::new(),
        name_servers: Vec::new(),
        routes: Vec::new(),
        ra_mode: None,
        address_mode: None,
    });
    let (runs, built) = (server(1, compute::VmState::Active, "n1"), server(2, compute::VmState::Building, ""));
    let waits = server(3, compute::VmState::Building, "");
    for (id, server) in [(12, &built), (13, &waits)] {
        cell.put(&work(id, servers::workflow::BOOT, server.id));
        cell.mark(coordinator::record::busy_key(&server.id.to_string()), id);
    }
    let by = |work| Holder::Work(TakerId::from_uuid(Uuid::from_u128(work)));
    cell.put(&claim(&runs, Holder::Consumer));
    cell.put(&claim(&built, by(12)));
    let mut first = port(7, of(&runs));
    first.fixed_ips.push(FixedIp { subnet: SUBNET, address: ADDRESS.parse().expect("an address") });
    cell.mark(networks::keys::address(SUBNET, ADDRESS.parse().expect("an address")), 7);
    let free = port(9, Behind::Free { device_id: String::new(), device_owner: String::new() });
    for port in [first, port(8, of(&built)), free] {
        cell.mark(networks::keys::mac(NETWORK, port.mac), port.id.as_uuid().as_u128());
        cell.put(&port);
    }
    [&runs, &built, &waits].into_iter().for_each(|server| cell.put(server));
    for (counter, number) in [
        (format!("p/used/{NODE}/VCPU"), 4),
        (format!("p/used/{NODE}/MEMORY_MB"), 1024),
        (format!("p/used/{NODE}/DISK_GB"), 2),
        ("quota/used/p/instances".into(), 3),
        ("quota/used/p/cores".into(), 6),
        ("quota/used/p/ram".into(), 1536),
        ("quota/used/g/server_group_members".into(), 3),
        ("quota/used/u/key_pairs".into(), 0),
        ("quota-use/p/network".into(), 1),
        ("quota-use/p/subnet".into(), 1),
        ("quota-use/p/port".into(), 4),
        (format!("net-use/{NETWORK}"), 3),
        ("srv/aggregates-made".into(), 5),
    ] {
        cell.set(counter, number);
    }
    cell
}

#[test]
fn works_and_consumers_hold_all_that_is_counted() {
    let cell = cell();
    assert_eq!(cell.findings(), Vec::new());
    let accounts = cell.state().read(accounts);
    let held = |key: String| {
        let account = accounts.iter().find(|account| account.key == Key::from(key.clone()));
        let entries = account.expect("it is there").entries.iter();
        entries.map(|entry| (entry.holder.to_string(), entry.amount)).collect::<Vec<_>>()
    };
    let (work, server) = (Uuid::from_u128(12), Uuid::from_u128(1));
    let both = vec![(format!("the server {server}"), 2), (format!("the work {work}"), 2)];
    assert_eq!(held(format!("p/used/{NODE}/VCPU")), both);
    assert_eq!(held(format!("addr/{SUBNET}/{ADDRESS}")), vec![(format!("the server {server}"), 1)]);
    // A port that will be made is charged like one that is there, and stands for its boot.
    assert!(held("quota-use/p/port".into()).contains(&(format!("the work {}", Uuid::from_u128(13)), 1)));
}

/// Breaks the cell, and expects that one finding is of this kind, about this, and names this.
fn breaks(how: impl FnOnce(&mut Cell), kind: Kind, about: &str, names: &str) {
    let mut cell = cell();
    how(&mut cell);
    let findings = cell.findings();
    let found = findings.iter().find(|found| found.kind == kind && found.about.contains(about));
    let found = found.unwrap_or_else(|| panic!("nothing {kind:?} about {about} in {findings:#?}"));
    assert!(format!("{} {:?}", found.text, found.behind).contains(names), "{found:#?} does not name {names}");
}

#[test]
fn what_does_not_add_up_is_named_with_who_is_behind_it() {
    let id = |id| Uuid::from_u128(id).to_string();
    // Counters that are too high, too low, over what there is, or nobody's.
    breaks(|cell| cell.set(format!("p/used/{NODE}/VCPU"), 5), Kind::Unbalanced, "/VCPU", &id(12));
    breaks(|cell| cell.set("quota/used/p/ram", 1), Kind::Unbalanced, "/ram", &id(1));
    breaks(|cell| cell.set("quota/used/g/server_group_members", 2), Kind::Unbalanced, "/server_group", &id(2));
    breaks(|cell| cell.set("quota/used/u/key_pairs", 1), Kind::Unbalanced, "/key_pairs", "says 1");
    breaks(|cell| cell.set("quota-use/p/port", 3), Kind::Unbalanced, "quota-use/p/port", &id(13));
    breaks(|cell| cell.set("quota-use/q/router", 1), Kind::Unbalanced, "quota-use/q/router", "says 1");
    breaks(|cell| cell.set(format!("net-use/{NETWORK}"), 2), Kind::Unbalanced, "net-use/", &id(9));
    breaks(|cell| cell.set("quota/used/p/volumes", 0), Kind::Unexplained, "/volumes", "");
    breaks(|cell| cell.set(format!("net-use/{}", id(5)), 0), Kind::Unexplained, "net-use/", "");
    breaks(
        |cell| {
            let inventories = BTreeMap::from([("VCPU".to_owned(), Inventory::plain(3, 1000))]);
            cell.put(&Provider { id: NODE, name: "n1".into(), inventories, traits: Vec::new() });
        },
        Kind::Overused,
        "/VCPU",
        "4 are held of 3",
    );
    // Claims whose holder is gone, elsewhere, or somebody else.
    let consumer = |id| ConsumerId::from_uuid(Uuid::from_u128(id));
    breaks(|cell| cell.remove(Work::key_of(&id(12))), Kind::NoHolder, "p/claim/", &id(12));
    breaks(|cell| cell.remove(Server::key_of(&id(1))), Kind::NoHolder, "p/claim/", &id(1));
    breaks(|cell| cell.remove(Work::key_of(&id(13))), Kind::NoHolder, "srv/server/", &id(3));
    breaks(|cell| cell.remove(Claim::key_of(&consumer(1))), Kind::NotHeld, "srv/server/", "n1");
    breaks(|cell| cell.put(&server(1, compute::VmState::Active, "n2")), Kind::NoHolder, "p/claim/", "n2");
    breaks(
        |cell| cell.put(&claim(&server(2, compute::VmState::Building, ""), Holder::Consumer)),
        Kind::NoHolder,
        "p/claim/",
        "no node",
    );
    // Addresses without their port, ports without their addresses, claims without their ports.
    breaks(|cell| cell.mark(Key::from("addr/x/1".to_owned()), 7), Kind::NoHolder, "addr/x/1", &id(7));
    breaks(|cell| cell.mark(Key::from(format!("addr/{SUBNET}/{ADDRESS}")), 8), Kind::NoHolder, ADDRESS, &id(8));
    breaks(|cell| cell.remove(Key::from(format!("addr/{SUBNET}/{ADDRESS}"))), Kind::Unbalanced, ADDRESS, &id(7));
    breaks(|cell| cell.remove(Port::key_of(&id(9))), Kind::NoHolder, "mac/", &id(9));
    breaks(|cell| cell.remove(Port::key_of(&id(8))), Kind::NotHeld, "srv/server/", "0 of its 1 ports");
    breaks(|cell| cell.mark(Key::from("srv/aggregate/1".to_owned()), 1), Kind::Damaged, "srv/aggregate/1", "");
}

#[test]
fn a_server_that_is_gone_before_its_node_has_confirmed_leaves_its_claim_to_a_work() {
    let gone = |kind, ports| {
        let mut cell = cell();
        let removed = server(1, compute::VmState::Active, "n1");
        cell.remove(removed.key());
        cell.put(&claim(&removed, Holder::Work(TakerId::from_uuid(Uuid::from_u128(11)))));
        cell.put(&work(11, kind, removed.id));
        cell.set("quota/used/p/instances", 2);
        cell.set("quota/used/p/cores", 4);
        cell.set("quota/used/p/ram", 1024);
        cell.set("quota/used/g/server_group_members", 2);
        cell.set("quota-use/p/port", ports);
        cell.findings()
    };
    // A delete gives its ports' quota back when they are; a boot that is undone has done so already.
    assert_eq!(gone(servers::workflow::DELETE, 4), Vec::new());
    assert_eq!(gone(servers::workflow::BOOT, 3), Vec::new());
    assert_eq!(gone(servers::workflow::POWER, 3).first().map(|found| found.kind), Some(Kind::NoHolder));
}

#[test]
fn a_node_has_what_is_placed_on_it_and_nothing_else() {
    let guest = |id| GuestId::from_uuid(Uuid::from_u128(id));
    let tap = |id| PortId::from_uuid(Uuid::from_u128(id));
    let runs = |id| Found { guest: guest(id), observed: Observed::Running(Run(1)) };
    let healthy = Stock {
        guests: vec![runs(1), runs(2)],
        disks: vec![guest(1), guest(2)],
        taps: Some(vec![tap(7), tap(8)]),
        networks: vec![NETWORK],
    };
    let compared = |node: &str, stock: &Stock| {
        cell().state().read(|reader| compare(reader, node, stock)).expect("all is readable")
    };
    let clean = compared("n1", &healthy);
    assert_eq!(clean.findings, Vec::new());
    // The server 2 is being built: its guest is there, and it is placed nowhere yet.
    assert_eq!(clean.under_way.len(), 1);
    assert!(clean.under_way[0].contains(&Uuid::from_u128(12).to_string()), "{:?}", clean.under_way);

    let found = |node: &str, change: &dyn Fn(&mut Stock)| {
        let mut stock = healthy.clone();
        change(&mut stock);
        compared(node, &stock).findings.iter().map(|found| format!("{found}")).collect::<Vec<_>>().join("\n")
    };
    let one = Uuid::from_u128(1);
    let gone = found("n1", &|stock| stock.guests.truncate(0));
    assert!(gone.contains(&format!("missing: n1: server {one}")) && gone.contains("no guest of it"), "{gone}");
    let no_disk = found("n1", &|stock| stock.disks.truncate(0));
    assert!(no_disk.contains("no disk of it"), "{no_disk}");
    let no_tap = found("n1", &|stock| stock.taps = Some(vec![tap(8)]));
    assert!(no_tap.contains(&format!("no tap for the port {}", Uuid::from_u128(7))), "{no_tap}");
    // Without taps of any guest, none is missing.
    assert_eq!(found("n1", &|stock| stock.taps = None), "");
    let stranger = found("n1", &|stock| stock.guests.push(runs(77)));
    assert!(stranger.contains("leftover: n1: guest") && stranger.contains("no such server"), "{stranger}");
    let free = found("n1", &|stock| stock.taps.get_or_insert_default().push(tap(9)));
    assert!(free.contains("the port is no server's"), "{free}");
    let network = found("n1", &|stock| stock.networks.push(NetworkId::from_uuid(Uuid::from_u128(78))));
    assert!(network.contains("does not exist"), "{network}");
    // The same guest on a second node.
    let twice = found("n2", &|_| {});
    assert!(twice.contains(&format!("n2: guest {one}: it is here, and its server is placed on n1")), "{twice}");
    assert!(twice.contains(&format!("the server {one} holds its claim on n1")), "{twice}");
}
