//! What is told of whom, how it travels, what nobody can do to the server, and what a system's own resolvers make of it.

mod hostile;
mod system;
mod wire;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use names::{Listing, Speaks, Status, Version};
use pki::{Identity, Role};

use crate::zone::{Reply, Zone};

const CELL: &str = "ab12.mainstay.internal";
const TTL: Duration = Duration::from_secs(1);

/// A process of `role` that plays `parts` and is well.
fn listing(role: Role, name: &str, parts: &[Role], rpc: &str) -> Listing {
    Listing {
        who: Identity { cell: CELL.into(), role, name: name.into() },
        session: 1,
        roles: parts.iter().copied().collect::<BTreeSet<_>>(),
        endpoints: BTreeMap::from([(Listing::RPC.to_owned(), rpc.to_owned())]),
        zone: String::new(),
        machine: format!("host-of-{name}"),
        release: "1".into(),
        speaks: Speaks::NOW,
        load: 0,
        serving: true,
        config: 0,
        status: Status::Alive,
    }
}

fn control(name: &str, rpc: &str) -> Listing {
    listing(Role::Control, name, &Role::PARTS, rpc)
}

fn agent(name: &str, rpc: &str) -> Listing {
    listing(Role::Agent, name, &[Role::Agent], rpc)
}

fn with_https(mut listing: Listing, https: &str) -> Listing {
    listing.endpoints.insert(Listing::HTTPS.into(), https.into());
    listing
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn zone(listings: impl IntoIterator<Item = Listing>) -> Zone {
    let listings: Vec<Arc<Listing>> = listings.into_iter().map(Arc::new).collect();
    Zone::new(&name(CELL), Version { instance: 7, number: 42 }, &listings)
}

fn ask(zone: &Zone, text: &str, kind: RecordType) -> Reply {
    zone.answer(&Query::query(name(text), kind), TTL)
}

/// An answer as `dig +short` shows it, or why there is none.
fn short(reply: &Reply) -> String {
    if reply.code != ResponseCode::NoError {
        return format!("{:?}", reply.code);
    }
    let answers: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    if answers.is_empty() { "NoData".to_owned() } else { answers.join(" | ") }
}

fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(name(text), kind));
    message
}
