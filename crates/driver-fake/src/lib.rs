//! A driver that does everything but run a guest: for tests, for scale, and for faults to order.
//!
//! A [`FakeMachine`] stands for the machines under the agents: it holds what would be processes, disks and bridges, and
//! outlives the agents that work on it. A [`FakeDriver`] is one node's handle on it.
//!
//! - In a test or a simulation the machine lives in memory, beside what is killed.
//! - In a real process it is [kept in a directory](FakeMachine::open): each change is written to a file before it is
//!   answered, but not synced. A guest thus survives `kill -9` of its agent as a real one would, and does not survive a
//!   power cut: as a real one would not.
//!
//! [`Faults`] can be ordered at any moment: how long an operation takes, and how its next calls fail. What ought never to
//! happen is counted: [`FakeMachine::ran_twice`].
//!
//! Deliberately absent: packets, disks and processors. An address is never answered, a console is three lines.

mod faults;
mod file;
mod machine;
mod node;
mod qcow2;
#[cfg(test)]
mod tests;

pub use faults::{Fault, Faults, Latency, Operation};
pub use machine::{FakeMachine, OpenError, Write};
pub use node::FakeDriver;
