//! One node's handle on the machine: the driver.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use driver::{
    Capacity, Driver, DriverError, Found, GuestId, GuestSpec, ImageRef, ImageSource, NetworkId, NetworkState, Observed,
    Run, Stock, Watcher,
};

use crate::faults::Operation;
use crate::machine::{FakeMachine, run_of};
use crate::qcow2;

/// Runs no guests, on one node of a [`FakeMachine`].
pub struct FakeDriver {
    machine: Arc<FakeMachine>,
    node: String,
    capacity: Capacity,
}

impl FakeDriver {
    pub(crate) fn new(machine: &Arc<FakeMachine>, node: &str) -> FakeDriver {
        let capacity = Capacity {
            vcpus: 4096,
            memory_mib: 16 * 1024 * 1024,
            disk_gib: 1024 * 1024,
            hypervisor: "fake".into(),
            hypervisor_version: 1_000_000,
            facts: BTreeMap::from([("acceleration".into(), "none: guests are not run".into())]),
        };
        FakeDriver { machine: Arc::clone(machine), node: node.to_owned(), capacity }
    }

    /// The same with another capacity.
    #[must_use]
    pub fn with_capacity(&self, vcpus: u32, memory_mib: u64, disk_gib: u64) -> Arc<FakeDriver> {
        let capacity = Capacity { vcpus, memory_mib, disk_gib, ..self.capacity.clone() };
        Arc::new(FakeDriver { machine: Arc::clone(&self.machine), node: self.node.clone(), capacity })
    }

    fn seen(&self, guest: GuestId) -> Option<Observed> {
        self.machine.seen(&self.node, guest)
    }

    fn set(&self, guest: GuestId, to: Option<Observed>) -> Result<(), DriverError> {
        self.machine.set(&self.node, guest, to)
    }

    /// Fetches and verifies an image as a real driver would, once; only a machine with a directory has where to.
    async fn image(&self, image: &ImageRef, images: &dyn ImageSource) -> Result<(), DriverError> {
        let Some(path) = self.machine.image_path(&image.sha256) else { return Ok(()) };
        let mut verified = self.machine.images.lock().await;
        if verified.contains(&image.sha256) {
            return Ok(());
        }
        if !holds(&path, &image.sha256)? {
            images.fetch(image, &path).await?;
            if !holds(&path, &image.sha256)? {
                let _leftover = std::fs::remove_file(&path);
                return Err(DriverError::Refused(format!("image {} is corrupt: its content is other", image.sha256)));
            }
        }
        verified.insert(image.sha256.clone());
        Ok(())
    }
}

fn holds(path: &Path, sha256: &str) -> Result<bool, DriverError> {
    let failed = |error: std::io::Error| DriverError::Failed(format!("image cache: {error}"));
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = std::io::Read::read(&mut file, &mut piece).map_err(failed)?;
        if length == 0 {
            break;
        }
        digest.update(&piece[..length]);
    }
    let found: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(found == sha256)
}

#[async_trait]
impl Driver for FakeDriver {
    fn capacity(&self) -> Capacity {
        self.capacity.clone()
    }

    async fn find(&self) -> Result<Vec<Found>, DriverError> {
        let told = self.machine.suffer(Operation::Find).await?;
        let guests = self.machine.guests(&self.node);
        told.map(|()| guests.into_iter().map(|(guest, observed)| Found { guest, observed }).collect())
    }

    async fn take_stock(&self) -> Result<Stock, DriverError> {
        Ok(self.machine.stock(&self.node))
    }

    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.machine.watch(&self.node, watcher);
    }

    async fn ensure_network(&self, network: &NetworkState) -> Result<(), DriverError> {
        let told = self.machine.suffer(Operation::Network).await?;
        let ports = network.ports.iter().map(|port| port.id).collect();
        self.machine.set_network(&self.node, network.spec.id, Some(ports));
        told
    }

    async fn ensure_no_network(&self, network: NetworkId) -> Result<(), DriverError> {
        let told = self.machine.suffer(Operation::NoNetwork).await?;
        self.machine.set_network(&self.node, network, None);
        told
    }

    async fn ensure_prepared(&self, guest: &GuestSpec, images: &dyn ImageSource) -> Result<(), DriverError> {
        let told = self.machine.suffer(Operation::Prepare).await?;
        if let Some(nic) = guest.nics.iter().find(|nic| !self.machine.has_network(&self.node, nic.network)) {
            return Err(DriverError::Failed(format!("network {} is not on this node", nic.network)));
        }
        self.image(&guest.image, images).await?;
        if self.seen(guest.id).is_none() {
            self.set(guest.id, Some(Observed::Stopped))?;
        }
        told
    }

    async fn ensure_running(&self, guest: &GuestSpec, run: Run) -> Result<(), DriverError> {
        let told = self.machine.suffer(Operation::Start).await?;
        match self.seen(guest.id) {
            None => return Err(DriverError::Failed("the guest has no disk yet".into())),
            Some(observed) if run_of(observed) == Some(run) => {}
            Some(_) => {
                self.set(guest.id, Some(Observed::Running(run)))?;
                self.machine.started(guest.id, run);
            }
        }
        told
    }

    async fn ensure_stopped(&self, guest: GuestId, _graceful: Option<Duration>) -> Result<(), DriverError> {
        let told = self.machine.suffer(Operation::Stop).await?;
        if self.seen(guest).is_some() {
            self.set(guest, Some(Observed::Stopped))?;
        }
        told
    }

    async fn ensure_paused(&self, guest: GuestId, paused: bool) -> Result<(), DriverError> {
        let told = self.machine.suffer(Operation::Pause).await?;
        let Some(run) = self.seen(guest).and_then(run_of) else {
            return Err(DriverError::Refused("the guest does not run".into()));
        };
        self.set(guest, Some(if paused { Observed::Paused(run) } else { Observed::Running(run) }))?;
        told
    }

    async fn ensure_absent(&self, guest: GuestId) -> Result<(), DriverError> {
        let told = self.machine.suffer(Operation::Absent).await?;
        self.set(guest, None)?;
        told
    }

    async fn console(&self, guest: GuestId, bytes: usize) -> Result<String, DriverError> {
        let Some(observed) = self.seen(guest) else {
            return Err(DriverError::Refused("this node has no such guest".into()));
        };
        let text = match run_of(observed) {
            Some(run) => format!(
                "Booting fake guest {guest}, run {}\nNo kernel, no processor: nothing can go wrong.\n\nfake login: ",
                run.0
            ),
            None => String::new(),
        };
        Ok(text[text.len().saturating_sub(bytes)..].to_owned())
    }

    async fn export_disk(&self, guest: GuestId, into: &Path) -> Result<(), DriverError> {
        let told = self.machine.suffer(Operation::Export).await?;
        if self.seen(guest).is_none() {
            return Err(DriverError::Refused("this node has no such guest".into()));
        }
        let failed = |error| DriverError::Failed(format!("the disk cannot be written to {}: {error}", into.display()));
        self.machine.write(into, qcow2::empty(qcow2::EMPTY_DISK_BYTES)).map_err(failed)?;
        told
    }
}
