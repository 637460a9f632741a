//! What a node decides, without doing anything itself.
//!
//! [`Core`] is fed [`Input`]s (orders, results of what it asked for, news of guests) and answers with [`Effect`]s
//! (append to the log, call the driver, reply, report). The shell does them and feeds back what came of it. Nothing is
//! called before the log says durably that it will be ([`Entry::Begun`]), and nobody is told of an end before the log
//! knows it ([`Entry::Ended`]); so a crash at any moment leaves a log from which the next [`Core`] goes on.
//!
//! ```text
//!   order ──▶ Begun ──(durable)──▶ networks ▶ prepare ▶ run ──▶ Ended ──(durable)──▶ reply
//!                                      │ fails for good
//!                                      └─▶ undo: absent, networks away ──▶ Ended: refused
//! ```
//!
//! - [`State`] is what the log says, and what a rewritten log will say: entries are applied to it when they are
//!   durable. Two numbers run ahead of the log, because running ahead only refuses more: epochs and the floor.
//! - A guest has one act at a time; further orders for it wait in a short queue. A removal that waits makes the act
//!   before it give up at its next boundary.
//! - Networks are told in parts (the network, each port, the members of groups) and made whole, one call at a time each;
//!   acts wait until theirs are as new as they need.
//!
//! Deliberately absent: I/O, clocks, tasks, wire types, and any notion of more than one node.

mod act;
mod admit;
mod codec;
mod compact;
mod core;
mod described;
mod doing;
mod entry;
mod nets;
mod news;
mod order;
mod recover;
mod state;
#[cfg(test)]
mod tests;

pub use codec::{CodecError, decode, encode};
pub use compact::rewrite_due;
pub use core::{AppendId, CallId, Core, Effect, Input, Op, Ticket};
pub use described::{Descriptions, Told};
pub use entry::{Begun, Entry};
pub use order::{Act, Answer, Epoch, ImageId, Life, Note, Order, Outcome, Reached, Refusal, Step, WorkId};
pub use state::State;
