//! Where a work stands, and what comes next: a pure function of its journal.
//!
//! Forward, steps run in order. A failure names the step that failed and the step from which to try again (or none); it
//! is journalled before anything is undone, so that a successor continues the undoing. Undoing goes backwards from the
//! failed step, which counts as possibly done unless the failure says that nothing of it exists.

use bytes::Bytes;
use planted::Bug;

use crate::record::{Event, JournalEntry};

/// Steps that a workflow may have.
pub const STEPS_MAX: u32 = 32;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this step.
    Run(usize),
    /// Undo this step.
    Undo(usize),
    /// All steps are done: end the work.
    Succeed,
    /// Everything is undone: end the work for this reason.
    Fail(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Undo steps `at`, `at - 1`, … down to `down_to`; then go forward from there, or give up.
    Undo {
        at: Option<usize>,
        down_to: usize,
        resume: bool,
        reason: String,
    },
}

/// A work's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    mode: Mode,
    next: usize,
    steps: usize,
    /// The workflow's state.
    pub state: Bytes,
    /// Entries in the journal: the number of the next one.
    pub entries: u32,
}

impl Progress {
    /// The start of a workflow of `steps` steps.
    pub fn start(steps: usize) -> Progress {
        Progress { mode: Mode::Forward, next: 0, steps, state: Bytes::new(), entries: 0 }
    }

    /// The position that `journal` tells.
    pub fn replay<'a>(steps: usize, journal: impl IntoIterator<Item = &'a JournalEntry>) -> Progress {
        let mut progress = Progress::start(steps);
        for entry in journal {
            progress.apply(entry);
        }
        progress
    }

    /// Moves on by one entry.
    pub fn apply(&mut self, entry: &JournalEntry) {
        self.entries += 1;
        self.state = entry.state.clone();
        match &entry.event {
            Event::Done => self.next = entry.step + 1,
            Event::Progress => {}
            Event::Failed { clean, resume, reason } => {
                let last = if *clean || planted::is(Bug::AFailureIsClean) {
                    entry.step.checked_sub(1)
                } else {
                    Some(entry.step)
                };
                let down_to = resume.unwrap_or(0);
                self.mode = Mode::Undo {
                    at: last.filter(|step| *step >= down_to),
                    down_to,
                    resume: resume.is_some(),
                    reason: reason.clone(),
                };
                self.settle();
            }
            Event::Undone => {
                if let Mode::Undo { at, down_to, .. } = &mut self.mode {
                    *at = entry.step.checked_sub(1).filter(|step| *step >= *down_to);
                }
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        if let Mode::Undo { at: None, down_to, resume: true, .. } = &self.mode {
            self.next = *down_to;
            self.mode = Mode::Forward;
        }
    }

    /// What comes next.
    pub fn next(&self) -> Next {
        match &self.mode {
            Mode::Forward if self.next >= self.steps => Next::Succeed,
            Mode::Forward => Next::Run(self.next),
            Mode::Undo { at: Some(step), .. } => Next::Undo(*step),
            Mode::Undo { at: None, reason, .. } => Next::Fail(reason.clone()),
        }
    }

    /// The number that an order of `step` to another process carries now: the same when sent again after a crash, higher
    /// for each later step and after each entry, and another one for the undo than for the run.
    pub fn order(&self, step: usize) -> u32 {
        let within = u32::try_from(step).unwrap_or(STEPS_MAX - 1).min(STEPS_MAX - 1);
        (self.entries * STEPS_MAX + within) * 2 + u32::from(matches!(self.mode, Mode::Undo { .. }))
    }

    /// Why the work is being undone, if it is.
    pub fn reason(&self) -> Option<&str> {
        match &self.mode {
            Mode::Forward => None,
            Mode::Undo { reason, .. } => Some(reason),
        }
    }

    /// Whether the work is being undone.
    pub fn undoing(&self) -> bool {
        matches!(self.mode, Mode::Undo { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::WorkId;
    use world::Wall;

    /// Plays `journal` (`d0` done, `p1` progress, `f2` failed dirty, `c2` failed clean, `c2>1` resume at 1, `u1` undone)
    /// on three steps and tells what comes next.
    fn check(journal: &str, want: &str) {
        let entries: Vec<JournalEntry> =
            journal.split_whitespace().enumerate().map(|(at, word)| entry(at, word)).collect();
        let progress = Progress::replay(3, &entries);
        let got = match progress.next() {
            Next::Run(step) => format!("run {step}"),
            Next::Undo(step) => format!("undo {step}"),
            Next::Succeed => "succeed".into(),
            Next::Fail(reason) => format!("fail: {reason}"),
        };
        assert_eq!(got, want, "after {journal:?}");
    }

    fn entry(number: usize, word: &str) -> JournalEntry {
        let (head, resume) = word.split_once('>').map_or((word, None), |(head, at)| (head, at.parse().ok()));
        let step = head[1..].parse().unwrap();
        let event = match &head[..1] {
            "d" => Event::Done,
            "p" => Event::Progress,
            "u" => Event::Undone,
            "f" => Event::Failed { clean: false, resume, reason: "why".into() },
            "c" => Event::Failed { clean: true, resume, reason: "why".into() },
            other => panic!("{other}"),
        };
        JournalEntry {
            work: WorkId::from_uuid(ids::uuid::Uuid::nil()),
            number: u32::try_from(number).unwrap(),
            event,
            step,
            state: Bytes::new(),
            left_ms: 0,
            at: Wall::default(),
            epoch: 1,
        }
    }

    #[test]
    fn forward() {
        check("", "run 0");
        check("d0", "run 1");
        check("d0 p1", "run 1");
        check("d0 d2", "succeed");
    }

    #[test]
    fn a_failed_step_counts_as_possibly_done_unless_it_is_clean() {
        check("d0 f1", "undo 1");
        check("d0 c1", "undo 0");
        check("d0 f1 u1", "undo 0");
        check("d0 f1 u1 u0", "fail: why");
        check("c0", "fail: why");
    }

    #[test]
    fn after_undoing_down_to_the_resume_point_it_goes_forward_again() {
        check("d0 c1>0", "undo 0");
        check("d0 c1>0 u0", "run 0");
        check("d0 f1>1", "undo 1");
        check("d0 f1>1 u1", "run 1");
        check("d0 c1>1", "run 1");
        check("d0 c1>0 u0 d0", "run 1");
    }

    #[test]
    fn an_order_has_one_number_until_the_journal_moves() {
        let mut progress = Progress::start(3);
        let mut orders = vec![progress.order(0), progress.order(1)];
        for (at, word) in ["d0", "f2>0", "u2", "u1", "u0", "d0"].iter().enumerate() {
            progress.apply(&entry(at, word));
            match progress.next() {
                Next::Run(step) | Next::Undo(step) => orders.push(progress.order(step)),
                Next::Succeed | Next::Fail(_) => {}
            }
        }
        assert!(orders.windows(2).all(|pair| pair[0] < pair[1]), "{orders:?}");
    }
}
