//! Chooses hosts for a request: filters, weighs, and says why each refused host was refused.
//!
//! [`hosts`] is what the scheduler knows: a compact table fed by one watch. [`decide()`] is a pure function of that table
//! and a request. The claim that follows decides again, so a stale table costs a retry and never a wrong placement.

pub mod decide;
pub mod hosts;
mod service;

pub use decide::{Candidates, Request, decide};
pub use hosts::{Host, Hosts};
pub use service::{Scheduler, service};
