//! What tests of whole cells stand on: real processes of the binary, a client of its public API, a look into its files.
//!
//! A [`Cell`] is `mainstay dev` in a directory of its own, on a port of its own; whatever it started ends with it. A
//! [`Client`] speaks HTTPS to it and trusts the cell's own authority only, and [`Raw`] sends what no client should.
//! [`records`] reads the store of a cell that is
//! not running: what a cell says of itself is one thing, what it has left on disk is the other. Nothing waits for a fixed
//! time: [`until`] asks again until a condition holds, and says in its failure what it saw last.
//!
//! With real guests there is more to see: [`Guests`] drives them, and [`Machine`] is what the cell has made of this one.
//!
//! Deliberately absent: anything that the tests could get from the crates of the house. A cell is tested from outside.

#![expect(clippy::disallowed_methods, reason = "these tests are about real processes in real time")]

mod apart;
mod audit;
mod binary;
mod cell;
mod certificates;
pub mod chaos;
mod client;
mod crew;
mod dice;
mod disk;
mod guests;
mod island;
mod machine;
mod process;
mod raw;
pub mod records;
mod ssh;
mod wait;
mod watcher;

pub use apart::Apart;
pub use audit::audit;
pub use cell::{Cell, Route};
pub use certificates::issue;
pub use client::{Answer, Client};
pub use crew::Crew;
pub use dice::Dice;
pub use disk::SmallDisk;
pub use guests::Guests;
pub use island::{Cut, Island};
pub use machine::Machine;
pub use process::{Process, free_port, has_ended, resident_bytes, signal, written_bytes};
pub use raw::{Door, Raw, RawAnswer};
pub use rustix::process::Signal;
pub use ssh::Login;
pub use wait::{pause, timed, unchanged, until};
pub use watcher::{Event, Watcher};
