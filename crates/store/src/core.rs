//! The rules of the store as one pure state machine.
//!
//! [`Core`] holds the newest state in memory and the most recent commits. A transaction is first *prepared* against the
//! state plus what was prepared before it and is not yet durable ([`Pending`]); when the engine has made the prepared
//! batches durable, they are *applied*. Readers and watchers see applied batches only: nobody learns of a thing that a
//! crash could take back.
//!
//! The values of state, history, watchers and views share their bytes, so that holding the state here costs its
//! users nothing twice.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use planted::Bug;

use crate::port::{
    Batch, COUNTER_MAX, CommitError, Entry, Event, Key, KeyRange, Op, Page, Precondition, Revision, Txn, TxnError,
    Value,
};

/// Commits that are kept for watchers. A watcher that is further behind must list again.
///
/// Some seconds of a full-speed cell.
pub const HISTORY_COMMITS_MAX: usize = 8_192;
/// Bytes of kept commits. Most of what they hold is the current state too and is shared with it, so a cell whose records
/// are small reaches the number of commits first.
pub const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an event costs beside its key and value: the structures that hold it.
const EVENT_BYTES: usize = 128;

/// The newest state and the recent commits.
#[derive(Debug, Default)]
pub struct Core {
    state: BTreeMap<Key, Entry>,
    revision: Revision,
    history: VecDeque<Arc<Batch>>,
    history_bytes: usize,
}

/// Prepared batches that are not applied yet, and the state that they lead to.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    overlay: BTreeMap<Key, Option<Entry>>,
    batches: Vec<Arc<Batch>>,
}

impl Pending {
    /// The prepared batches, in order.
    pub fn batches(&self) -> &[Arc<Batch>] {
        &self.batches
    }

    /// What the prepared batches together leave behind, in the order of the keys; `None`: the key is gone.
    pub fn changes(&self) -> impl Iterator<Item = (&Key, Option<&Entry>)> {
        self.overlay.iter().map(|(key, entry)| (key, entry.as_ref()))
    }

    /// The revision that they lead to, if anything was prepared.
    pub fn revision(&self) -> Option<Revision> {
        self.batches.last().map(|batch| batch.revision)
    }

    /// Whether nothing was prepared.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

impl Core {
    /// The state that an engine found on its disk.
    pub fn open(entries: impl IntoIterator<Item = (Key, Entry)>, revision: Revision) -> Core {
        Core { state: entries.into_iter().collect(), revision, ..Core::default() }
    }

    /// The newest applied commit.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The newest value of `key`. [`Key::HEAD`] is as old as the newest commit.
    pub fn get(&self, key: &Key) -> Option<Entry> {
        if *key == Key::HEAD {
            let value = Value::Record(bytes::Bytes::new());
            return (self.revision > Revision::ZERO).then_some(Entry {
                value,
                created: Revision::ZERO.next(),
                modified: self.revision,
            });
        }
        self.state.get(key).cloned()
    }

    /// At most `limit` entries of `range`.
    pub fn range(&self, range: &KeyRange, limit: usize) -> Page {
        let end = range.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        // A range that ends before it starts is empty; BTreeMap would panic.
        let empty = range.end.as_ref().is_some_and(|end| *end <= range.start);
        let mut found =
            if empty { None } else { Some(self.state.range::<Key, _>((Bound::Included(&range.start), end))) };
        let mut next = || found.as_mut().and_then(Iterator::next);
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some((key, entry)) = next() else { break };
            entries.push((key.clone(), entry.clone()));
        }
        let more = next().is_some();
        Page { entries, more, revision: self.revision }
    }

    /// All entries: for a snapshot. Shares the bytes.
    pub fn entries(&self) -> Vec<(Key, Entry)> {
        self.state.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }

    /// The applied commits after `after`, at most `limit`; `None` if the history does not reach back that far.
    pub fn since(&self, after: Revision, limit: usize) -> Option<Vec<Arc<Batch>>> {
        let oldest = self.history.front().map_or(self.revision.next(), |batch| batch.revision);
        if after.next() < oldest {
            return None;
        }
        let skip = usize::try_from(after.next().as_u64() - oldest.as_u64()).unwrap_or(usize::MAX);
        Some(self.history.iter().skip(skip).take(limit).cloned().collect())
    }

