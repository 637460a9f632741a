//! What is done to whom, drawn from a seed.
//!
//! A round has every kind of fault for the cell's processes, in an order of its own; a long storm is round after round.

use std::time::Duration;

use crate::Dice;

/// Past every bound between processes: keepalives (a client's 8 s, a server's 15 s), the store's answers (10 s), a node's
/// arrival (5 s).
const PAST_KEEPALIVES: Duration = Duration::from_secs(17);
/// Past a whole attempt of a work and a tenant's patience too.
const PAST_ATTEMPTS: Duration = Duration::from_secs(65);
/// Storms from this length on have stops of the long kind.
const LONG: Duration = Duration::from_secs(300);
/// How long a disk stays full.
const FULL: Duration = Duration::from_secs(4);

/// Which processes a cell is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One for all control roles and one for the fake nodes.
    Together,
    /// One for each role, and one for the fake nodes.
    Apart,
    /// One for all control roles and one for the node, which has real guests.
    Guests,
}

impl Layout {
    /// As it is called in output.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Together => "control in one process, fake nodes",
            Layout::Apart => "every role apart, fake nodes",
            Layout::Guests => "control in one process, real guests",
        }
    }

    /// The driver, as it is called on the command line.
    pub fn driver(self) -> &'static str {
        match self {
            Layout::Together | Layout::Apart => "fake",
            Layout::Guests => "qemu",
        }
    }

    fn processes(self) -> &'static [&'static str] {
        match self {
            Layout::Together | Layout::Guests => &["control", "agents"],
            Layout::Apart => &["store", "scheduler", "coordinator", "api", "agents"],
        }
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` of one process.
    Kill(&'static str),
    /// `kill -9` of all at once.
    KillAll,
    /// SIGSTOP, and after this long SIGCONT.
    Hold(&'static str, Duration),
    /// SIGSTOP of the agents, `kill -9` of control and its restart, and SIGCONT: what the earlier control ordered is done
    /// under the later one.
    HoldOver,
    /// SIGSTOP of the coordinator, and another of its name is started; after this long SIGCONT, and both run.
    Overtake(Duration),
    /// The disk of this directory is full for so long.
    Fill(&'static str, Duration),
}

/// A round of everything.
pub(super) fn round(layout: Layout, dice: &mut Dice, span: Duration) -> Vec<Fault> {
    let hold = if span >= LONG && dice.below(3) == 0 { PAST_ATTEMPTS } else { PAST_KEEPALIVES };
    let mut faults = Vec::new();
    for process in layout.processes() {
        faults.extend([Fault::Kill(process), Fault::Kill(process), Fault::Hold(process, hold)]);
    }
    faults.extend([Fault::KillAll, Fault::Fill("agents", FULL)]);
    match layout {
        Layout::Together => faults.extend([Fault::HoldOver, Fault::Fill("store", FULL)]),
        Layout::Apart => faults.extend([Fault::Overtake(hold), Fault::Fill("store", FULL)]),
        Layout::Guests => faults.push(Fault::HoldOver),
    }
    shuffled(faults, dice)
}

/// What every change is tried with: each kind once, stops as few as tell something.
pub(super) fn short(layout: Layout, dice: &mut Dice) -> Vec<Fault> {
    let mut faults: Vec<Fault> = layout.processes().iter().map(|process| Fault::Kill(process)).collect();
    faults.push(Fault::KillAll);
    match layout {
        Layout::Together => {
            faults.extend([Fault::Fill("agents", FULL), Fault::Fill("store", FULL), Fault::HoldOver]);
            faults.extend(layout.processes().iter().map(|process| Fault::Hold(process, PAST_KEEPALIVES)));
            faults.extend((0..4).map(|_| kill(layout, dice)));
        }
        Layout::Apart => faults.extend([Fault::Overtake(PAST_KEEPALIVES), Fault::Hold("store", PAST_KEEPALIVES)]),
        Layout::Guests => {
            faults.extend([Fault::Fill("agents", FULL), Fault::HoldOver, Fault::Hold("agents", PAST_KEEPALIVES)]);
        }
    }
    shuffled(faults, dice)
}

/// A kill of anybody.
pub(super) fn kill(layout: Layout, dice: &mut Dice) -> Fault {
    let processes = layout.processes();
    processes.get(dice.below(processes.len() + 1)).map_or(Fault::KillAll, |process| Fault::Kill(process))
}

fn shuffled(mut faults: Vec<Fault>, dice: &mut Dice) -> Vec<Fault> {
    for last in (1..faults.len()).rev() {
        faults.swap(last, dice.below(last + 1));
    }
    faults
}
