//! News in the order in which an instance learnt them, and what somebody has missed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use names::{Change, Version};
use pki::Role;

use super::Who;
use super::record::Record;

/// As many changes are remembered; who missed more is told everything.
const CHANGES_MAX: usize = 65_536;

/// Of whom somebody wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of everybody.
    All,
    /// Of those who play one of these.
    Roles(BTreeSet<Role>),
}

impl Wanted {
    /// Whether it is about somebody with the role `own` who plays `plays`.
    pub fn has(&self, own: Role, plays: &BTreeSet<Role>) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Roles(roles) => roles.contains(&own) || !roles.is_disjoint(plays),
        }
    }
}

/// What somebody has missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Everything there is, instead of what was known; otherwise it follows on `after`.
    pub whole: bool,
    /// What it follows on.
    pub after: u64,
    /// How far it goes.
    pub version: Version,
    /// What changed, each process once.
    pub changes: Vec<Change>,
}

/// The newest changes: who, by number. What changed is in the records.
pub(super) struct Log {
    version: Version,
    all: Changes,
    /// The same by role, so that those who follow a few processes do not read through the changes of all the others.
    by_role: BTreeMap<Role, Changes>,
}

#[derive(Default)]
struct Changes {
    /// The newest that is not remembered.
    dropped: u64,
    newest: VecDeque<(u64, Who)>,
}

impl Changes {
    fn note(&mut self, number: u64, who: &Who) {
        self.newest.push_back((number, Arc::clone(who)));
        if self.newest.len() > CHANGES_MAX
            && let Some((number, _)) = self.newest.pop_front()
        {
            self.dropped = number;
        }
    }

    fn after(&self, number: u64) -> impl Iterator<Item = &Who> {
        let from = self.newest.partition_point(|(of, _)| *of <= number);
        self.newest.range(from..).map(|(_, who)| who)
    }
}

impl Log {
    pub(super) fn new(instance: u64) -> Log {
        Log { version: Version { instance, number: 0 }, all: Changes::default(), by_role: BTreeMap::new() }
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn note(&mut self, who: &Who, plays: &BTreeSet<Role>) {
        self.version.number += 1;
        let number = self.version.number;
        self.all.note(number, who);
        for role in plays.iter().copied().chain([who.0]).collect::<BTreeSet<_>>() {
            self.by_role.entry(role).or_default().note(number, who);
        }
    }

    /// Whether what is remembered in `changes` follows on `seen`.
    fn follows(&self, changes: Option<&Changes>, seen: Version) -> bool {
        seen.instance == self.version.instance
            && seen.number <= self.version.number
            && changes.is_none_or(|changes| seen.number >= changes.dropped)
    }

    /// Everybody who changed after `seen`; nothing, if that is too long ago to be told.
    pub(super) fn missed(&self, seen: Version) -> Option<BTreeSet<&Who>> {
        self.follows(Some(&self.all), seen).then(|| self.all.after(seen.number).collect())
    }

    fn missed_of(&self, seen: Version, wanted: &Wanted) -> Option<BTreeSet<&Who>> {
        match wanted {
            Wanted::All => self.missed(seen),
            Wanted::Roles(roles) => {
                let mut missed = BTreeSet::new();
                for changes in roles.iter().map(|role| self.by_role.get(role)) {
                    if !self.follows(changes, seen) {
                        return None;
                    }
                    missed.extend(changes.into_iter().flat_map(|changes| changes.after(seen.number)));
                }
                self.follows(None, seen).then_some(missed)
            }
        }
    }

    pub(super) fn news(&self, records: &BTreeMap<Who, Record>, seen: Version, wanted: &Wanted) -> News {
        let version = self.version;
        let Some(missed) = self.missed_of(seen, wanted) else {
            let has = |record: &&Record| wanted.has(record.listing.who.role, &record.listing.roles);
            let all = records.values().filter(has);
            let changes = all.map(|record| Change::Put(Arc::clone(&record.listing))).collect();
            return News { whole: true, after: 0, version, changes };
        };
        let change = |who: &Who| match records.get(who) {
            Some(record) => Change::Put(Arc::clone(&record.listing)),
            None => Change::Forget(who.0, who.1.clone()),
        };
        News { whole: false, after: seen.number, version, changes: missed.into_iter().map(change).collect() }
    }
}
