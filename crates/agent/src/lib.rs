//! A node of the cell: the shell around `agent_core`.
//!
//! [`Journal`] is the write-ahead log of the process; several nodes may share it and its syncs. [`Node`] feeds one core
//! and does what it asks for: appends, calls of the driver, replies, reports. [`service`] answers the cell's calls,
//! [`Blobs`] moves image content between [`Files`] and the image service, and a node that has seen to its guests attends its coordinators.
//!
//! ```text
//!   AgentService ─▶ Node::feed ─▶ Core ─▶ effects ─┬▶ Journal ── durable ──▶ feed
//!        ▲                                         ├▶ driver  ── result ───▶ feed
//!        └──────────── reply ◀─────────────────────┴▶ outbox ── reported ──▶ feed
//! ```
//!
//! A crash needs no cleaning up: whatever was under way is in the log, and the next start goes on from it. Nothing here
//! decides; where an error needs a decision it is fed to the core.
//!
//! Deliberately absent: listening (the binary does, with the node's own certificate) and anything about how guests run.

mod attend;
mod blobs;
mod files;
mod journal;
mod node;
mod ops;
mod service;
#[cfg(test)]
mod tests;
mod wire;

pub use blobs::Blobs;
pub use files::{Files, OnDisk, Pieces, Writing};
pub use journal::{Journal, OpenError};
pub use node::{Config, Node};
pub use service::service;
