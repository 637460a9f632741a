//! Listings and what else crosses the wire: the one place that knows both forms.

use std::sync::Arc;

use names::{Cause, Change, Dying, Listing, Speaks, Status, Version};
use pki::{Identity, Role};
use proto::liveness::v1 as wire;
use world::Wall;

use crate::core::{News, Said, Statement, Tried, Wanted};

/// Listings in one message.
const LISTINGS_MAX: usize = 1000;
/// What a process may say of itself, in bytes of text; more is refused.
const FACTS_BYTES_MAX: usize = 4096;
/// The watch word for everybody.
pub(crate) const ALL: &str = "*";

pub(crate) fn version(version: Version) -> wire::Version {
    wire::Version { instance: version.instance, number: version.number }
}

pub(crate) fn version_of(told: Option<&wire::Version>) -> Version {
    told.map_or_else(Version::default, |told| Version { instance: told.instance, number: told.number })
}

/// What is wanted; a role that this release does not know is nobody's.
pub(crate) fn wanted_of(watch: &[String]) -> Wanted {
    if watch.iter().any(|word| word == ALL) {
        return Wanted::All;
    }
    Wanted::Roles(watch.iter().filter_map(|role| role.parse().ok()).collect())
}

pub(crate) fn watch(wanted: &Wanted) -> Vec<String> {
    match wanted {
        Wanted::All => vec![ALL.to_owned()],
        Wanted::Roles(roles) => roles.iter().map(Role::to_string).collect(),
    }
}

pub(crate) fn facts(listing: &Listing) -> wire::Facts {
    wire::Facts {
        roles: listing.roles.iter().map(Role::to_string).collect(),
        endpoints: listing.endpoints.clone(),
        zone: listing.zone.clone(),
        machine: listing.machine.clone(),
        release: listing.release.clone(),
        speaks_least: listing.speaks.least,
        speaks_most: listing.speaks.most,
        load: listing.load,
        serving: listing.serving,
        config: listing.config,
    }
}

/// What `who` says of itself. Roles that this release does not know are left out.
pub(crate) fn listing_of(who: Identity, told: wire::Facts) -> Result<Listing, String> {
    let endpoints = told.endpoints.iter().map(|(kind, endpoint)| kind.len() + endpoint.len());
    let text = endpoints.chain([told.zone.len(), told.machine.len(), told.release.len()]).sum::<usize>();
    if text + told.roles.iter().map(String::len).sum::<usize>() > FACTS_BYTES_MAX {
        return Err(format!("what {who} says of itself is longer than {FACTS_BYTES_MAX} bytes"));
    }
    Ok(Listing {
        who,
        session: 0,
        roles: told.roles.iter().filter_map(|role| role.parse().ok()).collect(),
        endpoints: told.endpoints,
        zone: told.zone,
        machine: told.machine,
        release: told.release,
        speaks: Speaks { least: told.speaks_least, most: told.speaks_most },
        load: told.load,
        serving: told.serving,
        config: told.config,
        status: Status::Alive,
    })
}

fn status(status: &Status) -> wire::Status {
    let mut told = wire::Status { since_us: status.since().map_or(0, Wall::as_micros), ..wire::Status::default() };
    match status {
        Status::Alive => told.set_kind(wire::Kind::Alive),
        Status::Suspected { cause, .. } => {
            told.set_kind(wire::Kind::Suspected);
            told.set_cause(match cause {
                Cause::Broken => wire::Cause::Broken,
                Cause::CutOff => wire::Cause::CutOff,
                Cause::Silent => wire::Cause::Silent,
            });
        }
        Status::Unreachable { by, .. } => {
            told.set_kind(wire::Kind::Unreachable);
            told.by = by.iter().cloned().collect();
        }
        Status::Dead { seen, by, .. } => {
            told.set_kind(wire::Kind::Dead);
            told.set_seen(match seen {
                Dying::Refused => wire::Dying::Refused,
                Dying::Replaced => wire::Dying::Replaced,
            });
            told.by = vec![by.clone()];
        }
        Status::Left { .. } => told.set_kind(wire::Kind::Left),
    }
    told
}

