//! What stands under the agents and outlives them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::{DriverError, Found, GuestId, NetworkId, Observed, PortId, Run, Stock, StopCause, Watcher};
use parking_lot::Mutex;
use world::World;

use crate::faults::{Fault, Faults, Operation};
use crate::file::{Book, Guests};
use crate::node::FakeDriver;

/// The directory of a machine cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the fake driver cannot keep its guests in {dir}")]
pub struct OpenError {
    dir: String,
    #[source]
    source: std::io::Error,
}

/// Makes a file anew.
pub type Write = dyn Fn(&Path, Vec<u8>) -> std::io::Result<()> + Send + Sync;

/// The machines under any number of nodes.
pub struct FakeMachine {
    pub(crate) world: World,
    dir: Option<PathBuf>,
    /// Writes exported disks.
    write: Mutex<Arc<Write>>,
    /// Images that were fetched and verified; held while one is.
    pub(crate) images: tokio::sync::Mutex<BTreeSet<String>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    book: Option<Book>,
    guests: Guests,
    networks: BTreeMap<(String, NetworkId), Arc<[PortId]>>,
    watchers: BTreeMap<String, Arc<dyn Watcher>>,
    faults: Faults,
    /// Runs that were started, of guests that exist.
    started: BTreeMap<GuestId, BTreeSet<Run>>,
    ran_twice: Vec<(GuestId, Run)>,
    calls: BTreeMap<Operation, u64>,
}

impl FakeMachine {
    /// A machine in memory.
    pub fn new(world: &World) -> Arc<FakeMachine> {
        FakeMachine::make(world, None, Inner::default())
    }

    /// A machine that is kept in `dir`: it holds what it held when the last process ended. `boot` is the id of the real
    /// machine's boot; in another boot its guests do not run any more.
    ///
    /// # Errors
    /// If the directory cannot be made, read or written.
    pub fn open(world: &World, dir: &Path, boot: &str) -> Result<Arc<FakeMachine>, OpenError> {
        let failed = |source| OpenError { dir: dir.display().to_string(), source };
        std::fs::create_dir_all(dir.join("images")).map_err(failed)?;
        let (book, guests) = Book::open(&dir.join("guests"), boot).map_err(failed)?;
        let inner = Inner { book: Some(book), guests, ..Inner::default() };
        Ok(FakeMachine::make(world, Some(dir.to_path_buf()), inner))
    }

    fn make(world: &World, dir: Option<PathBuf>, inner: Inner) -> Arc<FakeMachine> {
        Arc::new(FakeMachine {
            world: world.clone(),
            dir,
            write: Mutex::new(Arc::new(|path: &Path, content| std::fs::write(path, content))),
            images: tokio::sync::Mutex::default(),
            inner: Mutex::new(inner),
        })
    }

    /// The driver of `node` on this machine.
    pub fn driver(self: &Arc<Self>, node: &str) -> Arc<FakeDriver> {
        Arc::new(FakeDriver::new(self, node))
    }

