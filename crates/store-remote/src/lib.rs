//! The store for processes that do not hold it: a service beside the engine, and a [`store::Store`] that calls it.
//!
//! With the embedded engine exactly one process has the store open. Every other control process of the cell reaches it
//! through here, over the same guarded, mutually authenticated calls as everything else, and cannot tell the difference:
//! the conformance suite runs over it.
//!
//! - [`service`]: a store as a gRPC service.
//! - [`RemoteStore`]: that service as a store.
//! - `convert`: the one place where wire types and the port's types meet.
//! - `fence`: what keeps commits out that come late.
//!
//! Deliberately absent: retries and resumption. A commit whose connection broke is `Unknown`, a watch whose connection
//! broke is `Closed`; whoever holds the transaction or the last revision knows what to do.

mod client;
mod convert;
mod fence;
mod heads;
mod service;

#[cfg(test)]
mod tests;

pub use client::RemoteStore;
pub use service::{Service, service};
