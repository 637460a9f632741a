//! The workflows over servers.
//!
//! - `server.boot`: claim all, then build, then hand over. - `server.delete`: destroy, then return all.
//! - `server.power`: start, stop, reboot, pause, unpause. - `server.snapshot`: upload the disk as an image.

mod boot;
mod common;
mod delete;
mod power;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use coordinator::Workflow;
use rpc::Target;

use crate::nodes::Attendance;

pub use boot::{BOOT, needed_on};
pub use delete::DELETE;
pub use power::POWER;
pub use snapshot::{SNAPSHOT, awaited_from};

/// The version of all workflows here; raised when the meaning of a step or of the state changes.
pub const VERSION: u32 = 1;
/// How long a boot may take before it is given up.
pub const BOOT_BUDGET: Duration = Duration::from_secs(600);
/// How long a guest's system may take to shut down when asked.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(60);

/// What the steps need beside the store and the peers.
#[derive(Clone)]
pub struct Context {
    /// Which nodes attend this coordinator.
    pub attendance: Arc<Attendance>,
    /// The scheduler.
    pub scheduler: Target,
    /// Addresses chosen by this process and not yet committed.
    pub picks: networks::Picks,
}

/// All workflows over servers.
pub fn all(context: &Context) -> Vec<Workflow> {
    vec![boot::workflow(context), delete::workflow(context), power::workflow(context), snapshot::workflow(context)]
}
