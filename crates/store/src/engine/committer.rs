//! The one place where transactions become commits: decide a group, make it durable, show it, answer.
//!
//! A crash before the journal's reply leaves nothing that anybody was told; a crash after it leaves commits that are
//! durable and unanswered, which their callers must treat as unknown.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use planted::Bug;
use tokio::sync::{mpsc, oneshot};

use super::{AppendError, Journal, Request, Shared};
use crate::core::Pending;
use crate::port::{CommitError, Revision, Txn};

/// Transactions that share one durable write.
const GROUP_COMMITS_MAX: usize = 512;
/// Bytes of transactions after which a group takes no more: it keeps one write, and so everybody's wait, short.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

type Reply = oneshot::Sender<Result<Revision, CommitError>>;

/// The engine's committer: whoever makes the engine runs it, on a thread or a task of its own.
pub struct Committer<J> {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    /// `None` once it has ended.
    journal: Option<J>,
    group: Vec<(Txn, Reply)>,
    closers: Vec<oneshot::Sender<()>>,
}

impl<J: Journal> Committer<J> {
    pub(super) fn new(shared: Arc<Shared>, queue: mpsc::Receiver<Request>, journal: J) -> Committer<J> {
        Committer { shared, queue, journal: Some(journal), group: Vec::new(), closers: Vec::new() }
    }

    /// Commits until the engine is closed or every handle of it is gone (`Ok`), or until the journal's state is unknown:
    /// then the process must end and open its store again.
    pub async fn run(mut self) -> Result<(), AppendError> {
        while self.gather().await {
            if let Err(error) = self.commit().await {
                self.end(&error.to_string());
                return Err(error);
            }
        }
        self.end("the store was closed");
        Ok(())
    }

    /// Waits for at least one request, then takes what else waits. False when nothing can come any more.
    async fn gather(&mut self) -> bool {
        let Some(first) = self.queue.recv().await else { return false };
        let mut bytes = self.take(first);
        while self.group.len() < GROUP_COMMITS_MAX && bytes < GROUP_BYTES_MAX {
            match self.queue.try_recv() {
                Ok(request) => bytes += self.take(request),
                Err(_) => break,
            }
        }
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        true
    }

    fn take(&mut self, request: Request) -> usize {
        match request {
            Request::Commit { txn, bytes, reply } => {
                self.group.push((txn, reply));
                bytes
            }
            Request::Close(closer) => {
                // What is queued already still comes out, and then the end.
                self.queue.close();
                self.closers.push(closer);
                0
            }
        }
    }

    async fn commit(&mut self) -> Result<(), AppendError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut pending = Pending::default();
        let decided: Vec<_> = {
            let core = self.shared.core.read();
            self.group.drain(..).map(|(txn, reply)| (core.prepare(&mut pending, &txn), reply)).collect()
        };
        let late = (planted::is(Bug::RepliesBeforeTheSync) && !pending.is_empty()).then(|| pending.clone());
        // Refusals wait for the write as well: they may rest on a transaction of this very group.
        let outcome = if pending.is_empty() || late.is_some() { Ok(()) } else { journal.append(&pending).await };
        match &outcome {
            Ok(()) => {
                if let Some(revision) = pending.revision() {
                    let mut core = self.shared.core.write();
                    core.apply(pending);
                    // Under the lock: whoever has read the new state must not be told an older head.
                    self.shared.head.store(revision.as_u64(), Ordering::Release);
                    drop(core);
                    self.shared.applied.notify_waiters();
                }
                decided.into_iter().for_each(|(result, reply)| drop(reply.send(result)));
                match late {
                    Some(group) => journal.append(&group).await,
                    None => Ok(()),
                }
            }
            Err(AppendError::Refused(reason)) => {
                refuse(decided, &CommitError::NotNow { reason: reason.clone() });
                Ok(())
            }
            Err(AppendError::Unknown(reason)) => {
                refuse(decided, &CommitError::Unknown { reason: reason.clone() });
                outcome
            }
        }
    }
}

impl<J> Committer<J> {
    /// Lets go of the journal first, so that whoever learns of the end may open it again.
    fn end(&mut self, reason: &str) {
        if self.journal.take().is_some() {
            *self.shared.closed.write() = Some(reason.to_owned());
            self.shared.applied.notify_waiters();
            self.closers.clear();
        }
    }
}

impl<J> Drop for Committer<J> {
    fn drop(&mut self) {
        // Without this, watches of an engine whose committer was cancelled would wait for ever.
        self.end("the committer ended");
    }
}

fn refuse(decided: Vec<(Result<Revision, CommitError>, Reply)>, error: &CommitError) {
    decided.into_iter().for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
}
