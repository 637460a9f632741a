//! What is taken of nodes: a counter for each provider and class, and the claims on it.
//!
//! A claim is its boot's until the server is handed over; then the server's; then, if the server disappears for its tenant
//! before its node has confirmed, the work's that deletes it.

use coordinator::WorkId;
use placement::provider::{self, Inventory, ProviderId, used_key};
use placement::{Claim, Holder as HeldBy};
use servers::workflow::{BOOT, DELETE};
use store::{Key, Record};

use crate::account::{Account, Holder, Kind, Ledger};
use crate::books::Books;

pub(crate) fn enter(books: &Books, ledger: &mut Ledger) {
    for claim in books.claims.values() {
        let (holder, record) = (holder(claim), claim.key());
        for (class, amount) in &claim.resources {
            let account = ledger.enter(used_key(claim.provider, class), holder.clone(), *amount, record.clone());
            account.capacity = capacity(books, claim.provider, class);
        }
        if let Some((kind, text)) = trouble(books, claim) {
            ledger.complain(kind, record, text, vec![holder.to_string()]);
        }
    }
    for (id, server) in &books.servers {
        match (&server.node, books.claims.contains_key(id)) {
            (Some(node), false) => {
                let text = format!("it is on {node} and holds nothing there");
                ledger.complain(Kind::NotHeld, server.key(), text, Vec::new());
            }
            (None, _) if books.boot(server).is_none() && server.state != servers::VmState::Error => {
                let text = "it is to be built, and no work builds it".to_owned();
                ledger.complain(Kind::NoHolder, server.key(), text, vec![format!("the server {}", server.id)]);
            }
            (Some(_), true) | (None, _) => {}
        }
    }
}

/// In whose hands a claim is.
pub(crate) fn holder(claim: &Claim) -> Holder {
    match &claim.holder {
        HeldBy::Work(work) => Holder::Work(WorkId::from_uuid(*work.as_uuid())),
        HeldBy::Consumer => Holder::Consumer(format!("server {}", claim.consumer)),
    }
}

fn capacity(books: &Books, provider: ProviderId, class: &str) -> Option<u64> {
    let provider = books.providers.get(&provider)?;
    Some(provider.inventories.get(class).map_or(0, Inventory::granted))
}

/// What is wrong with a claim's holder.
fn trouble(books: &Books, claim: &Claim) -> Option<(Kind, String)> {
    let no_holder = |text: String| Some((Kind::NoHolder, text));
    let Some(node) = books.node_of(claim) else { return no_holder("its provider does not exist".into()) };
    let server = books.servers.get(claim.consumer.as_uuid());
    match (&claim.holder, server) {
        (HeldBy::Consumer, None) => no_holder(format!("it is allocated on {node} to a server that is gone")),
        (HeldBy::Consumer, Some(server)) if server.node.as_deref() != Some(node) => {
            let on = server.node.as_deref().unwrap_or("no node");
            no_holder(format!("it is allocated on {node}, and its server is on {on}"))
        }
        (HeldBy::Work(work), server) => {
            let Some(work) = books.works.get(&WorkId::from_uuid(*work.as_uuid())) else {
                return no_holder(format!("it is claimed on {node} by a work that is gone"));
            };
            let builds = work.kind == BOOT && server.is_none_or(|server| server.node.is_none());
            let removes = work.kind == DELETE && server.is_none();
            if work.subject == claim.consumer.to_string() && (builds || removes) {
                return size(claim, server);
            }
            no_holder(format!(
                "it is claimed on {node} by a work ({} of {}) that has no use for it",
                work.kind, work.subject
            ))
        }
        (HeldBy::Consumer, server) => size(claim, server),
    }
}

fn size(claim: &Claim, server: Option<&servers::Server>) -> Option<(Kind, String)> {
    let other = server.filter(|server| server.resources() != claim.resources)?;
    Some((Kind::NotHeld, format!("{:?} are taken for a server that needs {:?}", claim.resources, other.resources())))
}

/// The account of capacity that nobody holds.
pub(crate) fn empty(books: &Books, key: &Key) -> Option<Account> {
    let text = key.to_text();
    let (id, class) = text.strip_prefix(provider::USED)?.split_once('/')?;
    let capacity = capacity(books, id.parse().ok()?, class)?;
    Some(Account { capacity: Some(capacity), ..Account::empty(key.clone()) })
}
