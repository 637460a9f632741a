//! From a [`Journal`] to a whole [`Store`]: one committer that merges what waits into one durable write.
//!
//! Group commit: while one batch is being made durable, transactions queue; all that wait then share the next write.
//! Transactions are decided one after the other in the order in which they arrived.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::core::{Core, Pending};
use crate::port::{
    Batch, CommitError, Entry, Key, KeyRange, Page, ReadError, Revision, Snapshot, Store, Txn, Watch, WatchError,
};

/// Transactions that may wait for the committer; more are refused with `NotNow`.
pub const WAITING_COMMITS_MAX: usize = 8192;
/// Transactions that share one durable write.
const GROUP_COMMITS_MAX: usize = 512;
/// Commits that a watch hands out at once.
const WATCH_COMMITS_MAX: usize = 1024;
/// Entries in one page of a snapshot.
const SNAPSHOT_PAGE_ENTRIES: usize = 1024;

/// Makes batches durable, in order.
#[async_trait]
pub trait Journal: Send {
    /// Returns when all of `batches` are durable.
    async fn append(&mut self, batches: &[Arc<Batch>]) -> Result<(), AppendError>;
}

/// Batches were not made durable, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written (no space): the engine goes on, the transactions are refused for now.
    #[error("refused: {0}")]
    Refused(String),
    /// What is on the disk is unknown. The engine ends: only opening the disk again can tell.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

type Waiting = (Txn, oneshot::Sender<Result<Revision, CommitError>>);

struct Shared {
    core: RwLock<Core>,
    applied: Notify,
    closed: RwLock<Option<String>>,
}

/// A store over a journal. Cloning shares it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Waiting>,
}

/// The engine's committer: whoever makes the engine runs it, on a thread or a task of its own.
pub struct Committer<J> {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Waiting>,
    journal: J,
}

impl Engine {
    /// An engine that starts from `core`, and its committer, which must be run for commits to happen.
    pub fn new<J: Journal>(core: Core, journal: J) -> (Engine, Committer<J>) {
        let (sender, queue) = mpsc::channel(WAITING_COMMITS_MAX);
        let shared = Arc::new(Shared { core: RwLock::new(core), applied: Notify::new(), closed: RwLock::new(None) });
        (Engine { shared: Arc::clone(&shared), queue: sender }, Committer { shared, queue, journal })
    }
}

impl<J: Journal> Committer<J> {
    /// Commits until every handle of the engine is gone, or until the journal's state is unknown. Returns the reason
    /// in the second case: the process must then end and open its store again.
    pub async fn run(mut self) -> Result<(), AppendError> {
        let mut group = Vec::new();
        while self.queue.recv_many(&mut group, GROUP_COMMITS_MAX).await > 0 {
            if let Err(error) = self.commit(&mut group).await {
                *self.shared.closed.write() = Some(error.to_string());
                self.shared.applied.notify_waiters();
                return Err(error);
            }
        }
        Ok(())
    }

    async fn commit(&mut self, group: &mut Vec<Waiting>) -> Result<(), AppendError> {
        let mut pending = Pending::default();
        let decided: Vec<_> = {
            let core = self.shared.core.read();
            group.drain(..).map(|(txn, reply)| (core.prepare(&mut pending, &txn), reply)).collect()
        };
        // Refusals wait for the write as well: they may rest on a transaction of this very group.
        let outcome = if pending.is_empty() { Ok(()) } else { self.journal.append(pending.batches()).await };
        match &outcome {
            Ok(()) => {
                self.shared.core.write().apply(pending);
                self.shared.applied.notify_waiters();
                decided.into_iter().for_each(|(result, reply)| drop(reply.send(result)));
                Ok(())
            }
            Err(AppendError::Refused(reason)) => {
                let error = CommitError::NotNow { reason: reason.clone() };
                decided.into_iter().for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
                Ok(())
            }
            Err(AppendError::Unknown(reason)) => {
                let error = CommitError::Unknown { reason: reason.clone() };
                decided.into_iter().for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
                outcome
            }
        }
    }
}

