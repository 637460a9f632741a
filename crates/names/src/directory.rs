//! What this process was told of the others, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pki::Role;
use tokio::sync::Notify;

use crate::listing::Listing;

/// How far a directory is: a number that is ordered only within one liveness instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The instance, drawn at its start; 0: none yet.
    pub instance: u64,
    /// The number of its last change.
    pub number: u64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This is known of a process now.
    Put(Arc<Listing>),
    /// A process is not spoken of any more.
    Forget(Role, String),
}

/// A change that does not follow on what is there: everything must be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a change of instance {:x} after number {after} was told to somebody at {have:?}", told.instance)]
pub struct OutOfOrder {
    /// What was told.
    pub told: Version,
    /// What it follows on.
    pub after: u64,
    /// What was there.
    pub have: Version,
}

/// The listings that this process knows. Readers never wait.
#[derive(Default)]
pub struct Directory {
    inside: Mutex<Inside>,
    changed: Notify,
}

/// Who: the role and the name of a certificate.
type Key = (Role, String);

#[derive(Default)]
struct Inside {
    version: Version,
    listings: BTreeMap<Key, Arc<Listing>>,
    /// The same by what they play: whoever looks for one of a few need not pass by ten thousand agents.
    players: BTreeMap<Role, BTreeMap<Key, Arc<Listing>>>,
    /// Changes so far, for those who wait.
    changes: u64,
}

impl Inside {
    fn put(&mut self, listing: Arc<Listing>) {
        let key = (listing.who.role, listing.who.name.clone());
        self.forget(&key);
        for role in &listing.roles {
            self.players.entry(*role).or_default().insert(key.clone(), Arc::clone(&listing));
        }
        self.listings.insert(key, listing);
    }

    fn forget(&mut self, key: &Key) {
        let Some(before) = self.listings.remove(key) else { return };
        for role in &before.roles {
            if let Some(players) = self.players.get_mut(role) {
                players.remove(key);
            }
        }
    }
}

impl Directory {
    /// Nothing is known yet.
    pub fn new() -> Arc<Directory> {
        Arc::new(Directory::default())
    }

    /// How far it is.
    pub fn version(&self) -> Version {
        self.inside.lock().version
    }

    /// Replaces everything: what a new instance says, or what is said to somebody who was behind.
    pub fn replace(&self, version: Version, listings: impl IntoIterator<Item = Arc<Listing>>) {
        let mut inside = self.inside.lock();
        inside.version = version;
        inside.listings.clear();
        inside.players.clear();
        listings.into_iter().for_each(|one| inside.put(one));
        inside.changes += 1;
        drop(inside);
        self.changed.notify_waiters();
    }

    /// Applies what follows on number `after` of the instance that this directory is from.
    ///
    /// # Errors
    /// If that is not where this directory is. Nothing was applied.
    pub fn apply(
        &self,
        after: u64,
        told: Version,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), OutOfOrder> {
        let mut inside = self.inside.lock();
        let have = inside.version;
        if have.instance != told.instance || have.number != after || told.number < after {
            return Err(OutOfOrder { told, after, have });
        }
        for change in changes {
            match change {
                Change::Put(listing) => inside.put(listing),
                Change::Forget(role, name) => inside.forget(&(role, name)),
            }
        }
        inside.version = told;
        inside.changes += 1;
        drop(inside);
        self.changed.notify_waiters();
        Ok(())
    }

    /// Everything, by role and name.
    pub fn all(&self) -> Vec<Arc<Listing>> {
        self.inside.lock().listings.values().cloned().collect()
    }

    /// What is known of the process with this certificate.
    pub fn get(&self, role: Role, name: &str) -> Option<Arc<Listing>> {
        self.inside.lock().listings.get(&(role, name.to_owned())).cloned()
    }

    /// Every process that plays `role`, whatever its status.
    pub fn of(&self, role: Role) -> Vec<Arc<Listing>> {
        self.inside.lock().players.get(&role).map(|players| players.values().cloned().collect()).unwrap_or_default()
    }

    /// How many changes there have been.
    pub fn changes(&self) -> u64 {
        self.inside.lock().changes
    }

    /// The names of those of `role` that new things may be given to: who takes calls, or else, if nobody does, whoever is
    /// listed.
    pub fn owners(&self, role: Role) -> Vec<String> {
        let listed = self.of(role);
        let names = |which: &dyn Fn(&Listing) -> bool| -> Vec<String> {
            listed.iter().filter(|listing| which(listing)).map(|listing| listing.who.name.clone()).collect()
        };
        let there = names(&Listing::takes_calls);
        if there.is_empty() { names(&|_| true) } else { there }
    }

    /// Waits until there have been more than `seen` changes, and returns how many there were.
    pub async fn changed(&self, seen: u64) -> u64 {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let changes = self.inside.lock().changes;
            if changes > seen {
                return changes;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use pki::Identity;

    use super::*;
    use crate::listing::{Speaks, Status};

    fn listing(role: Role, name: &str, roles: &[Role]) -> Arc<Listing> {
        Arc::new(Listing {
            who: Identity { cell: "c".into(), role, name: name.into() },
            session: 1,
            roles: roles.iter().copied().collect::<BTreeSet<_>>(),
            endpoints: BTreeMap::from([(Listing::RPC.into(), "127.0.0.1:1".into())]),
            zone: String::new(),
            machine: "m".into(),
            release: "1".into(),
            speaks: Speaks::NOW,
            load: 0,
            serving: true,
            config: 0,
            status: Status::Alive,
        })
    }

    #[test]
    fn what_does_not_follow_is_not_applied() {
        let directory = Directory::new();
        let at = |instance, number| Version { instance, number };
        directory.replace(at(7, 10), [listing(Role::Control, "main", &[Role::Api, Role::Scheduler])]);
        let agent = || Change::Put(listing(Role::Agent, "n1", &[Role::Agent]));
        for (after, told) in [(10, at(8, 11)), (9, at(7, 11)), (11, at(7, 12))] {
            assert!(directory.apply(after, told, [agent()]).is_err());
        }
        assert_eq!((directory.version(), directory.all().len()), (at(7, 10), 1));
        directory.apply(10, at(7, 14), [agent()]).unwrap();
        assert_eq!((directory.version(), directory.all().len()), (at(7, 14), 2));
        directory.apply(14, at(7, 15), [Change::Forget(Role::Agent, "n1".into())]).unwrap();
        assert_eq!(directory.of(Role::Scheduler), vec![listing(Role::Control, "main", &[Role::Api, Role::Scheduler])]);
        assert_eq!(directory.of(Role::Agent), Vec::new());
    }
}
