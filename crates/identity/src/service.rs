//! The handle on identity that a process has: the view, the store behind it, the password threads, the cache of tokens.

use std::sync::Arc;
use std::time::Duration;

use config::{Settings, keys};
use store::{CommitError, Key, KeyRange, Reader, Record, Txn, View};
use world::World;

use crate::cache::Cache;
use crate::error::Error;
use crate::name::UserId;
use crate::password::Passwords;
use crate::record::{Epoch, RevokedToken};
use crate::verify::Verified;

/// The longest that a token can be good, however it is configured: for so long the key that signed it is kept.
pub const TOKEN_SPAN_MAX: Duration = Duration::from_secs(3600 * keys::TOKEN_HOURS_MAX);
/// How often a decision is taken again because something else changed what it rested on.
const ATTEMPTS_MAX: usize = 16;
/// How often a transaction of unknown outcome is sent again.
const RESENDS_MAX: usize = 5;
/// Records of ended tokens that a commit takes away on its way.
const SWEPT_PER_COMMIT: usize = 8;
/// The operations that a change of ours may have, so that the sweep and the epoch still fit.
pub(crate) const CHANGE_OPERATIONS_MAX: usize = 80;

/// Identity. Share it in an [`Arc`].
pub struct Identity {
    pub(crate) world: World,
    pub(crate) view: Arc<View>,
    pub(crate) passwords: Passwords,
    pub(crate) cache: Cache<Verified>,
    pub(crate) epoch: Key,
    settings: Arc<Settings>,
    changes: Changes,
    pub(crate) hanging_on_users: &'static [HangingOnUser],
}

