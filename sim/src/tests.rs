//! The simulator about itself: it repeats itself, its store is a store, it finds what was planted, and it finds nothing
//! else.

use std::sync::Arc;

use async_trait::async_trait;
use store::Store;
use store::conformance::{self, Fault, Faults, Subject};
use store::engine::Engine;
use world::World;

use crate::disk::SimDisk;
use crate::exec::{Exec, Limits, Process};
use crate::run;
use crate::store::StoreDisk;

/// Seeds within which the planted bug must be found.
const PLANTED_SEEDS: u64 = 8;

#[test]
fn a_seed_repeats_itself_byte_for_byte() {
    let (once, again) = (run::churn(7, None, false), run::churn(7, None, false));
    for (line, same) in once.lines.iter().zip(&again.lines) {
        assert_eq!(line, same);
    }
    assert_eq!(once.lines.len(), again.lines.len());
    assert_eq!(once.fingerprint, again.fingerprint);
    assert_ne!(once.fingerprint, run::churn(8, None, false).fingerprint);
}

#[test]
fn nothing_leaks_and_all_work_ends() {
    for seed in 100..104 {
        let report = run::churn(seed, None, false);
        assert!(report.complaints.is_empty(), "cargo xtask sim --seed {seed}\n{}", report.complaints.join("\n"));
        assert!(report.counts.kills > 5 && report.counts.accepted > 20, "seed {seed} is dull: {:?}", report.counts);
    }
}

#[test]
fn replying_before_the_sync_is_found() {
    let found = (0..PLANTED_SEEDS)
        .any(|seed| !run::churn(seed, Some(planted::Bug::RepliesBeforeTheSync), false).complaints.is_empty());
    assert!(found, "the planted bug survived {PLANTED_SEEDS} seeds");
}

struct Simulated {
    exec: Exec,
    process: Process,
    world: World,
}

struct Switch(Arc<StoreDisk>);

impl Faults for Switch {
    fn fail_next(&self, fault: Fault) {
        self.0.fail_next(fault);
    }
}

impl Simulated {
    fn open(&self) -> (Engine, Arc<StoreDisk>) {
        let disk = StoreDisk::new(&self.exec);
        let (core, journal) = disk.open(self.process);
        let (engine, committer) = Engine::new(core, journal);
        self.world.spawn("committer", async move { drop(committer.run().await) });
        (engine, disk)
    }
}

#[async_trait]
impl Subject for Simulated {
    fn world(&self) -> World {
        self.world.clone()
    }

    async fn open_empty(&self) -> Arc<dyn Store> {
        Arc::new(self.open().0)
    }

    async fn open_faulty(&self) -> Option<(Arc<dyn Store>, Arc<dyn Faults>)> {
        let (engine, disk) = self.open();
        Some((Arc::new(engine), Arc::new(Switch(disk))))
    }
}

#[test]
fn its_store_conforms() {
    let exec = Exec::new(1, false);
    let (process, world) = exec.process("subject", &SimDisk::new(1, "subject"));
    let subject = Simulated { exec: exec.clone(), process, world };
    let limits = Limits { steps: 50_000_000, nanos: 100 * 3600 * 1_000_000_000 };
    exec.block_on(process, limits, async move { conformance::run(&subject).await }).expect("the suite ends");
    exec.end();
}
