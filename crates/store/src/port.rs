//! The port: what a store can do, and nothing more.

mod txn;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use txn::{COUNTER_MAX, LIMITS, Limits, Op, Precondition, Txn, TxnError};

/// The name of one entry. Ordered bytewise; by convention readable text with `/` between its parts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Rises with every commit of the cell. Only its [`Entry::modified`] means something. It answers to [`Store::get`]
    /// alone: ranges, watches and snapshots do not show it, and no transaction may name it.
    pub const HEAD: Key = Key(Bytes::from_static(b"head"));

    /// The key with exactly these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Key {
        Key(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared instead of copied.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The key as text, for people and for keys that are made of text.
    pub fn to_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Key {
        Key(text.into_bytes().into())
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_text())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_text())
    }
}

/// The number of a transaction. Rises by exactly one with each commit of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Before the first commit.
    pub const ZERO: Revision = Revision(0);

    /// For engines and decoders; nobody else makes up a revision.
    pub const fn from_u64(number: u64) -> Revision {
        Revision(number)
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The revision of the next commit. (The greatest number, which only a broken peer can name, stays itself.)
    #[must_use]
    pub const fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key holds. A key never changes between the two kinds while it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes that the store does not look into.
    Record(Bytes),
    /// A number that [`Op::Add`] moves.
    Counter(u64),
}

/// A value with the revisions that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// The commit that created the key (it was absent before).
    pub created: Revision,
    /// The commit that wrote the value.
    pub modified: Revision,
}

impl Entry {
    /// The bytes of a record, or nothing if this is a counter.
    pub fn record(&self) -> Option<&Bytes> {
        match &self.value {
            Value::Record(bytes) => Some(bytes),
            Value::Counter(_) => None,
        }
    }

    /// The number of a counter; zero for a record, as for a counter that nobody has moved yet.
    pub fn counter(&self) -> u64 {
        match &self.value {
            Value::Record(_) => 0,
            Value::Counter(number) => *number,
        }
    }
}

/// Keys from `start` up to, not including, `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in it.
    pub start: Key,
    /// The first key behind it; `None`: no bound.
    pub end: Option<Key>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> KeyRange {
        KeyRange { start: Key::new(Bytes::new()), end: None }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        KeyRange {
            start: Key::new(Bytes::copy_from_slice(prefix)),
            end: (!end.is_empty()).then(|| Key::new(Bytes::from(end))),
        }
    }

    /// The keys of this range behind `key`: for the next page.
    pub fn after(&self, key: &Key) -> KeyRange {
        let mut start = key.as_bytes().to_vec();
        start.push(0);
        KeyRange { start: Key::new(Bytes::from(start)), end: self.end.clone() }
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &Key) -> bool {
        *key >= self.start && self.end.as_ref().is_none_or(|end| key < end)
    }
}

/// One page of a range, all of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries in the order of their keys.
    pub entries: Vec<(Key, Entry)>,
    /// Whether entries follow behind the last one.
    pub more: bool,
    /// The state that this page shows.
    pub revision: Revision,
}

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Key,
    /// What it holds now; `None`: it was deleted.
    pub entry: Option<Entry>,
}

/// All changes of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The commit's revision.
    pub revision: Revision,
    /// Its changes, each key once.
    pub events: Vec<Event>,
}

/// A commit did not happen, or may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A precondition does not hold. Nothing happened. Read again, decide again.
    #[error("precondition {index} on {key} does not hold")]
    Conflict {
        /// The position of the first failing precondition in the transaction.
        index: usize,
        /// Its key.
        key: Key,
    },
    /// A bounded add would pass its limit, or go below zero. Nothing happened.
    #[error("{key} is {current}: adding {delta} would leave 0..={limit}")]
    OverLimit {
        /// The counter.
        key: Key,
        /// What it holds.
        current: u64,
        /// What was to be added.
        delta: i64,
        /// The limit that was in force (for a decrease: none, shown as the greatest number).
        limit: u64,
    },
    /// The store cannot take it now (overload, no space, no quorum). Nothing happened; it may be sent again.
    #[error("the store cannot commit now: {reason}")]
    NotNow {
        /// Why.
        reason: String,
    },
    /// It may have happened, may not, or may yet: until a later commit through the same handle has been answered. Send the
    /// same transaction again, or one that conflicts with it.
    #[error("the outcome of the commit is unknown: {reason}")]
    Unknown {
        /// Why.
        reason: String,
    },
    /// No store would take this transaction. Nothing happened; a defect of the caller.
    #[error("the transaction is not acceptable")]
    Invalid(#[source] TxnError),
}

/// A read failed; it may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read now: {reason}")]
pub struct ReadError {
    /// Why.
    pub reason: String,
}

/// A watch cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The store no longer holds the history that this watch needs next: list again, then watch from that revision.
    #[error("the history behind {after} is gone")]
    Compacted {
        /// The last revision that the watch has delivered.
        after: Revision,
    },
    /// The connection to the store broke, or the store ended. Watch again from the last revision that was seen.
    #[error("the watch ended: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
}

/// A running watch.
#[async_trait]
pub trait Watch: Send {
    /// The commits that follow the last one returned and touch the watched range: at least one, in order, each once.
    /// May be dropped while it waits; nothing is lost by that.
    async fn next(&mut self) -> Result<Vec<Arc<Batch>>, WatchError>;
}

/// The store.
///
/// All reads are linearizable. A reply to [`Store::commit`] means that the transaction is durable.
#[async_trait]
pub trait Store: Send + Sync {
    /// The newest value of `key`.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError>;

    /// The newest state of at most `limit` entries of `range`, which may be empty or end before it starts.
    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError>;

    /// Every commit after `after` that touches `range`, from now on. A revision that is still to come is waited for.
    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError>;

    /// One consistent state of everything, with its revision, in pages that the caller takes at its own pace.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError>;

    /// Does all of `txn`, or nothing.
    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError>;

    /// The revision of the newest commit: a view that has applied it may answer reads that began before this call.
    async fn head(&self) -> Result<Revision, ReadError> {
        Ok(self.get(&Key::HEAD).await?.map_or(Revision::ZERO, |entry| entry.modified))
    }
}

/// A consistent state, handed out in pages.
#[async_trait]
pub trait Snapshot: Send {
    /// The revision of the state.
    fn revision(&self) -> Revision;
    /// The next entries, in the order of their keys; empty at the end.
    async fn next(&mut self) -> Result<Vec<(Key, Entry)>, ReadError>;
}
