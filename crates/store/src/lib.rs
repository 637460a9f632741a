//! The quorum service as Mainstay needs it: a small port, and what every engine and every user of it shares.
//!
//! Think of an ordered map from keys to values with one number, the [`Revision`], that rises by one with each
//! transaction. A [`Txn`] names what must still be true, and what it changes; it happens as a whole or not at all. A
//! watch tells every change exactly once and in order.
//!
//! - [`port`]: the trait [`Store`] and its types; this is all that an engine has to implement.
//! - [`core`]: preconditions, bounded adds, revisions and history as one pure state machine. An engine that has a log
//!   to append to (SQLite, the simulator's disk) needs only [`engine::Journal`] and gets the rest from here.
//! - [`table`]: typed records over keys. [`view`]: all records of a process in memory, fed by one watch, with indexes
//!   and linearizable reads.
//! - [`conformance`]: what every engine must pass.
//!
//! Deliberately absent: leases, locks, time. Ownership is a compare-and-swap on a record; liveness lives elsewhere.

pub mod conformance;
pub mod core;
pub mod engine;
pub mod memory;
pub mod port;
pub mod table;
pub mod view;

pub use port::{
    Batch, CommitError, Entry, Event, Key, KeyRange, Op, Page, Precondition, ReadError, Revision, Store, Txn, TxnError,
    Value, Watch, WatchError,
};
pub use table::{DecodeError, Record};
pub use view::{Index, Reader, State, View};
