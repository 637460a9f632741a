//! One seed, from its start to its verdict.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use planted::Bug;

use crate::cell::{Cell, Shape, Size};
use crate::churn::{self, Counts};
use crate::exec::{Exec, Limits};
use crate::lost;

/// What happens, and to which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Servers come, go, start and stop while everything fails; one control process.
    Churn,
    /// The same where each control role has processes of its own: two with the API, two coordinators, two
    /// liveness instances.
    Apart,
    /// An agent's log is lost while its guests run.
    LostLog,
}

impl Scenario {
    /// Those in which faults are drawn at random.
    pub const STORMS: [Scenario; 2] = [Scenario::Churn, Scenario::Apart];

    /// All of them.
    pub const ALL: [Scenario; 3] = [Scenario::Churn, Scenario::Apart, Scenario::LostLog];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::Churn => "churn",
            Scenario::Apart => "apart",
            Scenario::LostLog => "lost-log",
        }
    }

    /// Two machines with two nodes each.
    const fn size(self) -> Size {
        let control = match self {
            Scenario::Churn | Scenario::LostLog => Shape::Together,
            Scenario::Apart => Shape::Apart { apis: 2, coordinators: 2, instances: 2 },
        };
        Size { control, agents: 2, nodes: 2 }
    }
}

/// What a run may take: some ten times what one takes.
const LIMITS: Limits = Limits { steps: 2_000_000, nanos: 8 * 24 * 3600 * 1_000_000_000 };

/// What a run with a planted bug may take: such a run need only be seen not to end, and those that retry for ever are slow.
const LIMITS_PLANTED: Limits = Limits { steps: 400_000, ..LIMITS };

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was to happen.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// What was wrong; empty: nothing.
    pub complaints: Vec<String>,
    /// What the run was made of.
    pub counts: Counts,
    /// What the killed were doing.
    pub interrupted: BTreeMap<String, u64>,
    /// The event log.
    pub lines: Vec<String>,
    /// Polls of tasks.
    pub steps: u64,
    /// Simulated seconds.
    pub seconds: u64,
    /// Differs if any choice of the run did.
    pub fingerprint: u64,
}

/// Runs `what` with `seed`. `bug`: this one is in the product. `echo`: events are printed as they happen.
pub fn scenario(what: Scenario, seed: u64, bug: Option<Bug>, echo: bool) -> Report {
    let _planted = planted::plant(bug);
    let exec = Exec::new(seed, echo);
    let (cell, exited) = Cell::new(&exec, what.size());
    let limits = if bug.is_some() { LIMITS_PLANTED } else { LIMITS };
    let again = std::sync::Arc::clone(&cell);
    let scenario = async move {
        match what {
            Scenario::Churn | Scenario::Apart => churn::run(again, exited).await,
            Scenario::LostLog => lost::run(again, exited).await,
        }
    };
    let run = catch_unwind(AssertUnwindSafe(|| exec.block_on(cell.outside_process, limits, scenario)));
    let (mut complaints, counts) = match run {
        Ok(Ok(result)) => result,
        Ok(Err(stuck)) => (vec![stuck.to_string()], Counts::default()),
        Err(panic) => (vec![format!("a task panicked: {}", text_of(&*panic))], Counts::default()),
    };
    complaints.extend(cell.noticed());
    let report = Report {
        scenario: what,
        seed,
        complaints,
        counts,
        interrupted: cell.interrupted(),
        lines: exec.lines(),
        steps: exec.steps(),
        seconds: exec.now() / 1_000_000_000,
        fingerprint: exec.fingerprint(),
    };
    exec.end();
    report
}

pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
