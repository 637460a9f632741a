//! From a [`Journal`] to a whole [`Store`]: one committer that merges what waits into one durable write.
//!
//! Group commit: while one group is being made durable, transactions queue; all that wait then share the next write.
//! Transactions are decided one after the other in the order in which they arrived, and nobody hears of a decision, a
//! refusal included, before everything that it rests on is durable.
//!
//! Deliberately absent: threads, files, retries. Who makes an engine runs its [`Committer`] where it likes.

mod committer;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::core::{Core, Pending};
use crate::port::{
    CommitError, Entry, Key, KeyRange, Page, ReadError, Revision, Snapshot, Store, Txn, Watch, WatchError,
};

pub use committer::Committer;

/// Transactions that may wait for the committer; more are refused with `NotNow`.
pub const WAITING_COMMITS_MAX: usize = 8192;
/// Bytes of transactions that may wait for the committer; more are refused with `NotNow`.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries in one page of a snapshot.
const SNAPSHOT_PAGE_ENTRIES: usize = 1024;

/// Makes groups of commits durable, in order.
#[async_trait]
pub trait Journal: Send {
    /// Returns when all of `group`, which is not empty, is durable. After a crash either all of a commit is found again
    /// or nothing of it, and none without those before it.
    async fn append(&mut self, group: &Pending) -> Result<(), AppendError>;
}

/// A group was not made durable, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written (no space): the engine goes on, the transactions are refused for now.
    #[error("refused: {0}")]
    Refused(String),
    /// What is on the disk is unknown. The engine ends: only opening the disk again can tell.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// What waits for the committer.
enum Request {
    /// A transaction that has passed its check, with its size.
    Commit { txn: Txn, bytes: usize, reply: oneshot::Sender<Result<Revision, CommitError>> },
    /// Commit what waits already, then end. The sender is dropped when the journal is.
    Close(oneshot::Sender<()>),
}

/// What handles, watches and the committer share.
struct Shared {
    core: RwLock<Core>,
    /// The core's revision, readable without its lock.
    head: AtomicU64,
    /// Bytes of transactions in the queue.
    waiting_bytes: AtomicUsize,
    applied: Notify,
    /// Why the engine ended, once it has.
    closed: RwLock<Option<String>>,
}

/// A store over a journal. Cloning shares it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
}

impl Engine {
    /// An engine that starts from `core`, and its committer, which must be run for commits to happen.
    pub fn new<J: Journal>(core: Core, journal: J) -> (Engine, Committer<J>) {
        let (sender, queue) = mpsc::channel(WAITING_COMMITS_MAX);
        let shared = Arc::new(Shared {
            head: AtomicU64::new(core.revision().as_u64()),
            core: RwLock::new(core),
            waiting_bytes: AtomicUsize::new(0),
            applied: Notify::new(),
            closed: RwLock::new(None),
        });
        (Engine { shared: Arc::clone(&shared), queue: sender }, Committer::new(shared, queue, journal))
    }

    /// Commits what waits, then ends the engine and returns when its journal is closed. Whatever comes later is refused;
    /// watches end. It is never needed for safety: ending the process at any moment is as good.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.queue.send(Request::Close(reply)).await.is_ok() {
            // The committer never answers, it lets go: that is the sign that the journal is closed.
            let _let_go = closed.await;
        }
    }

    fn readable(&self) -> Result<(), ReadError> {
        match &*self.shared.closed.read() {
            None => Ok(()),
            Some(reason) => Err(ReadError { reason: reason.clone() }),
        }
    }

    fn enqueue(&self, request: Request, bytes: usize) -> Result<(), CommitError> {
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let refused = if waiting > WAITING_BYTES_MAX {
            format!("{waiting} bytes of transactions wait already")
        } else {
            match self.queue.try_send(request) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => format!("{WAITING_COMMITS_MAX} transactions wait already"),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.shared.closed.read().clone().unwrap_or_else(|| "the store is being closed".into())
                }
            }
        };
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Err(CommitError::NotNow { reason: refused })
    }
}

#[async_trait]
impl Store for Engine {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.readable()?;
        Ok(self.shared.core.read().get(key))
    }

    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.readable()?;
        Ok(self.shared.core.read().range(range, limit))
    }

    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        watch::open(&self.shared, range, after)
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.readable()?;
        let core = self.shared.core.read();
        Ok(Box::new(EngineSnapshot { revision: core.revision(), rest: core.entries().into_iter() }))
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let bytes = txn.weigh().map_err(CommitError::Invalid)?;
        let (reply, answer) = oneshot::channel();
        self.enqueue(Request::Commit { txn, bytes, reply }, bytes)?;
        answer.await.unwrap_or_else(|_| Err(CommitError::Unknown { reason: "the committer ended".into() }))
    }

    async fn head(&self) -> Result<Revision, ReadError> {
        self.readable()?;
        Ok(Revision::from_u64(self.shared.head.load(Ordering::Acquire)))
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
