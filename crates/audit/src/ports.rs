//! Addresses and hardware addresses, each one of a kind and held by one port; how many ports a network has; and that a
//! server has its ports from the commit that claims its node to the one that returns it.

use std::collections::BTreeMap;

use bytes::Bytes;
use ids::uuid::Uuid;
use networks::{Holder as Behind, Port, keys, port};
use store::{Key, Record};

use crate::account::{Account, Holder, Kind, Ledger};
use crate::books::Books;
use crate::capacity;

pub(crate) fn enter(books: &Books, ledger: &mut Ledger) {
    for network in books.networks.values() {
        let key = keys::network_use(network.id);
        ledger.accounts.entry(key).or_insert_with_key(|key| Account::empty(key.clone()));
    }
    let mut of_servers: BTreeMap<Uuid, usize> = BTreeMap::new();
    for port in &books.ports {
        let (holder, record) = (holder(books, port), port.key());
        if let Some(server) = port.server() {
            *of_servers.entry(*server.as_uuid()).or_default() += 1;
            check_place(books, port, *server.as_uuid(), ledger);
        }
        ledger.enter(keys::network_use(port.network), holder.clone(), 1, record.clone());
        if !books.networks.contains_key(&port.network) {
            let text = format!("its network {} does not exist", port.network);
            ledger.complain(Kind::NoHolder, port.key(), text, vec![holder.to_string()]);
        }
        for key in port::held_keys(port, |subnet| books.subnets.get(&subnet)) {
            ledger.enter(key, holder.clone(), 1, record.clone());
        }
        for fixed in port.fixed_ips.iter().filter(|fixed| !books.subnets.contains_key(&fixed.subnet)) {
            let text = format!("it has {} of the subnet {}, which does not exist", fixed.address, fixed.subnet);
            ledger.complain(Kind::NoHolder, port.key(), text, vec![holder.to_string()]);
        }
    }
    for (id, claim) in &books.claims {
        let (has, server) = (of_servers.get(id).copied().unwrap_or(0), books.servers.get(id));
        if let Some(server) = server.filter(|server| server.cards.len() != has) {
            let text = format!("its claim is there and {has} of its {} ports", server.cards.len());
            ledger.complain(Kind::NotHeld, server.key(), text, vec![capacity::holder(claim).to_string()]);
        }
    }
}

/// In whose hands a port is.
fn holder(books: &Books, port: &Port) -> Holder {
    match &port.holder {
        Behind::Free { .. } => Holder::Consumer(format!("port {}", port.id)),
        Behind::Router(router) => Holder::Consumer(format!("router {router}")),
        Behind::Server { server, .. } => match books.claims.get(server.as_uuid()) {
            Some(claim) => capacity::holder(claim),
            None => Holder::Consumer(format!("server {server}")),
        },
    }
}

/// The port of a server is where the server's claim is.
fn check_place(books: &Books, port: &Port, server: Uuid, ledger: &mut Ledger) {
    let behind = || vec![holder(books, port).to_string()];
    match books.claims.get(&server) {
        None => {
            let text = "it is a server's that holds nothing on any node".to_owned();
            ledger.complain(Kind::NoHolder, port.key(), text, behind());
        }
        Some(claim) if books.node_of(claim) != port.node() => {
            let text =
                format!("it is bound to {:?}, and its server's claim to {:?}", port.node(), books.node_of(claim));
            ledger.complain(Kind::NoHolder, port.key(), text, behind());
        }
        Some(_) => {}
    }
}

/// Notes that an address is claimed, and by whom the claim says it is.
pub(crate) fn count(key: &Key, owner: &Bytes, ledger: &mut Ledger) {
    let claims = [keys::ADDRESSES, keys::MACS];
    if !claims.iter().any(|prefix| key.as_bytes().starts_with(prefix.as_bytes())) {
        return;
    }
    let port = Uuid::from_slice(owner).map(|port| Port::key_of(&port.hyphenated()));
    let account = ledger.accounts.get_mut(key);
    let known = account.is_some_and(|account| {
        account.count = 1;
        account.entries.iter().any(|entry| port.as_ref() == Ok(&entry.record))
    });
    if !known {
        let named = port.map_or_else(|_| "nobody".to_owned(), |port| port.to_string());
        ledger.complain(Kind::NoHolder, key, "it is claimed for a port that does not have it".into(), vec![named]);
    }
}

/// The account of a network without ports is entered with the network, so a counter without account has no network.
pub(crate) fn empty(books: &Books, key: &Key) -> Option<Account> {
    let text = key.to_text();
    let network = text.strip_prefix(keys::NETWORK_USES)?.parse().ok()?;
    books.networks.contains_key(&network).then(|| Account::empty(key.clone()))
}
