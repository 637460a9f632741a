//! Every workflow, harmed at every boundary between effects.
//!
//! A [`script`] runs one workflow on a small cell. First it is run unharmed, and every [boundary](crate::exec::points) that
//! any process comes to is numbered. Then it is run again for each number, with the process that comes to it killed there;
//! for each pair of a first crash and a second one at any boundary of the recovery; with the process held there for longer
//! than any timeout instead (and where a second one of its name can be, replaced meanwhile); with the effect failing in
//! each way in which it can; and with each effect failing on the way back from each failure. After each run the cell is
//! left alone: all work must end, and the [invariants](crate::invariants) must hold.
//!
//! Nobody lists the places: a step that is added to a workflow is swept because it does something, and a workflow that is
//! added without a script is named as not covered.

pub mod report;
pub mod script;
pub mod trial;

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use planted::Bug;

use crate::rng::Rng;

pub use report::{Line, Table};
pub use script::Script;
use trial::{Harm, Strike, Trial};

/// How often an effect fails that fails for a while: more often than anything is tried before it is given up.
const FAILURES_LASTING: u32 = 6;

/// How much of the sweep is done.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Runs of each kind of pair, at most; drawn from `seed` if there are more.
    pub pairs_max: usize,
    /// What is drawn, and the order of tasks, come from it.
    pub seed: u64,
    /// Runs side by side.
    pub threads: usize,
    /// This bug is in the product.
    pub planted: Option<Bug>,
}

/// Sweeps `script`.
pub fn sweep(script: Script, extent: Extent) -> Line {
    let _planted = planted::plant(extent.planted);
    let plain = trial::run(script, extent.seed, &[]);
    let mut line = Line::new(script, &plain);
    line.judge("unharmed", &[], &plain);
    if !plain.complaints.is_empty() {
        return line;
    }
    let numbers = 0..plain.points.len();
    let crashes: Vec<Vec<Strike>> = numbers.clone().map(|at| vec![Strike { at, harm: Harm::Crash }]).collect();
    let recovered = line.run("crash", script, extent, &crashes);

    let pauses: Vec<Vec<Strike>> = numbers.clone().map(|at| vec![Strike { at, harm: Harm::Pause }]).collect();
    line.run("pause", script, extent, &pauses);

    let mut failures = Vec::new();
    for times in [1, FAILURES_LASTING] {
        for (at, point) in plain.points.iter().enumerate() {
            let ways = point.boundary.failures().iter();
            failures.extend(ways.map(|failure| vec![Strike { at, harm: Harm::Fail(*failure, times) }]));
        }
    }
    let failed = line.run("failure", script, extent, &failures);

    let mut rng = Rng::new(extent.seed, &format!("pairs {}", script.name()));
    let second = |trials: &[(Vec<Strike>, Trial)], harms: &dyn Fn(&trial::Point) -> Vec<Harm>| {
        let mut pairs = Vec::new();
        for (plan, trial) in trials {
            let after = plan.last().map_or(0, |strike| strike.at + 1);
            for at in after..trial.points.len() {
                for harm in harms(&trial.points[at]) {
                    pairs.push([plan.as_slice(), &[Strike { at, harm }]].concat());
                }
            }
        }
        pairs
    };
    let pairs = second(&recovered, &|_| vec![Harm::Crash]);
    line.pairs = pairs.len();
    let drawn = draw(pairs, extent.pairs_max, &mut rng);
    line.pairs_run = drawn.len();
    line.run("two crashes", script, extent, &drawn);

    // What fails on the way back: each undo, for a while.
    let undone = second(&failed, &|point| {
        let ways = point.boundary.failures().iter();
        ways.map(|failure| Harm::Fail(*failure, FAILURES_LASTING)).collect()
    });
    line.undone = undone.len();
    let drawn = draw(undone, extent.pairs_max, &mut rng);
    line.undone_run = drawn.len();
    line.run("two failures", script, extent, &drawn);
    line
}

/// At most `most` of `from`, drawn without preference.
fn draw<T>(mut from: Vec<T>, most: usize, rng: &mut Rng) -> Vec<T> {
    let mut drawn = Vec::new();
    while drawn.len() < most && !from.is_empty() {
        let index = rng.index(from.len());
        drawn.push(from.swap_remove(index));
    }
    drawn
}

/// Runs all plans, side by side.
fn run_all(script: Script, extent: Extent, plans: &[Vec<Strike>]) -> Vec<(Vec<Strike>, Trial)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(plans.len()));
    std::thread::scope(|scope| {
        for _ in 0..extent.threads.max(1) {
            scope.spawn(|| {
                let _planted = planted::plant(extent.planted);
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(index) else { return };
                    let trial = trial::run(script, extent.seed, plan);
                    done.lock().push((index, trial));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(index, trial)| (plans[index].clone(), trial)).collect()
}