#[async_trait]
impl Store for Engine {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.open()?;
        Ok(self.shared.core.read().get(key))
    }

    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.open()?;
        Ok(self.shared.core.read().range(range, limit))
    }

    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        let watch = EngineWatch { shared: Arc::clone(&self.shared), range: range.clone(), after };
        match watch.shared.core.read().since(after, 0) {
            Some(_) => {}
            None => return Err(WatchError::Compacted { after }),
        }
        Ok(Box::new(watch))
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.open()?;
        let core = self.shared.core.read();
        Ok(Box::new(EngineSnapshot { revision: core.revision(), rest: core.entries().into_iter() }))
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        txn.check().map_err(CommitError::Invalid)?;
        let (reply, answer) = oneshot::channel();
        self.queue.try_send((txn, reply)).map_err(|error| CommitError::NotNow { reason: self.why_not(&error) })?;
        answer.await.unwrap_or_else(|_| Err(CommitError::Unknown { reason: "the committer ended".into() }))
    }
}

impl Engine {
    fn open(&self) -> Result<(), ReadError> {
        match &*self.shared.closed.read() {
            None => Ok(()),
            Some(reason) => Err(ReadError { reason: reason.clone() }),
        }
    }

    fn why_not(&self, error: &mpsc::error::TrySendError<Waiting>) -> String {
        match error {
            mpsc::error::TrySendError::Full(_) => format!("{WAITING_COMMITS_MAX} transactions wait already"),
            mpsc::error::TrySendError::Closed(_) => {
                self.shared.closed.read().clone().unwrap_or_else(|| "the committer has ended".into())
            }
        }
    }
}

struct EngineWatch {
    shared: Arc<Shared>,
    range: KeyRange,
    after: Revision,
}

#[async_trait]
impl Watch for EngineWatch {
    async fn next(&mut self) -> Result<Vec<Arc<Batch>>, WatchError> {
        let shared = Arc::clone(&self.shared);
        loop {
            let applied = shared.applied.notified();
            let mut applied = std::pin::pin!(applied);
            // From here on no commit can pass unnoticed between the look below and the wait.
            applied.as_mut().enable();
            let batches = shared.core.read().since(self.after, WATCH_COMMITS_MAX);
            let Some(batches) = batches else { return Err(WatchError::Compacted { after: self.after }) };
            if let Some(last) = batches.last() {
                self.after = last.revision;
                let touched: Vec<_> = batches.iter().filter_map(|batch| narrowed(batch, &self.range)).collect();
                if !touched.is_empty() {
                    return Ok(touched);
                }
                continue;
            }
            if let Some(reason) = &*shared.closed.read() {
                return Err(WatchError::Closed { reason: reason.clone() });
            }
            applied.await;
        }
    }
}

/// The part of `batch` that lies in `range`, if any; the batch itself where that is all of it.
fn narrowed(batch: &Arc<Batch>, range: &KeyRange) -> Option<Arc<Batch>> {
    let inside = batch.events.iter().filter(|event| range.contains(&event.key)).count();
    match inside {
        // A commit may change nothing (it deleted what was not there); a watch of everything still sees it pass.
        0 if range.end.is_some() || !range.start.as_bytes().is_empty() => None,
        all if all == batch.events.len() => Some(Arc::clone(batch)),
        _ => {
            let events = batch.events.iter().filter(|event| range.contains(&event.key)).cloned().collect();
            Some(Arc::new(Batch { revision: batch.revision, events }))
        }
    }
}

struct EngineSnapshot {
    revision: Revision,
    rest: std::vec::IntoIter<(Key, Entry)>,
}

#[async_trait]
impl Snapshot for EngineSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    async fn next(&mut self) -> Result<Vec<(Key, Entry)>, ReadError> {
        Ok(self.rest.by_ref().take(SNAPSHOT_PAGE_ENTRIES).collect())
    }
}
