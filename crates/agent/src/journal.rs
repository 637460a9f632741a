//! The write-ahead log of an agent process.
//!
//! One task writes: it takes all that waits, makes it durable with one sync, and tells each node. Between two writes it
//! rewrites the log when it has grown; nodes have then taken in exactly what the log holds, so what they say of
//! themselves replaces it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use agent_core::{AppendId, CodecError, Entry, Input, State};
use bytes::Bytes;
use parking_lot::Mutex;
use planted::Bug;
use telemetry::Span;
use tokio::sync::{Notify, Semaphore};
use world::{DiskError, Log, World};

use crate::node::Node;

/// The log of the process.
const LOG: &str = "agent.wal";

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk does not give it.
    #[error("the agent's log cannot be opened")]
    Disk(#[from] DiskError),
    /// It holds what this release cannot read.
    #[error("the agent's log cannot be read: start the release that wrote it")]
    Codec(#[from] CodecError),
}

/// The log of the process, shared by its nodes.
pub struct Journal {
    log: Arc<dyn Log>,
    waiting: Mutex<Vec<Write>>,
    wake: Notify,
    members: Mutex<BTreeMap<String, Member>>,
    failure: Mutex<Option<DiskError>>,
    /// Closed when the disk has failed.
    sound: Semaphore,
}

enum Member {
    /// In the log, and not started in this process: it is kept as it is.
    Away(Box<State>),
    Here(Weak<Node>),
}

struct Write {
    node: Arc<Node>,
    id: AppendId,
    records: Vec<Bytes>,
    /// Ends when the write is durable.
    span: Option<Span>,
}

impl Journal {
    /// Opens the log of this process and reads what it says of every node.
    ///
    /// # Errors
    /// If the disk fails, or the log was written by a release that this one does not know.
    pub async fn open(world: &World) -> Result<Arc<Journal>, OpenError> {
        let (log, records) = world.disk().open_log(LOG).await?;
        let mut states: BTreeMap<String, State> = BTreeMap::new();
        for record in records {
            let (node, entry) = agent_core::decode(record)?;
            states.entry(node).or_default().apply(&entry);
        }
        let journal = Arc::new(Journal {
            log,
            waiting: Mutex::default(),
            wake: Notify::new(),
            members: Mutex::new(
                states.into_iter().map(|(node, state)| (node, Member::Away(Box::new(state)))).collect(),
            ),
            failure: Mutex::default(),
            sound: Semaphore::new(0),
        });
        world.spawn("agent journal", Arc::clone(&journal).write());
        Ok(journal)
    }

    /// The nodes that the log knows.
    pub fn nodes(&self) -> Vec<String> {
        self.members.lock().keys().cloned().collect()
    }

    /// Completes when the disk has failed: what was written last is unknown, so the process must end and start again.
    pub async fn failed(&self) -> DiskError {
        let _closed = self.sound.acquire().await;
        let failure = self.failure.lock().clone();
        failure.unwrap_or(DiskError::Failed { log: LOG.into(), reason: "the log was closed".into() })
    }

    /// What the log says of `node`, for its start.
    pub(crate) fn take(&self, node: &str) -> State {
        match self.members.lock().remove(node) {
            Some(Member::Away(state)) => *state,
            Some(Member::Here(_)) | None => State::default(),
        }
    }

    pub(crate) fn join(&self, name: &str, node: &Arc<Node>) {
        self.members.lock().insert(name.to_owned(), Member::Here(Arc::downgrade(node)));
    }

    /// Lets `entries` be written. Never waits: what may wait here is bounded by what the cores take on.
    pub(crate) fn append(&self, node: &Arc<Node>, id: AppendId, entries: &[Entry], span: Option<Span>) {
        let records = entries.iter().map(|entry| agent_core::encode(node.name(), entry)).collect();
        self.waiting.lock().push(Write { node: Arc::clone(node), id, records, span });
        self.wake.notify_one();
    }

    async fn write(self: Arc<Self>) {
        // What was needed when the log was last rewritten; 0: that is not known yet.
        let mut live_bytes = 0;
        loop {
            let batch = std::mem::take(&mut *self.waiting.lock());
            if batch.is_empty() {
                self.wake.notified().await;
                continue;
            }
            if !self.write_batch(batch).await {
                return;
            }
            if agent_core::rewrite_due(self.log.bytes(), live_bytes) {
                match self.log.rewrite(self.live()).await {
                    // When there is no room, the old log stands; it is tried again when it has grown as much again.
                    Ok(()) | Err(DiskError::Full { .. }) => live_bytes = self.log.bytes(),
                    Err(error @ DiskError::Failed { .. }) => return self.fail(error),
                }
            }
        }
    }

    /// Whether the log can go on.
    async fn write_batch(&self, batch: Vec<Write>) -> bool {
        let mut records = Vec::new();
        let mut told = Vec::with_capacity(batch.len());
        for mut write in batch {
            records.append(&mut write.records);
            told.push((write.node, write.id, write.span));
        }
        if planted::is(Bug::ActsBeforeTheLog) {
            for (node, id, _) in told.drain(..) {
                node.feed(Input::Appended(id));
            }
        }
        let result = self.log.append(records).await;
        let input: fn(AppendId) -> Input = match result {
            Ok(()) => Input::Appended,
            Err(DiskError::Full { .. }) => Input::AppendFull,
            Err(error @ DiskError::Failed { .. }) => {
                self.fail(error);
                return false;
            }
        };
        for (node, id, span) in told {
            drop(span);
            node.feed(input(id));
        }
        true
    }

    fn fail(&self, error: DiskError) {
        tracing::error!(%error, "the agent's log has failed; this process must start again");
        *self.failure.lock() = Some(error);
        self.sound.close();
    }

    fn live(&self) -> Vec<Bytes> {
        let members = self.members.lock();
        let mut records = Vec::new();
        for (name, member) in members.iter() {
            let mut add = |entries: Vec<Entry>| {
                records.extend(entries.iter().map(|entry| agent_core::encode(name, entry)));
            };
            match member {
                Member::Away(state) => add(state.live()),
                Member::Here(node) => {
                    if let Some(node) = node.upgrade() {
                        add(node.live());
                    }
                }
            }
        }
        records
    }
}
