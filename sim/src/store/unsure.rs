//! A store that does not always say what became of a commit, as every store behind a network does.
//!
//! The outcome of a commit can be unknown although it happened, because it did not, or while it is still on its way and
//! will happen later: after its sender has given it up, or has died. Once a later commit of the same sender has been
//! answered it does not happen any more: that is what the port promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use store::port::Snapshot;
use store::{CommitError, Entry, Key, KeyRange, Page, ReadError, Revision, Store, Txn, Watch, WatchError};

use crate::exec::{Exec, Process};

/// What becomes of a commit whose outcome is told as unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It happens.
    Happened,
    /// It does not.
    Lost,
    /// It happens so many nanoseconds later, if nothing stands against it then, and its sender has not been answered since.
    Late(u64),
}

/// What the next commits are to suffer; shared by the clients of one store.
#[derive(Default)]
pub struct Doubts {
    next: Mutex<Option<Doubt>>,
}

impl Doubts {
    /// The next commit suffers this.
    pub fn next(&self, doubt: Doubt) {
        *self.next.lock() = Some(doubt);
    }

    /// Everything is told again.
    pub fn heal(&self) {
        *self.next.lock() = None;
    }
}

/// One process's way to a store.
pub struct Unsure {
    store: Arc<dyn Store>,
    doubts: Arc<Doubts>,
    exec: Exec,
    /// Where what is on its way is: it outlives its sender.
    on_its_way: Process,
    /// Commits that were answered.
    answered: Arc<AtomicU64>,
}

impl Unsure {
    /// The way to `store`; what comes late is carried by `on_its_way`.
    pub fn new(store: Arc<dyn Store>, doubts: &Arc<Doubts>, exec: &Exec, on_its_way: Process) -> Unsure {
        Unsure { store, doubts: Arc::clone(doubts), exec: exec.clone(), on_its_way, answered: Arc::default() }
    }
}

#[async_trait]
impl Store for Unsure {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.store.get(key).await
    }

    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.store.range(range, limit).await
    }

    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        self.store.watch(range, after).await
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.store.snapshot().await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let doubt = self.doubts.next.lock().take();
        let unknown = || Err(CommitError::Unknown { reason: "simulated: nobody has heard what became of it".into() });
        match doubt {
            None => {
                let outcome = self.store.commit(txn).await;
                if !matches!(outcome, Err(CommitError::Unknown { .. })) {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                outcome
            }
            Some(Doubt::Lost) => unknown(),
            Some(Doubt::Happened) => {
                let _not_told = self.store.commit(txn).await;
                unknown()
            }
            Some(Doubt::Late(span)) => {
                let (store, exec, process) = (Arc::clone(&self.store), self.exec.clone(), self.on_its_way);
                let (answered, before) = (Arc::clone(&self.answered), self.answered.load(Ordering::Relaxed));
                let late = async move {
                    exec.sleep(process, span).await;
                    if answered.load(Ordering::Relaxed) != before {
                        return;
                    }
                    let outcome = store.commit(txn).await;
                    exec.note("store", "late", &format!("a commit that was on its way has arrived: {outcome:?}"));
                };
                self.exec.spawn(process, Box::pin(late));
                unknown()
            }
        }
    }

    async fn head(&self) -> Result<Revision, ReadError> {
        self.store.head().await
    }
}