    /// Decides `txn`, which has passed [`Txn::check`], against the state as `pending` will leave it, and adds its batch
    /// there.
    pub fn prepare(&self, pending: &mut Pending, txn: &Txn) -> Result<Revision, CommitError> {
        for (index, precondition) in txn.preconditions.iter().enumerate() {
            if !self.holds(pending, precondition) {
                return Err(CommitError::Conflict { index, key: precondition.key().clone() });
            }
        }
        let revision = pending.revision().unwrap_or(self.revision).next();
        let mut events = Vec::with_capacity(txn.ops.len());
        for op in &txn.ops {
            events.extend(self.event(pending, revision, op)?);
        }
        for event in &events {
            pending.overlay.insert(event.key.clone(), event.entry.clone());
        }
        pending.batches.push(Arc::new(Batch { revision, events }));
        Ok(revision)
    }

    /// Makes everything prepared in `pending` visible: it is durable now.
    pub fn apply(&mut self, pending: Pending) {
        for (key, entry) in pending.overlay {
            match entry {
                Some(entry) => self.state.insert(key, entry),
                None => self.state.remove(&key),
            };
        }
        for batch in pending.batches {
            self.revision = batch.revision;
            self.history_bytes += weight(&batch);
            self.history.push_back(batch);
        }
        while self.history.len() > HISTORY_COMMITS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= weight(&oldest);
        }
    }

    fn current<'a>(&'a self, pending: &'a Pending, key: &Key) -> Option<&'a Entry> {
        match pending.overlay.get(key) {
            Some(entry) => entry.as_ref(),
            None => self.state.get(key),
        }
    }

    fn holds(&self, pending: &Pending, precondition: &Precondition) -> bool {
        let entry = self.current(pending, precondition.key());
        match precondition {
            Precondition::Absent(_) => entry.is_none(),
            Precondition::Exists(_) => entry.is_some(),
            Precondition::RevisionIs(_, revision) => entry.is_some_and(|entry| entry.modified == *revision),
            Precondition::CounterIs(_, number) => match entry.map(|entry| &entry.value) {
                None => *number == 0,
                Some(Value::Counter(current)) => current == number,
                Some(Value::Record(_)) => false,
            },
        }
    }

    /// What `op` does; `None` if that is nothing (the deletion of what is not there).
    fn event(&self, pending: &Pending, revision: Revision, op: &Op) -> Result<Option<Event>, CommitError> {
        let key = op.key().clone();
        let current = self.current(pending, &key);
        let created = current.map_or(revision, |entry| entry.created);
        let wrong_kind = || CommitError::Invalid(TxnError::WrongKind { key: op.key().clone() });
        let value = match (op, current.map(|entry| &entry.value)) {
            (Op::Delete(_), None) => return Ok(None),
            (Op::Delete(_), Some(_)) => return Ok(Some(Event { key, entry: None })),
            (Op::Put(_, value), None | Some(Value::Record(_))) => Value::Record(value.clone()),
            (Op::Put(..), Some(Value::Counter(_))) | (Op::Add { .. }, Some(Value::Record(_))) => {
                return Err(wrong_kind());
            }
            (Op::Add { delta, limit, .. }, None) => Value::Counter(moved(&key, 0, *delta, *limit)?),
            (Op::Add { delta, limit, .. }, Some(Value::Counter(current))) => {
                Value::Counter(moved(&key, *current, *delta, *limit)?)
            }
        };
        Ok(Some(Event { key, entry: Some(Entry { value, created, modified: revision }) }))
    }
}

/// What keeping `batch` costs, in bytes.
fn weight(batch: &Batch) -> usize {
    let of = |event: &Event| {
        let value = event.entry.as_ref().and_then(Entry::record).map_or(0, bytes::Bytes::len);
        EVENT_BYTES + event.key.as_bytes().len() + value
    };
    batch.events.iter().map(of).sum()
}

fn moved(key: &Key, current: u64, delta: i64, limit: Option<u64>) -> Result<u64, CommitError> {
    let limit = if delta > 0 { limit.map_or(COUNTER_MAX, |limit| limit.min(COUNTER_MAX)) } else { u64::MAX };
    match current.checked_add_signed(delta) {
        Some(sum) if sum <= limit || planted::is(Bug::AddsKnowNoLimit) => Ok(sum),
        Some(_) | None => Err(CommitError::OverLimit { key: key.clone(), current, delta, limit }),
    }
}

#[cfg(test)]
mod tests;