/// What is not understood is taken for a suspicion: it stops what is new, and permits nothing that cannot be undone.
fn status_of(told: &wire::Status) -> Status {
    let since = Wall::from_micros(told.since_us);
    match told.kind() {
        wire::Kind::Alive => Status::Alive,
        wire::Kind::Unreachable => Status::Unreachable { since, by: told.by.iter().cloned().collect() },
        wire::Kind::Dead => Status::Dead {
            since,
            seen: match told.seen() {
                wire::Dying::Replaced => Dying::Replaced,
                wire::Dying::Refused | wire::Dying::Unspecified => Dying::Refused,
            },
            by: told.by.first().cloned().unwrap_or_default(),
        },
        wire::Kind::Left => Status::Left { since },
        wire::Kind::Suspected | wire::Kind::Unspecified => Status::Suspected {
            since,
            cause: match told.cause() {
                wire::Cause::CutOff => Cause::CutOff,
                wire::Cause::Silent => Cause::Silent,
                wire::Cause::Broken | wire::Cause::Unspecified => Cause::Broken,
            },
        },
    }
}

/// A listing, as it is told to others.
pub fn to_wire(listing: &Listing) -> wire::Listing {
    wire::Listing {
        who: Some(wire::Name { role: listing.who.role.to_string(), name: listing.who.name.clone() }),
        session: listing.session,
        facts: Some(facts(listing)),
        status: Some(status(&listing.status)),
    }
}

/// A listing that was told; nothing, if its process is of a kind that this release does not know.
pub fn from_wire(cell: &str, told: wire::Listing) -> Option<Listing> {
    let name = told.who?;
    let who = Identity { cell: cell.to_owned(), role: name.role.parse().ok()?, name: name.name };
    let status = status_of(&told.status.unwrap_or_default());
    let listing = listing_of(who, told.facts.unwrap_or_default()).ok()?;
    Some(Listing { session: told.session, status, ..listing })
}

/// News in messages of bounded size.
pub(crate) fn names(news: News) -> Vec<wire::Names> {
    let (whole, after, upto) = (news.whole, news.after, version(news.version));
    let mut messages: Vec<wire::Names> = news
        .changes
        .chunks(LISTINGS_MAX)
        .map(|chunk| {
            let mut names = wire::Names { whole, after, version: Some(upto), more: true, ..wire::Names::default() };
            for change in chunk {
                match change {
                    Change::Put(listing) => names.listings.push(to_wire(listing)),
                    Change::Forget(role, name) => {
                        names.forgotten.push(wire::Name { role: role.to_string(), name: name.clone() });
                    }
                }
            }
            names
        })
        .collect();
    match messages.last_mut() {
        Some(last) => last.more = false,
        None => messages.push(wire::Names { whole, after, version: Some(upto), ..wire::Names::default() }),
    }
    messages
}

/// News that come in several messages.
#[derive(Default)]
pub(crate) struct Gathered(Vec<Change>);

impl Gathered {
    /// The whole news, when `names` is their last part.
    pub(crate) fn add(&mut self, cell: &str, names: wire::Names) -> Option<News> {
        let put = names.listings.into_iter().filter_map(|listing| from_wire(cell, listing));
        self.0.extend(put.map(|listing| Change::Put(Arc::new(listing))));
        let gone =
            names.forgotten.into_iter().filter_map(|gone| Some(Change::Forget(gone.role.parse().ok()?, gone.name)));
        self.0.extend(gone);
        (!names.more).then(|| News {
            whole: names.whole,
            after: names.after,
            version: version_of(names.version.as_ref()),
            changes: std::mem::take(&mut self.0),
        })
    }
}

