//! Removing something together with what hangs on it, in steps that survive a crash.
//!
//! First the record is marked: from then on it works no more, and nothing new can be hung on it, because whoever hangs
//! something on it requires the record as it was. Then what hangs on it goes in bounded transactions, the record and its
//! name last. Whoever finds it half removed just removes it again.

use std::collections::BTreeSet;

use store::{Key, Reader, Record, Txn};

use crate::error::Error;
use crate::record::{Domain, Group, Project, Role, User};
use crate::service::{CHANGE_OPERATIONS_MAX, Decided, Identity, require};

/// Things of one step: with its precondition, the record and its name they fit a transaction.
const STEP_KEYS_MAX: usize = CHANGE_OPERATIONS_MAX - 8;

/// A record that is removed in steps.
pub(crate) trait Doomed: Record {
    const KIND: &'static str;
    fn deleting(&self) -> bool;
    fn doom(&mut self);
}

macro_rules! doomed {
    ($type:ty, $kind:literal) => {
        impl Doomed for $type {
            const KIND: &'static str = $kind;
            fn deleting(&self) -> bool {
                self.deleting
            }
            fn doom(&mut self) {
                self.deleting = true;
            }
        }
    };
}
doomed!(Domain, "domain");
doomed!(Project, "project");
doomed!(User, "user");
doomed!(Group, "group");
doomed!(Role, "role");

impl Identity {
    /// Removes the record `id`. `check` may refuse before anything happens; `hanging` lists the keys that hang on it;
    /// `names` those that go with it.
    pub(crate) async fn remove<R: Doomed>(
        &self,
        id: &str,
        check: impl Fn(&Reader<'_>, &R) -> Result<(), Error>,
        hanging: impl Fn(&Reader<'_>, &R) -> Result<Vec<Key>, Error>,
        names: impl Fn(&R) -> Vec<Key>,
    ) -> Result<(), Error> {
        self.doom(id, check).await?;
        self.finish(id, hanging, names).await
    }

    /// The first step: marks the record.
    pub(crate) async fn doom<R: Doomed>(
        &self,
        id: &str,
        check: impl Fn(&Reader<'_>, &R) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.change(|reader| {
            let (mut record, revision) = require::<R>(reader, R::KIND, &id)?;
            if record.deleting() {
                return Decided::nothing(());
            }
            check(reader, &record)?;
            record.doom();
            let mut txn = Txn::new();
            txn.replace(record.key(), revision, record.encode());
            Decided::rights("something is being removed", txn, ())
        })
        .await
    }

    /// All further steps.
    pub(crate) async fn finish<R: Doomed>(
        &self,
        id: &str,
        hanging: impl Fn(&Reader<'_>, &R) -> Result<Vec<Key>, Error>,
        names: impl Fn(&R) -> Vec<Key>,
    ) -> Result<(), Error> {
        while !self.change(|reader| remove_step(reader, id, &hanging, &names)).await? {}
        Ok(())
    }
}

/// One transaction of a removal; whether it was the last one.
fn remove_step<R: Doomed>(
    reader: &Reader<'_>,
    id: &str,
    hanging: impl Fn(&Reader<'_>, &R) -> Result<Vec<Key>, Error>,
    names: impl Fn(&R) -> Vec<Key>,
) -> Result<Decided<bool>, Error> {
    let Some((record, revision)) = reader.get::<R>(&id)? else { return Decided::nothing(true) };
    let mut txn = Txn::new();
    let mut keys: Vec<Key> = hanging(reader, &record)?.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let last = keys.len() <= STEP_KEYS_MAX;
    keys.truncate(STEP_KEYS_MAX);
    if last {
        txn.remove(record.key(), revision);
        keys.extend(names(&record));
    } else if let Some(first) = keys.first() {
        txn.exists(first.clone());
    }
    for key in keys {
        txn.delete(key);
    }
    Decided::rights("something is being removed", txn, last)
}
