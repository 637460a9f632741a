//! Real guests: QEMU processes that the agent starts, finds again, and never owns.
//!
//! A guest is a directory, a confined process and its ports. The process lives in a session, user
//! and control groups of its own and holds everything it needs as open descriptors, so agents come and go beside it.
//! Nothing that is recorded is trusted over what is found: a guest runs if a process carries its marker and its lock is
//! held. Every act looks first, and does what is missing.
//!
//! - all of them: `guests`
//! - what runs: `argv` (pure), `launch`, `start`, `process`, `cgroup`, `accel` (KVM only when proven)
//! - what it says: `qmp` (pure) and `monitor`, `tail` (console), `running` (one guest held by this agent)
//! - what it runs from: `prepare`, `images`, `disk`, `iso` (config drive), `layout`
//! - what it is plugged into: `net`
//! - what is its own of a machine that several agents share: `share`
//!
//! Absent: any decision about which guests should be; migration; hot plug.

mod accel;
mod argv;
mod cgroup;
mod disk;
mod guests;
mod host;
mod images;
mod iso;
mod launch;
mod layout;
mod monitor;
mod net;
mod prepare;
mod probe;
mod process;
mod qmp;
mod running;
mod share;
mod start;
mod tail;
#[cfg(test)]
mod tests_support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use driver::{
    Capacity, Driver, DriverError, Found, GuestId, GuestSpec, ImageSource, NetworkId, NetworkState, Run, Stock, Watcher,
};
use world::World;

pub use disk::Tools;
use guests::Guests;
use layout::failed;
pub use share::Share;

/// How guests reach anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Networking {
    /// Through QEMU's user-mode network: needs no root, and nothing reaches the guests.
    User,
    /// Through the node's own networks.
    Node(node_net::Config),
}

/// What a driver needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything of it lies below this directory, which is its own.
    pub state_dir: PathBuf,
    /// Identifies this boot of the machine.
    pub boot_id: String,
    /// The programs that it starts.
    pub tools: Tools,
    /// How guests reach anything.
    pub networking: Networking,
    /// What of the machine is this driver's.
    pub share: Share,
}

/// The driver for real guests. Dropping it leaves every guest as it is.
pub struct QemuDriver {
    guests: Arc<Guests>,
    version: (u64, u64, u64),
}

impl QemuDriver {
    /// Opens the driver on its directory. Running guests are taken hold of by [`Driver::find`].
    ///
    /// # Errors
    /// If QEMU is missing or the directory cannot be used; the text says which.
    pub async fn open(world: World, mut config: Config) -> Result<QemuDriver, DriverError> {
        config.tools = config.tools.found();
        let version = config.tools.version().await?;
        let net = net::open(&config.networking)?;
        let guests = Guests::open(world, config, net, version)
            .map_err(|error| failed("cannot open the state directory", &error))?;
        guests.remove_old_probes().await?;
        Ok(QemuDriver { guests: Arc::new(guests), version })
    }

    /// Removes the control groups of a guest that does not run; its next run makes them again. For taking a cell down:
    /// otherwise they are kept for as long as the guest is, and removed with it.
    pub async fn remove_groups(&self, guest: GuestId) -> Result<(), DriverError> {
        self.guests.remove_groups(guest).await
    }
}

#[async_trait]
impl Driver for QemuDriver {
    fn capacity(&self) -> Capacity {
        let mut facts = BTreeMap::new();
        host::cpu_facts(&mut facts);
        self.guests.facts(&mut facts);
        let (major, minor, micro) = self.version;
        Capacity {
            vcpus: self.guests.share.vcpus(),
            memory_mib: self.guests.share.memory_mib(),
            disk_gib: self.guests.disk_gib(),
            hypervisor: "QEMU".into(),
            hypervisor_version: major * 1_000_000 + minor * 1_000 + micro,
            facts,
        }
    }

    async fn find(&self) -> Result<Vec<Found>, DriverError> {
        self.guests.find().await
    }

    async fn take_stock(&self) -> Result<Stock, DriverError> {
        self.guests.take_stock().await
    }

    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.guests.watch(watcher);
    }

    async fn ensure_network(&self, network: &NetworkState) -> Result<(), DriverError> {
        self.guests.net().ensure(network).await
    }

    async fn ensure_no_network(&self, network: NetworkId) -> Result<(), DriverError> {
        self.guests.net().remove(network).await
    }

    async fn ensure_prepared(&self, guest: &GuestSpec, images: &dyn ImageSource) -> Result<(), DriverError> {
        self.guests.prepare(guest, images).await
    }

    async fn ensure_running(&self, guest: &GuestSpec, run: Run) -> Result<(), DriverError> {
        self.guests.run(guest, run).await
    }

    async fn ensure_stopped(&self, guest: GuestId, graceful: Option<Duration>) -> Result<(), DriverError> {
        self.guests.stop(guest, graceful).await
    }

    async fn ensure_paused(&self, guest: GuestId, paused: bool) -> Result<(), DriverError> {
        self.guests.pause(guest, paused).await
    }

    async fn ensure_absent(&self, guest: GuestId) -> Result<(), DriverError> {
        self.guests.remove(guest).await
    }

    async fn console(&self, guest: GuestId, bytes: usize) -> Result<String, DriverError> {
        self.guests.console(guest, bytes)
    }

    async fn export_disk(&self, guest: GuestId, into: &Path) -> Result<(), DriverError> {
        self.guests.export(guest, into).await
    }
}
