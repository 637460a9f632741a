//! Who is there: a session for each process, without polls, and without a write.
//!
//! - [`core`] decides, purely: which sessions stand, who is suspected, unreachable, dead, or has left, and on what evidence.
//! - An [`Instance`] is the shell around it. There are a handful; each knows all sessions, and a process has its session
//!   with any of them.
//! - A [`Session`] is what a process has of all this: it keeps the session through the deaths of instances and links, fills
//!   a [`names::Directory`], and hands over configuration as it comes.
//!
//! Deliberately absent: the store. What is known here is lost with the last instance and found again within seconds,
//! because everybody comes back. And nothing here is an order: who acts on a death has an epoch that protects from a wrong
//! one.

pub mod core;
mod instance;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub use instance::{ConfigDocument, Instance, Options};
pub use session::{NoInstance, Offer, Session};
pub use wire::{from_wire, to_wire};
