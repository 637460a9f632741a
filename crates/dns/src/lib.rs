//! The name service for programs that know nothing of Mainstay: an authoritative DNS server for the cell's zone.
//!
//! - A [`zone::Zone`] is what a directory says as names and records, and answers a question purely: who is listed under which
//!   name is decided there and nowhere else.
//! - `wire` turns a message into the message that answers it: what is refused, what is cut off, what is not answered.
//! - A [`Listener`] is a pair of sockets, UDP and TCP, and the loops over them with their bounds.
//!
//! For a cell `CELL`, a process `NAME` with a certificate of `ROLE`, and anybody who plays a `PART`:
//!
//! | name | types | says |
//! | --- | --- | --- |
//! | `CELL` | SOA, NS | the serial follows the directory's number |
//! | `_PART._tcp.CELL` | SRV | port and `NAME.ROLE.CELL` of each that takes calls; more weight for less load |
//! | `PART.CELL` | A, AAAA | their addresses |
//! | `NAME.ROLE.CELL` | A, AAAA | where that process is called; the name in its certificate |
//! | `_openstack._tcp.CELL` | SRV | port and `NAME.ROLE.openstack.CELL` of each that offers the public API |
//! | `openstack.CELL`, `NAME.ROLE.openstack.CELL` | A, AAAA | their public addresses |
//! | `NAME.node.CELL` | A, AAAA | the node of the agent `NAME` |
//! | `MACHINE.machine.CELL` | A, AAAA | where processes of that machine are called |
//!
//! Deliberately absent: recursion, transfers, updates, signatures, and any judgement of who is alive. A directory that
//! turns to another liveness instance may turn back its serial; nobody copies this zone.

mod server;
mod wire;
mod zone;

pub use server::{ListenError, Listener};

#[cfg(test)]
mod tests;
