//! The seam between Mainstay and everything outside it: time, randomness, tasks and the local disk.
//!
//! Every shell is handed one [`World`] and reaches the outside through nothing else. `main` hands out a world that is
//! the operating system ([`os::OsHost`]); the simulator hands out one in which time jumps from event to event, tasks
//! run in an order drawn from a seed, and a disk forgets what was not synced. Code that takes a `World` cannot tell
//! which one it has, so a whole cell with its faults runs in one process and repeats itself byte for byte.
//!
//! Peers, the fifth part of the seam, are handed out by the `rpc` crate, which owns the type of a connection.
//!
//! Deliberately absent: sockets, the file system at large, and environment variables.

mod disk;
pub mod frames;
pub mod os;
mod time;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use disk::{Disk, DiskError, Log, Tally};
pub use time::{Mono, Wall};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What stands behind a [`World`]: the operating system, or a simulation.
pub trait Host: Send + Sync {
    /// Runs `task` until it ends or the process does. `name` is for people: logs, dumps, the simulator's event log.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
    /// The monotonic clock.
    fn now(&self) -> Mono;
    /// The wall clock. It may jump; nothing is ordered by it.
    fn wall(&self) -> Wall;
    /// Completes at `when` or soon after.
    fn sleep_until(&self, when: Mono) -> BoxFuture<'static, ()>;
    /// Fills `bytes` with randomness that is fit for secrets (in the simulator: drawn from the seed).
    fn fill_random(&self, bytes: &mut [u8]);
    /// The disk of this process.
    fn disk(&self) -> Arc<dyn Disk>;
}

/// The handle through which a shell reaches the outside. Cloning is cheap.
#[derive(Clone)]
pub struct World {
    host: Arc<dyn Host>,
}

/// The time that [`World::timeout`] allowed has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no result in time")]
pub struct Elapsed;

impl World {
    /// A world backed by `host`.
    pub fn new(host: Arc<dyn Host>) -> World {
        World { host }
    }

    /// Runs `task` beside the caller; it ends with the process at the latest.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.host.spawn(name, Box::pin(task));
    }

    /// The monotonic clock of this process.
    pub fn now(&self) -> Mono {
        self.host.now()
    }

    /// The wall clock: for people and for certificates, never for order.
    pub fn wall(&self) -> Wall {
        self.host.wall()
    }

    /// Waits for `span`.
    pub fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.host.sleep_until(self.now() + span)
    }

    /// Waits until `when`.
    pub fn sleep_until(&self, when: Mono) -> BoxFuture<'static, ()> {
        self.host.sleep_until(when)
    }

    /// Runs `work`, but not beyond `when`: then it is dropped where it stands.
    pub async fn timeout_at<T>(&self, when: Mono, work: impl Future<Output = T> + Send) -> Result<T, Elapsed> {
        let work = std::pin::pin!(work);
        match futures_util::future::select(work, self.host.sleep_until(when)).await {
            futures_util::future::Either::Left((value, _)) => Ok(value),
            futures_util::future::Either::Right(((), _)) => Err(Elapsed),
        }
    }

    /// Runs `work` for at most `span`.
    pub async fn timeout<T>(&self, span: Duration, work: impl Future<Output = T> + Send) -> Result<T, Elapsed> {
        self.timeout_at(self.now() + span, work).await
    }

    /// Random bytes, fit for keys and tokens.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.host.fill_random(&mut bytes);
        bytes
    }

    /// A random number in `0..below`. Its bias is below 2⁻³² for the small ranges it is meant for.
    ///
    /// # Panics
    /// If `below` is zero: there is no such number.
    pub fn random_below(&self, below: u64) -> u64 {
        assert!(below > 0, "no number is below zero");
        u64::from_le_bytes(self.random()) % below
    }

    /// The disk of this process.
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.host.disk()
    }
}
