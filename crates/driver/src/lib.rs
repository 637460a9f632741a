//! The port between an agent and what really runs guests on its node.
//!
//! An agent decides (from its write-ahead log) what must be so; a driver makes it so. Every act is an `ensure`: it may
//! be run again at any moment, after any crash, and does only what is missing. A driver keeps no record of its own that
//! it trusts more than what it finds: processes, disks, devices.
//!
//! - [`guest`]: what a guest is, and what is seen of it.
//! - [`network`]: what a network is on one node: plain data, from which rules and devices are derived.

pub mod guest;
pub mod network;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

pub use guest::{Found, GuestId, GuestSpec, ImageFormat, ImageRef, Nic, Observed, Run, Stock, StopCause};
pub use network::{
    Direction, Documents, GroupId, GroupState, NetworkId, NetworkSpec, NetworkState, PortId, PortState, Protocol,
    Remote, Rule, Subnet,
};

/// Why a driver could not do what was asked. The text names the cause for the tenant's fault message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// It cannot work here or in this form (bad image, no space, no such feature); nothing half done is left behind.
    #[error("{0}")]
    Refused(String),
    /// It did not work now; the same `ensure` may be tried again. Parts of it may be there.
    #[error("{0}")]
    Failed(String),
}

/// Fetches an image into the node's cache. The agent implements it over its own authenticated connection.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Writes the whole image with this hash to `into`, which is made anew. The receiver verifies the hash.
    async fn fetch(&self, image: &ImageRef, into: &std::path::Path) -> Result<(), DriverError>;
}

/// Receives what happens to guests without having been asked for.
pub trait Watcher: Send + Sync {
    /// The run `run` of `guest` has ended by itself (power-off from inside, crash, kill).
    fn ended(&self, guest: GuestId, run: Run, cause: StopCause);
}

/// What a node can hold: facts that placement turns into inventories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Virtual processors that may be given out.
    pub vcpus: u32,
    /// Memory for guests, in MiB.
    pub memory_mib: u64,
    /// Disk for guests, in GiB.
    pub disk_gib: u64,
    /// How guests are run: `QEMU` or `fake`, as Nova's hypervisor type.
    pub hypervisor: String,
    /// Version of the hypervisor as Nova encodes it (major × 1,000,000 + minor × 1,000 + micro).
    pub hypervisor_version: u64,
    /// Further facts for people: acceleration, CPU model.
    pub facts: BTreeMap<String, String>,
}

/// What runs guests. All methods are `ensure`s and may be called again with the same arguments at any time; calls for
/// one guest do not overlap, calls for different guests do.
#[async_trait]
pub trait Driver: Send + Sync {
    /// What this node can hold.
    fn capacity(&self) -> Capacity;

    /// Everything of this driver that exists on the node: running guests, and what is left of others.
    async fn find(&self) -> Result<Vec<Found>, DriverError>;

    /// Everything on the node that costs something, from what is there and not from any record of it: for audits.
    async fn take_stock(&self) -> Result<Stock, DriverError>;

    /// Tells `watcher` from now on about guests that end by themselves, including those found running.
    fn watch(&self, watcher: Arc<dyn Watcher>);

    /// Makes `network` as described on this node; what the description no longer has is taken away.
    async fn ensure_network(&self, network: &NetworkState) -> Result<(), DriverError>;

    /// Removes a network's devices, services and rules from this node. No guest uses it any more.
    async fn ensure_no_network(&self, network: NetworkId) -> Result<(), DriverError>;

    /// Makes disk, config drive and ports of a guest. Its networks have been ensured. Does not start it.
    async fn ensure_prepared(&self, guest: &GuestSpec, images: &dyn ImageSource) -> Result<(), DriverError>;

    /// Makes sure that the guest runs, as its run number `run`. A guest that runs already under this number is left.
    async fn ensure_running(&self, guest: &GuestSpec, run: Run) -> Result<(), DriverError>;

    /// Makes sure that the guest does not run. `graceful`: ask its system first and wait as long as given.
    async fn ensure_stopped(&self, guest: GuestId, graceful: Option<std::time::Duration>) -> Result<(), DriverError>;

    /// Holds or releases the virtual processors of a running guest.
    async fn ensure_paused(&self, guest: GuestId, paused: bool) -> Result<(), DriverError>;

    /// Removes all that exists of the guest on this node; it does not run.
    async fn ensure_absent(&self, guest: GuestId) -> Result<(), DriverError>;

    /// The last `bytes` of the guest's console, as text.
    async fn console(&self, guest: GuestId, bytes: usize) -> Result<String, DriverError>;

    /// Writes the guest's disk as one qcow2 file without a backing file to `into`, consistent as of one moment.
    async fn export_disk(&self, guest: GuestId, into: &std::path::Path) -> Result<(), DriverError>;
}
