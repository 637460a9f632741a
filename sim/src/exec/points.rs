//! Boundaries between effects, numbered as a run reaches them: where a sweep does its harm.
//!
//! An effect is whatever outlives the process that causes it: a durable commit, a record of a node's log, a message, a
//! file of image content, an act of a driver. Right before and right after each of them the simulated outside calls [`Exec::reach`]; nobody names
//! the places by hand, so a new step is among them as soon as it does anything. What happens at a boundary is decided by
//! the [`Hook`] that the scenario has set; it may kill or pause the process on the spot, or let the effect fail.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::{Exec, Process};

/// A side of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Boundary {
    /// A group of commits is about to be written.
    CommitAsked,
    /// It is durable, and nobody knows yet.
    CommitDurable,
    /// Records are about to be appended to a node's log.
    LogAsked,
    /// They are durable, and the node does not know yet.
    LogDurable,
    /// A call is about to leave its caller.
    CallSent,
    /// It has reached the process that serves it.
    CallReceived,
    /// It was served, and the answer is about to leave.
    CallAnswered,
    /// The answer has reached the caller.
    AnswerReceived,
    /// A driver, or whoever keeps image content, is about to act.
    ActBegun,
    /// It has acted, and who asked for it does not know yet.
    ActDone,
}

impl Boundary {
    /// Its name in event logs.
    pub const fn name(self) -> &'static str {
        match self {
            Boundary::CommitAsked => "commit asked",
            Boundary::CommitDurable => "commit durable",
            Boundary::LogAsked => "log asked",
            Boundary::LogDurable => "log durable",
            Boundary::CallSent => "call sent",
            Boundary::CallReceived => "call received",
            Boundary::CallAnswered => "call answered",
            Boundary::AnswerReceived => "answer received",
            Boundary::ActBegun => "act begun",
            Boundary::ActDone => "act done",
        }
    }

    /// In which ways the effect that follows can fail; the far side of an effect cannot.
    pub const fn failures(self) -> &'static [Failure] {
        match self {
            Boundary::CommitAsked | Boundary::ActBegun => {
                &[Failure::Refused, Failure::NotDone, Failure::DoneAndNotSaid]
            }
            Boundary::LogAsked => &[Failure::Refused, Failure::NotDone],
            Boundary::CallSent => &[Failure::NotDone, Failure::DoneAndNotSaid],
            Boundary::CommitDurable
            | Boundary::LogDurable
            | Boundary::CallReceived
            | Boundary::CallAnswered
            | Boundary::AnswerReceived
            | Boundary::ActDone => &[],
        }
    }
}

/// How an effect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It is refused, cleanly: no space on a disk, an act that cannot work here.
    Refused,
    /// It does not happen, and its outcome is not known.
    NotDone,
    /// It happens, and its outcome is not known.
    DoneAndNotSaid,
}

impl Failure {
    /// Its name in event logs.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::NotDone => "not done",
            Failure::DoneAndNotSaid => "done, not said",
        }
    }
}

/// Looks at each boundary; whatever it does to the process (or to any other) has happened when it returns.
pub type Hook = Arc<dyn Fn(Process, Boundary, &str) -> Option<Failure> + Send + Sync>;

impl Exec {
    /// From here on `hook` looks at every boundary.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.inner.state.lock().hook = hook;
    }

    /// `process` has come to a boundary. Returns how the effect that follows shall fail, if it shall; in a process that
    /// was killed here it does not return, in one that was paused it returns when that goes on.
    pub async fn reach(&self, process: Process, boundary: Boundary, detail: &str) -> Option<Failure> {
        let hook = self.inner.state.lock().hook.clone();
        let failure = match hook {
            Some(hook) => hook(process, boundary, detail),
            None => None,
        };
        let mut parked = false;
        poll_fn(|cx| {
            if !self.is_alive(process) {
                return Poll::Pending;
            }
            // Once more around: the executor does not poll what is paused.
            if self.is_paused(process) && !parked {
                parked = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        failure
    }
}
