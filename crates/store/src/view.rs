//! All records of a process in memory: one watch feeds it, indexes answer by other fields, reads are linearizable.
//!
//! A read asks the store for its newest revision and waits until this view has applied it; then it runs on the view
//! alone. So a list costs no scan of the store, and what one process wrote another one sees.
//!
//! The view is whole commits only, one after the other: a reader never sees half a transaction. When the store no longer
//! has the history that the view needs next, the view lists again and takes the new state's place at once.
//!
//! Values stay in their stored bytes, shared with the engine where it lives in this process, and are decoded when read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use planted::Bug;
use tokio::sync::Notify;
use world::World;

use crate::port::{Batch, Entry, Key, KeyRange, ReadError, Revision, Store, WatchError};
use crate::table::{DecodeError, Record};

/// Wait before the store is asked again after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a read waits for the view to catch up before it says that it cannot answer now.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_secs(10);

/// A way to find records of one table by something other than their key.
#[derive(Clone, Copy)]
pub struct Index {
    /// Its name, unique within a view.
    pub name: &'static str,
    /// The table: keys that begin with this are looked at.
    pub table: &'static str,
    /// Under which terms a record is found. A record that cannot be decoded has none.
    pub terms: fn(&Key, &Bytes) -> Vec<String>,
}

impl Index {
    /// An index over a typed table. A record that cannot be decoded is in no index; reading it by key says why.
    pub const fn new(name: &'static str, table: &'static str, terms: fn(&Key, &Bytes) -> Vec<String>) -> Index {
        Index { name, table, terms }
    }
}

/// All entries at one revision, with their indexes: what a view shows, for whoever has the entries by other means.
pub struct State {
    indexes: Arc<[Index]>,
    revision: Revision,
    entries: BTreeMap<Key, Entry>,
    /// (index, term, key), so that all keys of a term stand side by side.
    postings: BTreeSet<(&'static str, String, Key)>,
}

impl State {
    /// The state before the first commit.
    pub fn new(indexes: Vec<Index>) -> State {
        State::empty(indexes.into(), Revision::ZERO)
    }

    fn empty(indexes: Arc<[Index]>, revision: Revision) -> State {
        State { indexes, revision, entries: BTreeMap::new(), postings: BTreeSet::new() }
    }

    /// Goes on to the state after `batch`, which is the next one.
    pub fn apply(&mut self, batch: &Batch) {
        for event in &batch.events {
            self.place(event.key.clone(), event.entry.clone());
        }
        self.revision = batch.revision;
    }

    /// Runs `read` on this state.
    pub fn read<T>(&self, read: impl FnOnce(&Reader<'_>) -> T) -> T {
        read(&Reader { state: self })
    }

    fn place(&mut self, key: Key, entry: Option<Entry>) {
        let before = self.entries.get(&key).and_then(Entry::record);
        let after = entry.as_ref().and_then(Entry::record);
        for index in self.indexes.iter().filter(|index| key.as_bytes().starts_with(index.table.as_bytes())) {
            let old = before.map_or_else(Vec::new, |old| (index.terms)(&key, old));
            let new = after.map_or_else(Vec::new, |new| (index.terms)(&key, new));
            if old == new {
                continue;
            }
            for term in old {
                self.postings.remove(&(index.name, term, key.clone()));
            }
            for term in new {
                self.postings.insert((index.name, term, key.clone()));
            }
        }
        match entry {
            Some(entry) => self.entries.insert(key, entry),
            None => self.entries.remove(&key),
        };
    }
}

/// The view. Share it in an [`Arc`].
pub struct View {
    world: World,
    store: Arc<dyn Store>,
    indexes: Arc<[Index]>,
    inner: RwLock<State>,
    advanced: Notify,
}

/// One state of the view: everything that is read through it belongs together.
pub struct Reader<'a> {
    state: &'a State,
}

impl View {
    /// Lists everything, then follows the store as long as somebody holds the view. Returns when the view is complete.
    pub async fn open(world: &World, store: Arc<dyn Store>, indexes: Vec<Index>) -> Result<Arc<View>, ReadError> {
        let indexes: Arc<[Index]> = indexes.into();
        let view = Arc::new(View {
            world: world.clone(),
            store,
            inner: RwLock::new(State::empty(Arc::clone(&indexes), Revision::ZERO)),
            indexes,
            advanced: Notify::new(),
        });
        view.list().await?;
        world.spawn("view", follow(Arc::downgrade(&view)));
        Ok(view)
    }

