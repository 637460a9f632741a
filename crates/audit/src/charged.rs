//! What projects, users and groups are charged for: servers, key pairs, server groups; networks, routers, groups, rules.
//!
//! A server is charged from the commit that accepts it to the one that removes its record. So are the ports that will be
//! made for it, whether they are there yet or not; they are given back when its boot has failed and is undone, or when
//! the record goes with an unfinished boot. A delete that waits for a silent node keeps the charge of the ports that it
//! has taken over, until the node has confirmed.

use networks::quota::Resource;
use networks::{Holder as Behind, Port};
use placement::{Holder as HeldBy, quota};
use servers::Server;
use servers::accept::GROUP_MEMBERS;
use servers::group::SERVER_GROUPS;
use servers::keypair::KEY_PAIRS;
use servers::workflow::DELETE;
use store::{Key, Record};

use crate::account::{Account, Holder, Kind, Ledger};
use crate::books::Books;
use crate::capacity;

/// Everything that is counted under `quota/used/`.
const COUNTED: [&str; 6] = ["instances", "cores", "ram", GROUP_MEMBERS, SERVER_GROUPS, KEY_PAIRS];

pub(crate) fn enter(books: &Books, ledger: &mut Ledger) {
    for server in books.servers.values() {
        of_server(books, server, ledger);
    }
    for pair in &books.key_pairs {
        let holder = Holder::Consumer(format!("user {}", pair.user));
        ledger.enter(quota::used_key(pair.user.as_str(), KEY_PAIRS), holder, 1, pair.key());
    }
    for group in &books.server_groups {
        let holder = Holder::Consumer(format!("server group {}", group.id));
        ledger.enter(quota::used_key(group.project.as_str(), SERVER_GROUPS), holder, 1, group.key());
    }
    for network in books.networks.values() {
        let holder = Holder::Consumer(format!("network {}", network.id));
        ledger.enter(Resource::Network.use_key(&network.standard.project), holder, 1, network.key());
    }
    for subnet in books.subnets.values() {
        let holder = Holder::Consumer(format!("subnet {}", subnet.id));
        ledger.enter(Resource::Subnet.use_key(&subnet.standard.project), holder, 1, subnet.key());
    }
    for router in &books.routers {
        let holder = Holder::Consumer(format!("router {}", router.id));
        ledger.enter(Resource::Router.use_key(&router.standard.project), holder, 1, router.key());
    }
    for group in &books.groups {
        let holder = Holder::Consumer(format!("security group {}", group.id));
        let project = &group.standard.project;
        ledger.enter(Resource::SecurityGroup.use_key(project), holder.clone(), 1, group.key());
        ledger.enter(Resource::SecurityRule.use_key(project), holder, group.rules.len() as u64, group.key());
    }
    for port in &books.ports {
        if let Some(holder) = port_holder(books, port) {
            ledger.enter(Resource::Port.use_key(&port.standard.project), holder, 1, port.key());
        }
    }
}

fn of_server(books: &Books, server: &Server, ledger: &mut Ledger) {
    let (holder, record) = (books.holder(server), server.key());
    for (resource, amount) in server.charges() {
        let key = quota::used_key(server.project.as_str(), resource);
        ledger.enter(key, holder.clone(), amount, record.clone());
    }
    if let Some(group) = server.counting_group() {
        ledger.enter(quota::used_key(group, GROUP_MEMBERS), holder.clone(), 1, record.clone());
    }
    let made = server.made_ports();
    if made > 0 && books.ports_charged(server) {
        ledger.enter(Resource::Port.use_key(&server.project), holder, made, record);
    }
}

/// Who is charged for a port as such; `None`: it is charged with the server that it was made for, or, after an unfinished
/// boot whose server is gone, not any more.
fn port_holder(books: &Books, port: &Port) -> Option<Holder> {
    match &port.holder {
        Behind::Server { server, made_for_it: true, .. } => {
            if books.servers.contains_key(server.as_uuid()) {
                return None;
            }
            let claim = books.claims.get(server.as_uuid())?;
            match (&claim.holder, capacity::holder(claim)) {
                (HeldBy::Work(_), Holder::Work(work)) => {
                    let deletes = books.works.get(&work).is_some_and(|work| work.kind == DELETE);
                    deletes.then_some(Holder::Work(work))
                }
                (HeldBy::Work(_) | HeldBy::Consumer, holder) => Some(holder),
            }
        }
        Behind::Server { made_for_it: false, .. } | Behind::Free { .. } | Behind::Router(_) => {
            Some(Holder::Consumer(format!("port {}", port.id)))
        }
    }
}

/// The account of a quota of which nothing is used.
pub(crate) fn empty(key: &Key) -> Option<Account> {
    let counted = quota::parse_used_key(key).is_some_and(|(_, resource)| COUNTED.contains(&resource.as_str()));
    (counted || Resource::of_use_key(key).is_some()).then(|| Account::empty(key.clone()))
}

/// The counter that numbers aggregates has passed every number that is in use.
pub(crate) fn check_sequence(books: &Books, made: u64, ledger: &mut Ledger) {
    for aggregate in books.aggregates.iter().filter(|aggregate| aggregate.id > made) {
        let text = format!("{made} aggregates were made, and one has the number {}", aggregate.id);
        let behind = vec![format!("the aggregate {}", aggregate.name)];
        ledger.complain(Kind::Unbalanced, servers::aggregate::made_key(), text, behind);
    }
}
