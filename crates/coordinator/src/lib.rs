//! Runs work: takes what was accepted to its end, across crashes, exactly once in effect.
//!
//! A *work* is a record created in the same transaction as the thing that it serves. Its *workflow* is a list of steps,
//! each with a `run` and an `undo`. A step either changes the store, and then its journal entry rides in that very
//! transaction; or it calls another process, naming work, epoch and order, and can be sent again.
//!
//! - [`record`]: work and journal as they are stored; accepting, aborting and queueing work as transaction fragments.
//! - [`name`]: which process acts under an owner's name.
//! - [`progress`]: where a work stands, from its journal alone; what comes next. Pure.
//! - [`workflow`]: what a workflow is made of.
//! - [`run`]: the shell that drives works, and takes over those of its earlier self.
//!
//! An owner acts under its *epoch*. Taking over raises it, and each commit of an owner has the unchanged work record as
//! a precondition; so whoever lost a work can change nothing any more, and a wrong suspicion costs time only.
//!
//! Deliberately absent: any knowledge of servers, images or networks; leases; clocks as proof of anything.

pub mod name;
pub mod progress;
pub mod record;
pub mod run;
pub mod workflow;

pub use record::{Accept, Epoch, JournalEntry, Work, WorkId};
pub use run::{Coordinator, Options};
pub use workflow::{Advance, Conclusion, Effect, Outcome, Step, StepCx, StepError, StepTime, Workflow};