/// Removes some of what somebody else keeps for a user, in a transaction of at most so many operations; `None`: nothing is
/// left. Whoever keeps it knows what it is counted by.
pub type HangingOnUser = fn(&Reader<'_>, &UserId, usize) -> Option<Txn>;

/// Decides on the newest state and commits: all that a change needs, without what serves logins.
pub(crate) struct Changes {
    world: World,
    view: Arc<View>,
    epoch: Key,
}

/// A change that was decided on one state: what to commit, and what to tell the caller once it is.
pub(crate) struct Decided<T> {
    pub(crate) txn: Txn,
    pub(crate) outcome: T,
    /// A right may be lost, or a name may change: what was concluded before has to be concluded again.
    pub(crate) reason: Option<&'static str>,
}

impl<T> Decided<T> {
    /// Commits `txn`; nobody's rights or names change.
    pub(crate) fn plain(txn: Txn, outcome: T) -> Result<Decided<T>, Error> {
        Ok(Decided { txn, outcome, reason: None })
    }

    /// Commits `txn`, which changes rights or names.
    pub(crate) fn rights(reason: &'static str, txn: Txn, outcome: T) -> Result<Decided<T>, Error> {
        Ok(Decided { txn, outcome, reason: Some(reason) })
    }

    /// Nothing is to be done.
    pub(crate) fn nothing(outcome: T) -> Result<Decided<T>, Error> {
        Ok(Decided { txn: Txn::new(), outcome, reason: None })
    }
}

impl Identity {
    /// Identity over `view`, which must have been opened with [`crate::indexes`] among its own.
    pub fn new(world: &World, view: Arc<View>, passwords: Passwords) -> Arc<Identity> {
        Identity::with(world, view, passwords, &[], &Settings::defaults())
    }

    /// The same, where others keep things for users, which go with the user, and the life of tokens is configured.
    pub fn with(
        world: &World,
        view: Arc<View>,
        passwords: Passwords,
        hanging_on_users: &'static [HangingOnUser],
        settings: &Arc<Settings>,
    ) -> Arc<Identity> {
        let (changes, epoch) = (Changes::new(world, &view), Epoch::key_of_all());
        let (world, cache, settings) = (world.clone(), Cache::new(), Arc::clone(settings));
        Arc::new(Identity { world, view, passwords, cache, epoch, settings, changes, hanging_on_users })
    }

    /// How long a token is good that is issued now, unless it is got with one that ends sooner.
    pub(crate) fn token_span(&self) -> Duration {
        self.settings.get(&keys::TOKEN_SPAN)
    }

    /// The world that this runs in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Asks the newest state.
    pub async fn ask<T>(&self, question: impl FnOnce(&Reader<'_>) -> Result<T, Error>) -> Result<T, Error> {
        self.view.read(question).await?
    }

    /// The record with this id.
    pub async fn get<R: Record>(&self, kind: &'static str, id: &str) -> Result<R, Error> {
        self.ask(|reader| Ok(require::<R>(reader, kind, &id)?.0)).await
    }

    /// All records of a kind, in the order of their ids.
    pub async fn all<R: Record>(&self) -> Result<Vec<R>, Error> {
        self.ask(|reader| Ok(reader.all::<R>().map(|found| Ok(found?.0)).collect::<Result<_, store::DecodeError>>()?))
            .await
    }

    /// As [`Changes::change`].
    pub(crate) async fn change<T>(
        &self,
        decide: impl FnMut(&Reader<'_>) -> Result<Decided<T>, Error>,
    ) -> Result<T, Error> {
        self.changes.change(decide).await
    }
}

impl Changes {
    pub(crate) fn new(world: &World, view: &Arc<View>) -> Changes {
        Changes { world: world.clone(), view: Arc::clone(view), epoch: Epoch::key_of_all() }
    }

    /// Decides on the newest state and commits; decides again if something else was faster. When this returns, this
    /// process's view shows the change.
    pub(crate) async fn change<T>(
        &self,
        mut decide: impl FnMut(&Reader<'_>) -> Result<Decided<T>, Error>,
    ) -> Result<T, Error> {
        let mut conflict = None;
        for _ in 0..ATTEMPTS_MAX {
            let Decided { mut txn, outcome, reason } = self.view.read(&mut decide).await??;
            if txn.ops.is_empty() {
                return Ok(outcome);
            }
            self.ride_along(&mut txn, reason);
            match self.commit(txn).await {
                Ok(()) => return Ok(outcome),
                Err(error @ CommitError::Conflict { .. }) => conflict = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Commit(conflict.expect("at least one attempt was made, and it ended in a conflict")))
    }

    /// What travels with every change: the epoch if rights change, and the removal of what has ended by itself.
    fn ride_along(&self, txn: &mut Txn, reason: Option<&'static str>) {
        if let Some(reason) = reason {
            txn.put(self.epoch.clone(), Epoch { reason: reason.to_owned() }.encode());
        }
        let end = RevokedToken::key_of(&format_args!("{:010}", self.world.wall().as_secs()));
        let ended = KeyRange { start: RevokedToken::all().start, end: Some(end) };
        let keys = self
            .view
            .peek(|reader| reader.range(ended).take(SWEPT_PER_COMMIT).map(|(key, _)| key.clone()).collect::<Vec<_>>());
        for key in keys {
            txn.delete(key);
        }
    }

    async fn commit(&self, txn: Txn) -> Result<(), CommitError> {
        let mut doubtful = false;
        for _ in 0..RESENDS_MAX {
            match self.view.store().commit(txn.clone()).await {
                Ok(revision) => {
                    // If the view is late, the change is made all the same.
                    let _late = self.view.reach(revision).await;
                    return Ok(());
                }
                Err(CommitError::Unknown { .. }) => doubtful = true,
                // After an unknown outcome the conflict may be with ourselves.
                Err(error @ CommitError::Conflict { .. }) if doubtful => {
                    let landed = self.view.read(|reader| landed(reader, &txn)).await;
                    return if landed == Ok(true) { Ok(()) } else { Err(error) };
                }
                Err(error) => return Err(error),
            }
        }
        Err(CommitError::Unknown { reason: format!("it was sent {RESENDS_MAX} times") })
    }
}

/// Whether the state looks exactly as `txn` would have left it.
fn landed(reader: &Reader<'_>, txn: &Txn) -> bool {
    txn.ops.iter().all(|op| match op {
        store::Op::Put(key, value) => reader.entry(key).and_then(store::Entry::record) == Some(value),
        store::Op::Delete(key) => reader.entry(key).is_none(),
        store::Op::Add { .. } => false,
    })
}

/// The record with this id, or the error that it is not there.
pub(crate) fn require<R: Record>(
    reader: &Reader<'_>,
    kind: &'static str,
    id: &impl std::fmt::Display,
) -> Result<(R, store::Revision), Error> {
    reader.get::<R>(id)?.ok_or_else(|| Error::not_found(kind, id))
}