/// Statements in messages of bounded size.
pub(crate) fn said(instance: &str, said: &Said) -> Vec<wire::ExchangeResponse> {
    let statement = |statement: &Statement| wire::Statement {
        listing: Some(to_wire(&statement.listing)),
        lock: statement.lock.to_vec().into(),
        turn: statement.turn,
        change: statement.change,
    };
    let message = |statements: Vec<wire::Statement>, more| wire::ExchangeResponse {
        whole: said.whole,
        version: Some(version(said.version)),
        statements,
        config: None,
        instance: instance.to_owned(),
        more,
    };
    let chunks = said.statements.chunks(LISTINGS_MAX);
    let last = chunks.len().saturating_sub(1);
    let messages =
        chunks.enumerate().map(|(index, chunk)| message(chunk.iter().map(statement).collect(), index < last));
    let messages: Vec<_> = messages.collect();
    if messages.is_empty() { vec![message(Vec::new(), false)] } else { messages }
}

pub(crate) fn statement_of(cell: &str, told: wire::Statement) -> Option<Statement> {
    let lock = told.lock.as_ref().try_into().ok()?;
    let listing = Arc::new(from_wire(cell, told.listing?)?);
    Some(Statement { listing, lock, turn: told.turn, change: told.change })
}

pub(crate) fn tried(tried: Option<Tried>) -> wire::Tried {
    match tried {
        None => wire::Tried::Unspecified,
        Some(Tried::Connected) => wire::Tried::Connected,
        Some(Tried::Refused) => wire::Tried::Refused,
        Some(Tried::Silent) => wire::Tried::Silent,
    }
}

pub(crate) fn tried_of(told: wire::Tried) -> Option<Tried> {
    match told {
        wire::Tried::Unspecified => None,
        wire::Tried::Connected => Some(Tried::Connected),
        wire::Tried::Refused => Some(Tried::Refused),
        wire::Tried::Silent => Some(Tried::Silent),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn listing(status: Status) -> Listing {
        Listing {
            who: Identity { cell: "c".into(), role: Role::Agent, name: "n1".into() },
            session: 3,
            roles: BTreeSet::from([Role::Agent]),
            endpoints: BTreeMap::from([(Listing::RPC.to_owned(), "10.0.0.1:7".to_owned())]),
            zone: "nova".into(),
            machine: "m".into(),
            release: "1".into(),
            speaks: Speaks::NOW,
            load: 250,
            serving: true,
            config: 9,
            status,
        }
    }

    #[test]
    fn a_listing_survives_the_wire_whatever_its_status() {
        let since = Wall::from_micros(5);
        let all = [
            Status::Alive,
            Status::Suspected { since, cause: Cause::CutOff },
            Status::Unreachable { since, by: BTreeSet::from(["liveness/a".into(), "agent/n2".into()]) },
            Status::Dead { since, seen: Dying::Replaced, by: "liveness/a".into() },
            Status::Left { since },
        ];
        for status in all {
            assert_eq!(from_wire("c", to_wire(&listing(status.clone()))), Some(listing(status)));
        }
        let unknown = wire::Listing { status: None, ..to_wire(&listing(Status::Alive)) };
        let suspected = from_wire("c", unknown).map(|listing| listing.status);
        assert!(matches!(suspected, Some(Status::Suspected { .. })), "{suspected:?}");
    }

    #[test]
    fn many_changes_come_in_parts_and_are_one() {
        let one = Arc::new(listing(Status::Alive));
        let changes = vec![Change::Put(one); LISTINGS_MAX * 2 + 1];
        let news = News { whole: true, after: 0, version: Version { instance: 7, number: 8 }, changes };
        let messages = names(news.clone());
        assert_eq!(messages.len(), 3);
        let mut gathered = Gathered::default();
        let told: Vec<Option<News>> = messages.into_iter().map(|message| gathered.add("c", message)).collect();
        assert_eq!(told, vec![None, None, Some(news)]);
    }
}
