//! The store's disk in memory: the third engine of the port.
//!
//! The real engine, committer and core run over it. A group of commits becomes durable after simulated time, and is
//! answered only then. A crash keeps any prefix of what was under way; a write can be refused or slow, or its outcome be
//! unknown to the engine, which then ends as it does on a real disk; and the disk can fail to be read.
//!
//! What stands between a client and a store that is far away is [`unsure`]'s.

pub mod unsure;
mod works;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use store::conformance::Fault;
use store::core::{Core, Pending};
use store::engine::{AppendError, Journal};
use store::{Batch, Entry, Key, Revision};

pub use works::Works;

use crate::epochs::StoreEpochs;
use crate::exec::points::{Boundary, Failure};
use crate::exec::{Exec, Process};
use crate::ledger::Ledger;
use crate::rng::Rng;

/// How long a sync takes, in microseconds: from the least to the most.
const SYNC_US: (u64, u64) = (300, 15_000);
/// Keys of a commit that the event log names.
const KEYS_NAMED_MAX: usize = 12;

/// How many times slower a slow disk is.
const SLOWNESS: u64 = 100;

/// The disk cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("simulated: the store's disk cannot be read")]
pub struct Unreadable;

struct Inside {
    state: BTreeMap<Key, Entry>,
    revision: Revision,
    /// Groups that are not durable yet, and when they will be.
    tail: VecDeque<(u64, Vec<Arc<Batch>>)>,
    fail_next: Option<Fault>,
    unreadable_next: bool,
    /// Until when it is slow.
    slow_until: u64,
    rng: Rng,
    lost: u64,
    ledger: Ledger,
    works: Works,
    epochs: StoreEpochs,
}

/// The disk under the store.
pub struct StoreDisk {
    exec: Exec,
    inside: Mutex<Inside>,
}

impl StoreDisk {
    /// An empty one.
    pub fn new(exec: &Exec) -> Arc<StoreDisk> {
        let inside = Inside {
            state: BTreeMap::new(),
            revision: Revision::ZERO,
            tail: VecDeque::new(),
            fail_next: None,
            unreadable_next: false,
            slow_until: 0,
            rng: Rng::new(exec.seed(), "store"),
            lost: 0,
            ledger: Ledger::new(exec),
            works: Works::default(),
            epochs: StoreEpochs::default(),
        };
        Arc::new(StoreDisk { exec: exec.clone(), inside: Mutex::new(inside) })
    }

    /// What is on it, and a journal for `process` to go on with.
    ///
    /// # Errors
    /// If it was ordered that the disk cannot be read.
    pub fn open(self: &Arc<Self>, process: Process) -> Result<(Core, SimJournal), Unreadable> {
        if std::mem::take(&mut self.inside.lock().unreadable_next) {
            return Err(Unreadable);
        }
        Ok((self.durable(), SimJournal { disk: Arc::clone(self), process }))
    }

    /// The state that a crash at this moment could not take back.
    pub fn durable(&self) -> Core {
        let inside = &mut *self.inside.lock();
        inside.settle(self.exec.now());
        Core::open(inside.state.iter().map(|(key, entry)| (key.clone(), entry.clone())), inside.revision)
    }

    /// The newest durable commit.
    pub fn revision(&self) -> Revision {
        let inside = &mut *self.inside.lock();
        inside.settle(self.exec.now());
        inside.revision
    }

    /// The process that wrote has died: of what was under way any prefix stays.
    pub fn crash(&self) {
        let inside = &mut *self.inside.lock();
        inside.settle(self.exec.now());
        let open: Vec<Arc<Batch>> = inside.tail.drain(..).flat_map(|(_, batches)| batches).collect();
        let kept = inside.rng.index(open.len() + 1);
        inside.lost += (open.len() - kept) as u64;
        open[..kept].iter().for_each(|batch| inside.apply(batch));
    }

    /// Lets the next write fail.
    pub fn fail_next(&self, fault: Fault) {
        self.inside.lock().fail_next = Some(fault);
    }

    /// The next process that opens it cannot read it.
    pub fn unreadable_next(&self) {
        self.inside.lock().unreadable_next = true;
    }

    /// It is slow until that moment.
    pub fn slow_until(&self, nanos: u64) {
        self.inside.lock().slow_until = nanos;
    }

    /// Nothing fails and nothing is slow any more.
    pub fn heal(&self) {
        let inside = &mut *self.inside.lock();
        (inside.fail_next, inside.unreadable_next, inside.slow_until) = (None, false, 0);
    }

    /// Whether a write is under way.
    pub fn is_busy(&self) -> bool {
        !self.inside.lock().tail.is_empty()
    }

    /// The works that there were.
    pub fn works(&self) -> Works {
        self.inside.lock().works.clone()
    }

    /// Commits that crashes took back so far.
    pub fn lost(&self) -> u64 {
        self.inside.lock().lost
    }

