//! The disk of one machine: logs that outlive processes, and lose what was not synced.
//!
//! An append takes simulated time; what it wrote is certain only when it has returned. A crash before that keeps any
//! prefix of the records, as the seed decides: stricter than `kill -9`, which the page cache survives, and as strict as a
//! power cut. The log cuts off torn records by itself, so whole records are the finest grain.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use world::{Disk, DiskError, Log};

use crate::exec::{Exec, Process};
use crate::rng::Rng;

/// How long a sync takes, in microseconds: from the least to the most.
const SYNC_US: (u64, u64) = (200, 20_000);
/// How long one takes that comes behind somebody else's writes. Whoever goes on before a sync has ended is far ahead then.
const SLOW_SYNC_US: (u64, u64) = (20_000, 600_000);
/// One in so many syncs is slow.
const SLOW_SYNCS: u64 = 16;

#[derive(Default)]
struct Content {
    records: Vec<Bytes>,
    /// Records that are certain to survive.
    durable: usize,
    /// A rewrite that has begun: a crash leaves the old or the new.
    rewrite: Option<Vec<Bytes>>,
}

struct Inside {
    logs: BTreeMap<String, Content>,
    rng: Rng,
    fail_next: Option<bool>,
}

/// The disk of a machine.
pub struct SimDisk {
    inside: Mutex<Inside>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64, machine: &str) -> Arc<SimDisk> {
        let rng = Rng::new(seed, &format!("disk {machine}"));
        Arc::new(SimDisk { inside: Mutex::new(Inside { logs: BTreeMap::new(), rng, fail_next: None }) })
    }

    /// The process that used it has died: what was not synced is lost or not, from some record on.
    pub fn crash(&self) {
        let Inside { logs, rng, .. } = &mut *self.inside.lock();
        for log in logs.values_mut() {
            let unsynced = log.records.len() - log.durable;
            let kept = log.durable + rng.index(unsynced + 1);
            log.records.truncate(kept);
            if let Some(fresh) = log.rewrite.take()
                && rng.chance(1, 2)
            {
                log.records = fresh;
            }
            log.durable = log.records.len();
        }
    }

    /// The next append fails: for want of space, or so that what was written is unknown.
    pub fn fail_next(&self, full: bool) {
        self.inside.lock().fail_next = Some(full);
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.inside.lock().fail_next = None;
    }

    /// Whether an append or a rewrite is under way.
    pub fn is_busy(&self) -> bool {
        self.inside.lock().logs.values().any(|log| log.durable < log.records.len() || log.rewrite.is_some())
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
            let rng = &mut self.disk.inside.lock().rng;
            let (least, most) = if rng.chance(1, SLOW_SYNCS) { SLOW_SYNC_US } else { SYNC_US };
            rng.span_nanos(least, most)
        };
        self.exec.sleep(self.process, span).await;
    }
}

#[async_trait]
impl Disk for ProcessDisk {
    async fn open_log(&self, name: &str) -> Result<(Arc<dyn Log>, Vec<Bytes>), DiskError> {
        self.sync().await;
        let records = self.disk.inside.lock().logs.entry(name.to_owned()).or_default().records.clone();
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
}

#[async_trait]
impl Log for SimLog {
    async fn append(&self, records: Vec<Bytes>) -> Result<(), DiskError> {
        self.alive().await;
        let fault = self.disk.disk.inside.lock().fail_next.take();
        if fault == Some(true) {
            self.disk.sync().await;
            return Err(DiskError::Full { log: self.name.clone() });
        }
        let end = self.with(|log| {
            log.records.extend(records);
            log.records.len()
        });
        self.disk.sync().await;
        if fault == Some(false) {
            return Err(DiskError::Failed { log: self.name.clone(), reason: "simulated".into() });
        }
        self.with(|log| log.durable = log.durable.max(end));
        Ok(())
    }

    async fn rewrite(&self, records: Vec<Bytes>) -> Result<(), DiskError> {
        self.alive().await;
        self.with(|log| log.rewrite = Some(records));
        self.disk.sync().await;
        self.with(|log| {
            if let Some(fresh) = log.rewrite.take() {
                log.records = fresh;
                log.durable = log.records.len();
            }
        });
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.with(|log| log.records.iter().map(|record| record.len() as u64).sum())
    }
}
