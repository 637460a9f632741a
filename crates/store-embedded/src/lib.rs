//! The store on one machine: SQLite under the engine's committer.
//!
//! Think of SQLite here as a log that can be read by hand: the whole state is in memory, every group of commits is one
//! SQLite transaction with a full sync, and the file is read once, when the store is opened. So it opens at once after a
//! crash, and no read ever touches the disk.
//!
//! The committer has a thread of its own, because SQLite's calls block. If a sync fails, nobody can say what is on the
//! disk: the engine ends, and the caller of [`open`] is told to end the process and open again.
//!
//! - `open`: the lock, the schema, the committer's thread.
//! - `journal`: one group, one transaction; checkpoints; which failures are harmless.
//! - `recent`: why a change is appended first and brought to its place later.
//!
//! Deliberately absent: a second process. Others reach this store through the process that holds it.

mod journal;
mod lock;
mod open;
mod recent;
mod schema;

pub use open::{Observer, OpenError, Settings, Unobserved, open, open_with};

#[cfg(test)]
mod tests;
