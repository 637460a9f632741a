//! What a storm was made of, as counts and as a table for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How requests of one kind ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// They were done, or will be.
    pub accepted: usize,
    /// They were not done, and that was said.
    pub refused: usize,
    /// Nobody knows: no answer came, or one that leaves it open.
    pub unknown: usize,
}

/// What was done, and what was found at the end.
#[derive(Debug, Default)]
pub struct Tally {
    /// Faults: what, to whom, how often.
    pub faults: BTreeMap<(&'static str, &'static str), usize>,
    /// Works that a kill interrupted: whose, in which step, how often.
    pub interrupted: BTreeMap<(&'static str, String), usize>,
    /// Requests by kind.
    pub requests: BTreeMap<&'static str, Ended>,
    /// Servers by state, after the healing and before they were deleted.
    pub found: BTreeMap<String, usize>,
    /// From the first fault to the last look.
    pub took: Duration,
}

impl Tally {
    pub(super) fn count(&mut self, what: &'static str, whom: &'static str) {
        *self.faults.entry((what, whom)).or_default() += 1;
    }

    pub(super) fn interrupted(&mut self, whom: &'static str, step: String) {
        *self.interrupted.entry((whom, step)).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after {:.1} s\n\n  faults", self.took.as_secs_f64())?;
        for ((what, whom), count) in &self.faults {
            writeln!(f, "    {what:24} {whom:14} {count:6}")?;
        }
        writeln!(f, "  works interrupted by a kill of")?;
        for ((whom, step), count) in &self.interrupted {
            writeln!(f, "    {whom:24} {step:14} {count:6}")?;
        }
        writeln!(f, "  requests                   accepted  refused  unknown")?;
        for (what, ended) in &self.requests {
            writeln!(f, "    {what:24} {:8} {:8} {:8}", ended.accepted, ended.refused, ended.unknown)?;
        }
        writeln!(f, "  servers at the end")?;
        for (state, count) in &self.found {
            writeln!(f, "    {state:39} {count:6}")?;
        }
        Ok(())
    }
}