    /// Changes what is ordered.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.inner.lock().faults);
    }

    /// From now on `write` writes exported disks, and not the file system.
    pub fn export_with(&self, write: Arc<Write>) {
        *self.write.lock() = write;
    }

    pub(crate) fn write(&self, path: &Path, content: Vec<u8>) -> std::io::Result<()> {
        let write = Arc::clone(&self.write.lock());
        write(path, content)
    }

    /// What exists on `node`.
    pub fn guests(&self, node: &str) -> BTreeMap<GuestId, Observed> {
        let inner = self.inner.lock();
        inner.guests.iter().filter(|((of, _), _)| of == node).map(|((_, guest), seen)| (*guest, *seen)).collect()
    }

    /// The networks on `node`, with the ports that each has there.
    pub fn networks(&self, node: &str) -> BTreeMap<NetworkId, Arc<[PortId]>> {
        let inner = self.inner.lock();
        let there = inner.networks.iter().filter(|((of, _), _)| of == node);
        there.map(|((_, id), ports)| (*id, Arc::clone(ports))).collect()
    }

    /// All of it, as an audit asks for it.
    pub fn stock(&self, node: &str) -> Stock {
        let found = |(guest, observed)| Found { guest, observed };
        let guests: Vec<Found> = self.guests(node).into_iter().map(found).collect();
        let networks = self.networks(node);
        Stock {
            disks: guests.iter().map(|found| found.guest).collect(),
            guests,
            taps: Some(networks.values().flat_map(|ports| ports.iter().copied()).collect()),
            networks: networks.into_keys().collect(),
        }
    }

    /// Runs that were started more than once: none, or something is wrong with the agent.
    pub fn ran_twice(&self) -> Vec<(GuestId, Run)> {
        self.inner.lock().ran_twice.clone()
    }

    /// How often an operation was asked for.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.inner.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Lets a guest that runs end by itself. Tells whether there was one.
    pub fn end(&self, node: &str, guest: GuestId, cause: StopCause) -> bool {
        let (run, watcher) = {
            let mut inner = self.inner.lock();
            let key = (node.to_owned(), guest);
            let Some(run) = inner.guests.get(&key).and_then(|seen| run_of(*seen)) else { return false };
            // A fake guest that ends in memory only is found running after a kill: as bad as a lost process table, and
            // as loud.
            if inner.set(node, guest, Some(Observed::Stopped)).is_err() {
                return false;
            }
            (run, inner.watchers.get(node).cloned())
        };
        if let Some(watcher) = watcher {
            watcher.ended(guest, run, cause);
        }
        true
    }

    /// The machine under `node` is booted: nothing runs, no network is there, nobody is told.
    pub fn boot(&self, node: &str) {
        let mut inner = self.inner.lock();
        inner.networks.retain(|(of, _), _| of != node);
        inner.watchers.remove(node);
        for ((_, _), seen) in inner.guests.iter_mut().filter(|((of, _), _)| of == node) {
            *seen = Observed::Stopped;
        }
    }

    /// Where the image with this hash is kept, if the machine has a directory.
    pub(crate) fn image_path(&self, sha256: &str) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join("images").join(sha256))
    }

    pub(crate) fn watch(&self, node: &str, watcher: Arc<dyn Watcher>) {
        self.inner.lock().watchers.insert(node.to_owned(), watcher);
    }

    /// Lets the time pass that `operation` takes, and the fault happen that was ordered for it. Returns what is to be
    /// said in the end.
    pub(crate) async fn suffer(&self, operation: Operation) -> Result<Result<(), DriverError>, DriverError> {
        let (fault, latency, full) = {
            let mut inner = self.inner.lock();
            *inner.calls.entry(operation).or_default() += 1;
            let latency = inner.faults.latency.get(&operation).copied().unwrap_or_default();
            (inner.faults.take(operation), latency, inner.faults.disk_full)
        };
        let spread = u64::try_from(latency.spread.as_micros()).unwrap_or(u64::MAX);
        let more = if spread == 0 { 0 } else { self.world.random_below(spread) };
        let span = latency.least + std::time::Duration::from_micros(more);
        if !span.is_zero() {
            self.world.sleep(span).await;
        }
        match fault {
            None if full && operation == Operation::Prepare => {
                Err(DriverError::Refused("no space left on the node's disk".into()))
            }
            None => Ok(Ok(())),
            Some(Fault::Refused(reason)) => Err(DriverError::Refused(reason)),
            Some(Fault::Failed(reason)) => Err(DriverError::Failed(reason)),
            Some(Fault::DoneButFailed(reason)) => Ok(Err(DriverError::Failed(reason))),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    pub(crate) fn seen(&self, node: &str, guest: GuestId) -> Option<Observed> {
        self.inner.lock().guests.get(&(node.to_owned(), guest)).copied()
    }

    pub(crate) fn set(&self, node: &str, guest: GuestId, to: Option<Observed>) -> Result<(), DriverError> {
        self.inner.lock().set(node, guest, to)
    }

    pub(crate) fn set_network(&self, node: &str, network: NetworkId, ports: Option<Arc<[PortId]>>) {
        let key = (node.to_owned(), network);
        let networks = &mut self.inner.lock().networks;
        match ports {
            Some(ports) => drop(networks.insert(key, ports)),
            None => drop(networks.remove(&key)),
        }
    }

    pub(crate) fn has_network(&self, node: &str, network: NetworkId) -> bool {
        self.inner.lock().networks.contains_key(&(node.to_owned(), network))
    }

    pub(crate) fn started(&self, guest: GuestId, run: Run) {
        let inner = &mut *self.inner.lock();
        if !inner.started.entry(guest).or_default().insert(run) {
            inner.ran_twice.push((guest, run));
        }
    }
}

impl Inner {
    fn set(&mut self, node: &str, guest: GuestId, to: Option<Observed>) -> Result<(), DriverError> {
        let key = (node.to_owned(), guest);
        if self.guests.get(&key).copied() == to {
            return Ok(());
        }
        if let Some(book) = &mut self.book {
            let failed = |error| DriverError::Failed(format!("the fake driver cannot write its book: {error}"));
            book.note(node, guest, to).map_err(failed)?;
        }
        match to {
            Some(observed) => drop(self.guests.insert(key, observed)),
            None => {
                self.guests.remove(&key);
                self.started.remove(&guest);
            }
        }
        Ok(())
    }
}

pub(crate) fn run_of(observed: Observed) -> Option<Run> {
    match observed {
        Observed::Running(run) | Observed::Paused(run) => Some(run),
        Observed::Stopped => None,
    }
}
