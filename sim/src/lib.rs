//! A whole cell in one process, on simulated time, from one seed.
//!
//! The code that runs is the product's own, from the functions behind the API down to the agents; only what lies under a
//! `world::World`, an `rpc::Wire` and a store's `Journal` is simulated:
//!
//! - [`exec`]: one thread; the next task, and every delay, is drawn from the seed. [`disk`], [`store`], [`net`]: what
//!   forgets, breaks and comes late.
//! - [`cell`]: a control process and agents over fake machines, to be killed and started at any moment.
//! - [`churn`]: clients and faults, then a healing phase, at whose end all work must have ended.
//! - [`lost`]: an agent whose log is lost while its guests run.
//! - [`invariants`]: what must then be true; one file each. [`ledger`], [`epochs`]: what must be true at every commit. [`linear`]: what
//!   clients were told, call by call, must be what one cell would have told them.
//! - [`run`]: one seed from its start to its verdict. [`sweep`]: every workflow, harmed at every boundary between effects.
//! - [`liveness`]: the decisions of liveness alone, through storms and with a hundred thousand sessions.
//! - [`mutation`]: bugs that are planted in the product, and who finds each.
//!
//! Deliberately absent: HTTP, TLS, SQLite, QEMU. They are proven with real processes.

pub mod cell;
pub mod churn;
pub mod disk;
pub mod epochs;
pub mod exec;
pub mod invariants;
pub mod ledger;
pub mod linear;
pub mod liveness;
pub mod lost;
pub mod mutation;
pub mod net;
pub mod rng;
pub mod run;
pub mod store;
pub mod sweep;
#[cfg(test)]
mod tests;