    /// Runs `read` on a state that is at least as new as this call.
    pub async fn read<T>(&self, read: impl FnOnce(&Reader<'_>) -> T) -> Result<T, ReadError> {
        let head = self.store.head().await?;
        if !planted::is(Bug::ReadsDoNotWait) {
            self.reach(head).await?;
        }
        Ok(self.peek(read))
    }

    /// Runs `read` on whatever state the view has: for decisions that a commit checks again.
    ///
    /// `read` runs under the view's lock, here and in [`View::read`]: it must be short, and must not look at the view again
    /// but through its [`Reader`], or it may wait for itself.
    pub fn peek<T>(&self, read: impl FnOnce(&Reader<'_>) -> T) -> T {
        self.inner.read().read(read)
    }

    /// The newest revision that the view has applied.
    pub fn revision(&self) -> Revision {
        self.inner.read().revision
    }

    /// Waits until the view has applied `revision`.
    pub async fn reach(&self, revision: Revision) -> Result<(), ReadError> {
        if self.revision() >= revision {
            return Ok(());
        }
        let wait = async {
            loop {
                let mut advanced = std::pin::pin!(self.advanced.notified());
                advanced.as_mut().enable();
                if self.revision() >= revision {
                    return;
                }
                advanced.await;
            }
        };
        self.world.timeout(CATCH_UP_WAIT_MAX, wait).await.map_err(|_| ReadError {
            reason: format!("this process has seen revision {} only, not yet {revision}", self.revision()),
        })
    }

    /// Waits for the next commit that the view applies after `seen`, and returns the view's revision.
    pub async fn advanced(&self, seen: Revision) -> Revision {
        loop {
            let mut advanced = std::pin::pin!(self.advanced.notified());
            advanced.as_mut().enable();
            let revision = self.revision();
            if revision > seen {
                return revision;
            }
            advanced.await;
        }
    }

    /// The store behind this view: for commits, and for reads of a single key without the view.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn list(&self) -> Result<(), ReadError> {
        let mut snapshot = self.store.snapshot().await?;
        let mut fresh = State::empty(Arc::clone(&self.indexes), snapshot.revision());
        loop {
            let page = snapshot.next().await?;
            if page.is_empty() {
                break;
            }
            for (key, entry) in page {
                fresh.place(key, Some(entry));
            }
        }
        // What the view held is freed after the lock is: that takes a while.
        let _before = std::mem::replace(&mut *self.inner.write(), fresh);
        self.advanced.notify_waiters();
        Ok(())
    }

    fn apply(&self, batches: &[Arc<Batch>]) {
        let mut inner = self.inner.write();
        batches.iter().for_each(|batch| inner.apply(batch));
        drop(inner);
        self.advanced.notify_waiters();
    }
}

/// Keeps a view up to date until nobody holds it any more (noticed with the next commit) or the process ends.
async fn follow(view: Weak<View>) {
    loop {
        let Some((world, compacted)) = follow_once(&view).await else { return };
        if compacted {
            let Some(view) = view.upgrade() else { return };
            if view.list().await.is_ok() {
                continue;
            }
        }
        world.sleep(RETRY_PAUSE).await;
    }
}

/// Follows one watch to its end; says whether the history that is needed next is gone. `None`: the view itself is.
async fn follow_once(view: &Weak<View>) -> Option<(World, bool)> {
    let (world, mut watch) = {
        let view = view.upgrade()?;
        let watch = view.store.watch(&KeyRange::all(), view.revision()).await;
        (view.world.clone(), watch)
    };
    loop {
        let batches = match &mut watch {
            Ok(watch) => watch.next().await,
            Err(error) => Err(error.clone()),
        };
        match batches {
            // The view is held only while it is written: a follower must not keep alive what nobody uses.
            Ok(batches) => view.upgrade()?.apply(&batches),
            Err(WatchError::Compacted { .. }) => return Some((world, true)),
            Err(WatchError::Closed { .. }) => return Some((world, false)),
        }
    }
}

impl Reader<'_> {
    /// The state's revision.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// The entry of `key`.
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        self.state.entries.get(key)
    }

    /// The number of a counter; zero if nobody has moved it yet.
    pub fn counter(&self, key: &Key) -> u64 {
        self.entry(key).map_or(0, Entry::counter)
    }

    /// The record with `id`, and the revision at which it was written.
    pub fn get<R: Record>(&self, id: &impl std::fmt::Display) -> Result<Option<(R, Revision)>, DecodeError> {
        self.entry(&R::key_of(id)).map(R::decode_entry).transpose()
    }

    /// Entries of `range`, in the order of their keys.
    pub fn range(&self, range: KeyRange) -> impl Iterator<Item = (&Key, &Entry)> {
        // A range that ends before it starts is empty; BTreeMap would panic.
        let end = range.end.map(|end| end.max(range.start.clone()));
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.state.entries.range((Bound::Included(range.start), end))
    }

    /// All records of a table, in the order of their keys. One that cannot be decoded is an error of its own.
    pub fn all<R: Record>(&self) -> impl Iterator<Item = Result<(R, Revision), DecodeError>> {
        self.range(R::all()).map(|(_, entry)| R::decode_entry(entry))
    }

    /// The keys that index `name` holds under exactly `term`, in order.
    pub fn keys_by(&self, name: &'static str, term: &str) -> impl Iterator<Item = &Key> {
        let term = term.to_owned();
        let from = (name, term.clone(), Key::new(Bytes::new()));
        self.state
            .postings
            .range(from..)
            .take_while(move |(index, there, _)| *index == name && *there == term)
            .map(|(_, _, key)| key)
    }

    /// The keys that index `name` holds under terms that begin with `prefix`, in the order of the terms; with `after`, only
    /// those that come behind this term and key. So a page of a list costs what is on it.
    pub fn keys_under(
        &self,
        name: &'static str,
        prefix: String,
        after: Option<(String, Key)>,
    ) -> impl Iterator<Item = &Key> {
        let from = match after {
            Some((term, key)) => Bound::Excluded((name, term, key)),
            None => Bound::Included((name, prefix.clone(), Key::new(Bytes::new()))),
        };
        self.state
            .postings
            .range((from, Bound::Unbounded))
            .take_while(move |(index, there, _)| *index == name && there.starts_with(&prefix))
            .map(|(_, _, key)| key)
    }

    /// The records that index `name` holds under exactly `term`.
    pub fn by<R: Record>(
        &self,
        name: &'static str,
        term: &str,
    ) -> impl Iterator<Item = Result<(R, Revision), DecodeError>> {
        self.keys_by(name, term).filter_map(|key| self.entry(key)).map(R::decode_entry)
    }
}

#[cfg(test)]
mod tests;
