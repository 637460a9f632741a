//! Delays and failures to order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a driver is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `Driver::find`.
    Find,
    /// `Driver::ensure_network`.
    Network,
    /// `Driver::ensure_no_network`.
    NoNetwork,
    /// `Driver::ensure_prepared`.
    Prepare,
    /// `Driver::ensure_running`.
    Start,
    /// `Driver::ensure_stopped`.
    Stop,
    /// `Driver::ensure_paused`.
    Pause,
    /// `Driver::ensure_absent`.
    Absent,
    /// `Driver::export_disk`.
    Export,
}

/// How long something takes: evenly spread between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// At least.
    pub least: Duration,
    /// And up to this much more.
    pub spread: Duration,
}

/// How one call goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused before anything was done, with this reason.
    Refused(String),
    /// Failed before anything was done, with this reason.
    Failed(String),
    /// Done, and then said to have failed.
    DoneButFailed(String),
    /// Never answered; nothing is done.
    Hang,
}

/// What is ordered.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// How long operations take; those that are not named take no time.
    pub latency: BTreeMap<Operation, Latency>,
    /// What befalls the next calls of an operation, one fault a call.
    pub next: BTreeMap<Operation, VecDeque<Fault>>,
    /// No space is left: preparing a guest is refused.
    pub disk_full: bool,
}

impl Faults {
    /// Lets the next `count` calls of `operation` end with `fault`.
    pub fn fail(&mut self, operation: Operation, fault: Fault, count: usize) {
        self.next.entry(operation).or_default().extend(std::iter::repeat_n(fault, count));
    }

    pub(crate) fn take(&mut self, operation: Operation) -> Option<Fault> {
        self.next.get_mut(&operation).and_then(VecDeque::pop_front)
    }
}
