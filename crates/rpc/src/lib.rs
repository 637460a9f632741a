//! Calls between processes: tonic, with everything around it that no service may forget.
//!
//! - [`Server`] wraps services so that every call has a peer identity, passes the authorization table, runs within a
//!   deadline and a concurrency limit, continues its caller's trace and leaves a span and a metric.
//! - [`Channel`] is what generated clients are made of. It carries a [`telemetry::Cx`]: deadline, trace and request id
//!   go along, and the caller waits no longer than the deadline.
//! - [`Health`] says how a process is, also while it is starting.
//! - [`Peers`] hands out channels by [`Target`]. Three kinds exist: over TCP with mutual TLS ([`tls`]), inside one
//!   process (the same stack without a socket), and the simulator's.
//! - [`Link`] tells when the host at the other end of a call's connection was last heard, and a [`Prober`] asks a host
//!   that is silent.
//! - [`Error`] knows its [`Verdict`]: *no*, *not now*, or *unknown outcome*. Undo and retry hang on it.
//!
//! The cut between the real and the simulated world is the `tower::Service` of requests: everything in this crate but
//! [`tls`] runs in the simulator as it is.

pub mod authz;
mod channel;
mod error;
mod headers;
mod health;
mod held;
mod leaving;
mod link;
mod probe;
mod server;
pub mod tls;

pub use channel::{Channel, Peers, See, Seen, Target, Wire};
pub use error::{Error, Verdict, may_go_elsewhere};
pub use health::Health;
pub use held::hold_until_end;
pub use link::{Link, link_of};
pub use probe::{Probe, Prober};
pub use server::{Limits, Peer, Server, cx_of, peer_of};
