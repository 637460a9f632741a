//! The disk of one machine: logs that outlive processes, and lose or tear what was not synced.
//!
//! An append takes simulated time; what it wrote is certain only when it has returned. A crash before that keeps any
//! prefix of the bytes, as the seed decides, and what is torn may read as zeros or garbage: stricter than `kill -9`, which
//! the page cache survives, and as strict as a power cut. Records lie in the product's own frames.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use world::{Disk, DiskError, Log, frames};

use crate::epochs::NodeEpochs;
use crate::exec::points::{Boundary, Failure};
use crate::exec::{Exec, Process};
use crate::rng::Rng;

/// How long a sync takes, in microseconds: from the least to the most.
const SYNC_US: (u64, u64) = (200, 20_000);
/// How long one takes that comes behind somebody else's writes. Whoever goes on before a sync has ended is far ahead then.
const SLOW_SYNC_US: (u64, u64) = (20_000, 600_000);
/// One in so many syncs is slow.
const SLOW_SYNCS: u64 = 16;
/// How many times slower a slow disk is.
const SLOWNESS: u64 = 100;
/// Bytes of a torn write that read as something else than was written, at most.
const TORN_BYTES_MAX: usize = 64;

/// How the next access to a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// There is no space for it.
    Full,
    /// A write or a sync fails: what is on the disk is unknown.
    Failed,
    /// A log cannot be read when it is opened.
    Unreadable,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// Bytes that are certain to survive.
    durable: usize,
    /// A rewrite that has begun: a crash leaves the old or the new.
    rewrite: Option<Vec<u8>>,
}

struct Inside {
    logs: BTreeMap<String, Content>,
    rng: Rng,
    fail_next: Option<DiskFault>,
    /// Until when it is slow.
    slow_until: u64,
    epochs: NodeEpochs,
}

/// The disk of a machine.
pub struct SimDisk {
    inside: Mutex<Inside>,
}

fn framed(records: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::new();
    records.iter().for_each(|record| frames::frame(record, &mut out));
    out
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64, machine: &str) -> Arc<SimDisk> {
        let rng = Rng::new(seed, &format!("disk {machine}"));
        let inside =
            Inside { logs: BTreeMap::new(), rng, fail_next: None, slow_until: 0, epochs: NodeEpochs::default() };
        Arc::new(SimDisk { inside: Mutex::new(inside) })
    }

    /// The process that used it has died: what was not synced is lost or not, from some byte on.
    pub fn crash(&self) {
        let Inside { logs, rng, .. } = &mut *self.inside.lock();
        for log in logs.values_mut() {
            let unsynced = log.bytes.len() - log.durable;
            let torn = unsynced > 0 && rng.chance(1, 3);
            // What a file grew by is often there before anything of what was written.
            let kept = if torn && rng.chance(1, 2) { 0 } else { rng.index(unsynced + 1) };
            log.bytes.truncate(log.durable + kept);
            if torn {
                // The file had grown already and its last sectors had not been written.
                let torn = rng.index(TORN_BYTES_MAX);
                let garbage = rng.chance(1, 2);
                log.bytes.extend((0..torn).map(|_| if garbage { rng.draw().to_le_bytes()[0] } else { 0 }));
            }
            if let Some(fresh) = log.rewrite.take()
                && rng.chance(1, 2)
            {
                log.bytes = fresh;
            }
            log.durable = log.bytes.len();
        }
    }

    /// Its logs, as a backup of the machine would hold them.
    pub fn copy(&self) -> BTreeMap<String, Vec<u8>> {
        self.inside.lock().logs.iter().map(|(name, log)| (name.clone(), log.bytes.clone())).collect()
    }

    /// From here on it holds these logs and no others: the machine's disk was lost, and what there was of it restored.
    pub fn replace(&self, logs: BTreeMap<String, Vec<u8>>) {
        let content = |bytes: Vec<u8>| Content { durable: bytes.len(), bytes, rewrite: None };
        self.inside.lock().logs = logs.into_iter().map(|(name, bytes)| (name, content(bytes))).collect();
    }

    /// The next access fails.
    pub fn fail_next(&self, fault: DiskFault) {
        self.inside.lock().fail_next = Some(fault);
    }

    /// It is slow until that moment.
    pub fn slow_until(&self, nanos: u64) {
        self.inside.lock().slow_until = nanos;
    }

    /// The first order that was begun here for an owner that had lost its work.
    pub fn stale(&self) -> Option<String> {
        self.inside.lock().epochs.first.clone()
    }

    /// Nothing fails and nothing is slow any more.
    pub fn heal(&self) {
        let inside = &mut *self.inside.lock();
        (inside.fail_next, inside.slow_until) = (None, 0);
    }

    /// Whether an append or a rewrite is under way.
    pub fn is_busy(&self) -> bool {
        self.inside.lock().logs.values().any(|log| log.durable < log.bytes.len() || log.rewrite.is_some())
    }
}

