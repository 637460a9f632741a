//! What is where and who holds it: providers with inventories, claims on them, quota.
//!
//! Nothing here talks to anybody: every function reads a view and returns a fragment for somebody's transaction, so that
//! a manifest of many claims is one commit. Capacity is a counter per provider and class, moved by bounded adds; what a
//! consumer holds is a record beside it. At every revision the counter is the sum of the records.
//!
//! - [`provider`]: providers and nodes. - [`claim`]: taking and returning capacity. - [`quota`]: what a project may hold.

pub mod claim;
pub mod provider;
pub mod quota;

pub use claim::{Claim, ClaimError, ConsumerId, Holder, TakerId};
pub use provider::{Inventory, Node, Provider, ProviderId, ResourceClass};
