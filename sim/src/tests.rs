//! The simulator about itself: it repeats itself, its store is a store, it finds what was planted, and it finds nothing
//! else.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use planted::Bug;
use store::Store;
use store::conformance::{self, Fault, Faults, Subject};
use store::engine::Engine;
use world::World;

use crate::cell::Who;
use crate::disk::SimDisk;
use crate::exec::{Exec, Limits, Process};
use crate::mutation::{self, Found, Hunter};
use crate::run::{self, Scenario};
use crate::store::StoreDisk;
use crate::sweep::Script;
use crate::sweep::trial::{self, Harm, Point, Strike};

/// Bugs that are hunted at the same time.
const HUNTS_AT_ONCE: usize = 2;

#[test]
fn a_seed_repeats_itself_byte_for_byte() {
    for what in Scenario::ALL {
        let (once, again) = (run::scenario(what, 7, None, false), run::scenario(what, 7, None, false));
        for (line, same) in once.lines.iter().zip(&again.lines) {
            assert_eq!(line, same);
        }
        assert_eq!(once.lines.len(), again.lines.len());
        assert_eq!(once.fingerprint, again.fingerprint);
        assert_ne!(once.fingerprint, run::scenario(what, 8, None, false).fingerprint);
    }
}

#[test]
fn nothing_leaks_and_all_work_ends() {
    for seed in 100..104 {
        for what in Scenario::STORMS {
            let report = run::scenario(what, seed, None, false);
            let again = format!("cargo xtask sim --scenario {} --seed {seed}", what.name());
            assert!(report.complaints.is_empty(), "{again}\n{}", report.complaints.join("\n"));
            assert!(report.counts.kills > 5 && report.counts.accepted > 20, "{again} is dull: {:?}", report.counts);
        }
    }
}

#[test]
fn an_agent_that_has_lost_its_log_harms_no_guest() {
    for seed in 1..9 {
        let report = run::scenario(Scenario::LostLog, seed, None, false);
        assert!(report.complaints.is_empty(), "seed {seed}\n{}", report.complaints.join("\n"));
        assert!(report.counts.accepted > 10, "seed {seed} is dull: {:?}", report.counts);
    }
}

/// What a recovery costs hangs on the work that was in flight, and not on how much else there is. Each read of a process
/// that does not hold the store is a call, so effects count reads too; what they do not show is that a process that starts
/// loads its view, once.
#[test]
fn recovery_does_not_grow_with_the_cell() {
    let alone = trial::run(Script::Boot, 1, &[]);
    let cost = |others: usize| -> usize {
        let crashed = |(at, _): (usize, &Point)| {
            let trial = trial::run_among(Script::Boot, others, 1, &[Strike { at, harm: Harm::Crash }]);
            assert!(
                trial.complaints.is_empty() && trial.stuck.is_empty(),
                "{others} others, a crash at {at}: {trial:?}"
            );
            trial.recovery_effects
        };
        let central = alone.points.iter().enumerate().filter(|(_, point)| !matches!(point.who, Who::Agent(_)));
        central.step_by(3).map(crashed).sum()
    };
    let (few, many) = (cost(0), cost(6));
    println!("effects of all recoveries of one boot: {few} in an empty cell, {many} beside six servers");
    assert!(many * 10 <= few * 11, "{many} effects beside six servers, {few} without");
}

#[test]
fn every_planted_bug_is_found() {
    let left = Mutex::new(Bug::ALL.to_vec());
    let table = Mutex::new(BTreeMap::new());
    let hunt_all = || {
        loop {
            let Some(bug) = left.lock().pop() else { return };
            let hunter = mutation::hunter(bug);
            let found = mutation::hunt(bug, hunter);
            table.lock().insert(bug, (hunter, found));
        }
    };
    // A run has one thread, and a planted bug is one thread's own: so several hunts go on at once.
    std::thread::scope(|scope| (0..HUNTS_AT_ONCE).for_each(|_| drop(scope.spawn(hunt_all))));
    let mut survivors = Vec::new();
    for (bug, (hunter, found)) in &*table.lock() {
        let name = bug.name();
        match (hunter, found) {
            (_, Some(Found { seed, complaint })) => {
                let complaint: String = complaint.lines().next().unwrap_or_default().chars().take(100).collect();
                println!("{name:<28}  seed {seed:>3}  {complaint}");
            }
            (Hunter::Seeds { within, .. }, None) => {
                println!("{name:<28}  SURVIVES {within} seeds");
                survivors.push(name);
            }
        }
    }
    assert!(survivors.is_empty(), "not found: {survivors:?}");
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
        let (core, journal) = disk.open(self.process).expect("nothing was ordered to fail");
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