/// One process's access to it.
pub(crate) struct ProcessDisk {
    exec: Exec,
    process: Process,
    disk: Arc<SimDisk>,
}

impl ProcessDisk {
    pub(crate) fn new(exec: &Exec, process: Process, disk: &Arc<SimDisk>) -> ProcessDisk {
        ProcessDisk { exec: exec.clone(), process, disk: Arc::clone(disk) }
    }

    async fn sync(&self) {
        let span = {
            let Inside { rng, slow_until, .. } = &mut *self.disk.inside.lock();
            let slowness = if self.exec.now() < *slow_until { SLOWNESS } else { 1 };
            let (least, most) = if rng.chance(1, SLOW_SYNCS) { SLOW_SYNC_US } else { SYNC_US };
            rng.span_nanos(least, most) * slowness
        };
        self.exec.sleep(self.process, span).await;
    }

    fn take_fault(&self, wanted: impl Fn(DiskFault) -> bool) -> Option<DiskFault> {
        self.disk.inside.lock().fail_next.take_if(|fault| wanted(*fault))
    }
}

#[async_trait]
impl Disk for ProcessDisk {
    async fn open_log(&self, name: &str) -> Result<(Arc<dyn Log>, Vec<Bytes>), DiskError> {
        self.sync().await;
        if self.take_fault(|fault| fault == DiskFault::Unreadable).is_some() {
            return Err(DiskError::Failed {
                log: name.to_owned(),
                reason: "simulated: a sector cannot be read".into(),
            });
        }
        let records = {
            let inside = &mut *self.disk.inside.lock();
            let log = inside.logs.entry(name.to_owned()).or_default();
            let (records, whole) = frames::parse(&log.bytes);
            log.bytes.truncate(whole);
            log.durable = whole;
            records
        };
        let disk = ProcessDisk::new(&self.exec, self.process, &self.disk);
        Ok((Arc::new(SimLog { disk, name: name.to_owned() }), records))
    }
}

struct SimLog {
    disk: ProcessDisk,
    name: String,
}

impl SimLog {
    fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(self.disk.disk.inside.lock().logs.entry(self.name.clone()).or_default())
    }

    /// What a dead process does to a disk: nothing.
    async fn alive(&self) {
        if !self.disk.exec.is_alive(self.disk.process) {
            std::future::pending().await
        }
    }

    /// The effect is about to happen; returns how it shall fail.
    async fn asked(&self) -> Option<DiskFault> {
        self.alive().await;
        let swept = self.disk.exec.reach(self.disk.process, Boundary::LogAsked, &self.name).await;
        match swept {
            Some(Failure::Refused) => Some(DiskFault::Full),
            Some(Failure::NotDone | Failure::DoneAndNotSaid) => Some(DiskFault::Failed),
            None => self.disk.take_fault(|fault| fault != DiskFault::Unreadable),
        }
    }

    async fn durable(&self) {
        let _the_far_side_does_not_fail =
            self.disk.exec.reach(self.disk.process, Boundary::LogDurable, &self.name).await;
    }

    fn failed(&self) -> DiskError {
        DiskError::Failed { log: self.name.clone(), reason: "simulated".into() }
    }
}

#[async_trait]
impl Log for SimLog {
    async fn append(&self, records: Vec<Bytes>) -> Result<(), DiskError> {
        let fault = self.asked().await;
        if fault == Some(DiskFault::Full) {
            self.disk.sync().await;
            return Err(DiskError::Full { log: self.name.clone() });
        }
        let end = self.with(|log| {
            log.bytes.extend(framed(&records));
            log.bytes.len()
        });
        self.disk.sync().await;
        if fault.is_some() {
            return Err(self.failed());
        }
        self.with(|log| log.durable = log.durable.max(end));
        self.disk.disk.inside.lock().epochs.follow(&records);
        self.durable().await;
        Ok(())
    }

    async fn rewrite(&self, records: Vec<Bytes>) -> Result<(), DiskError> {
        let fault = self.asked().await;
        if fault == Some(DiskFault::Full) {
            return Err(DiskError::Full { log: self.name.clone() });
        }
        self.with(|log| log.rewrite = Some(framed(&records)));
        self.disk.sync().await;
        if fault.is_some() {
            return Err(self.failed());
        }
        self.with(|log| {
            if let Some(fresh) = log.rewrite.take() {
                log.bytes = fresh;
                log.durable = log.bytes.len();
            }
        });
        self.durable().await;
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.with(|log| log.bytes.len() as u64)
    }
}