    /// The first durable revision at which the books did not balance.
    pub fn unbalanced(&self) -> Option<String> {
        self.inside.lock().ledger.first().map(str::to_owned)
    }

    /// The first commit of an owner that had lost its work.
    pub fn stale(&self) -> Option<String> {
        self.inside.lock().epochs.first.clone()
    }
}

impl Inside {
    fn settle(&mut self, now: u64) {
        while self.tail.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, batches)) = self.tail.pop_front() else { return };
            batches.iter().for_each(|batch| self.apply(batch));
        }
    }

    fn apply(&mut self, batch: &Batch) {
        for event in &batch.events {
            match &event.entry {
                Some(entry) => self.state.insert(event.key.clone(), entry.clone()),
                None => self.state.remove(&event.key),
            };
        }
        self.revision = batch.revision;
        self.ledger.follow(batch);
        self.works.follow(batch);
        self.epochs.follow(batch);
    }
}

/// The journal of one process.
pub struct SimJournal {
    disk: Arc<StoreDisk>,
    process: Process,
}

#[async_trait]
impl Journal for SimJournal {
    async fn append(&mut self, group: &Pending) -> Result<(), AppendError> {
        let exec = self.disk.exec.clone();
        if !exec.is_alive(self.process) {
            return std::future::pending().await;
        }
        let tables = tables(group);
        let swept = exec.reach(self.process, Boundary::CommitAsked, &tables).await;
        let (ordered, span) = {
            let inside = &mut *self.disk.inside.lock();
            let slowness = if exec.now() < inside.slow_until { SLOWNESS } else { 1 };
            (inside.fail_next.take(), inside.rng.span_nanos(SYNC_US.0, SYNC_US.1) * slowness)
        };
        if let Some(failure) = swept {
            return Err(self.fail_as(failure, group));
        }
        if let Some(fault) = ordered {
            exec.sleep(self.process, span).await;
            return Err(self.fail(fault, group));
        }
        let at = {
            let inside = &mut *self.disk.inside.lock();
            let at = inside.tail.back().map_or(0, |(at, _)| *at).max(exec.now()) + span;
            inside.tail.push_back((at, group.batches().to_vec()));
            at
        };
        exec.sleep(self.process, at - exec.now()).await;
        self.disk.inside.lock().settle(exec.now());
        group.batches().iter().for_each(|batch| self.note(batch));
        let _the_far_side_does_not_fail = exec.reach(self.process, Boundary::CommitDurable, &tables).await;
        Ok(())
    }
}

/// What a group is about: the tables that it writes, each once.
fn tables(group: &Pending) -> String {
    let keys = group.batches().iter().flat_map(|batch| &batch.events).map(|event| event.key.to_string());
    let tables: BTreeSet<String> =
        keys.map(|key| key.rsplit_once('/').map_or(key.clone(), |(table, _)| shorn(table))).collect();
    tables.into_iter().collect::<Vec<_>>().join(" ")
}

/// A key's path without the ids in it: places must have the same name in every run.
fn shorn(path: &str) -> String {
    let is_id = |part: &str| part.len() >= 32 || part.bytes().all(|byte| byte.is_ascii_digit());
    path.split('/').filter(|part| !is_id(part)).collect::<Vec<_>>().join("/")
}

impl SimJournal {
    fn fail_as(&self, failure: Failure, group: &Pending) -> AppendError {
        let inside = &mut *self.disk.inside.lock();
        match failure {
            Failure::Refused => AppendError::Refused("swept: no space".into()),
            Failure::NotDone => AppendError::Unknown("swept: the write failed".into()),
            Failure::DoneAndNotSaid => {
                inside.settle(u64::MAX);
                group.batches().iter().for_each(|batch| inside.apply(batch));
                AppendError::Unknown("swept: the sync failed".into())
            }
        }
    }

    fn fail(&self, fault: Fault, group: &Pending) -> AppendError {
        let inside = &mut *self.disk.inside.lock();
        match fault {
            Fault::Refused => AppendError::Refused("simulated: no space".into()),
            Fault::Unknown => {
                // Nobody will read what this journal's engine thinks: only what is here when it is opened again.
                inside.settle(u64::MAX);
                let kept = inside.rng.index(group.batches().len() + 1);
                group.batches()[..kept].iter().for_each(|batch| inside.apply(batch));
                AppendError::Unknown("simulated: the sync failed".into())
            }
        }
    }

    fn note(&self, batch: &Batch) {
        let named = batch.events.iter().take(KEYS_NAMED_MAX).map(|event| {
            let sign = if event.entry.is_some() { '+' } else { '-' };
            format!("{sign}{}", event.key)
        });
        let mut text = format!("r{} ", batch.revision);
        text.push_str(&named.collect::<Vec<_>>().join(" "));
        if batch.events.len() > KEYS_NAMED_MAX {
            text.push_str(&format!(" and {} more", batch.events.len() - KEYS_NAMED_MAX));
        }
        self.disk.exec.note("store", "commit", &text);
    }
}
