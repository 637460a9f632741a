//! What stands behind a simulated process's `World`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use world::{BoxFuture, Disk, Host, Mono, Wall};

use super::{Exec, Inner, Process};
use crate::disk::{ProcessDisk, SimDisk};
use crate::rng::Rng;

/// A process's monotonic clock shows this at its start, so that "a moment ago" can be expressed.
const CLOCK_START: u64 = 1_000_000_000;
/// The wall clock at the start of every run, in microseconds.
const WALL_START: u64 = 1_800_000_000_000_000;

pub(super) struct SimHost {
    exec: Exec,
    process: Process,
    name: String,
    /// When the process began.
    start: u64,
    rng: Mutex<Rng>,
    disk: Arc<ProcessDisk>,
}

impl SimHost {
    pub(super) fn new(exec: &Exec, process: Process, name: &str, start: u64, disk: &Arc<SimDisk>) -> SimHost {
        SimHost {
            exec: exec.clone(),
            process,
            name: name.to_owned(),
            start,
            rng: Mutex::new(Rng::new(exec.seed(), &format!("{name} {}", process.0))),
            disk: Arc::new(ProcessDisk::new(exec, process, disk)),
        }
    }
}

impl Host for SimHost {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.exec.spawn(self.process, task);
    }

    fn now(&self) -> Mono {
        Mono::from_nanos(CLOCK_START + self.exec.now() - self.start)
    }

    fn wall(&self) -> Wall {
        let skew = self.exec.wall_skew(&self.name);
        Wall::from_micros((WALL_START + self.exec.now() / 1000).saturating_add_signed(skew))
    }

    fn sleep_until(&self, when: Mono) -> BoxFuture<'static, ()> {
        let when = when.as_nanos().saturating_sub(CLOCK_START).saturating_add(self.start);
        Box::pin(Sleep::new(&self.exec.inner, self.process, when))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.rng.lock().fill(bytes);
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk) as Arc<dyn Disk>
    }
}

/// Completes at a moment of simulated time; in a dead process never.
pub struct Sleep {
    inner: Arc<Inner>,
    process: Process,
    when: u64,
    key: Option<(u64, u64)>,
}

impl Sleep {
    pub(super) fn new(inner: &Arc<Inner>, process: Process, when: u64) -> Sleep {
        Sleep { inner: Arc::clone(inner), process, when, key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let inner = Arc::clone(&self.inner);
        let mut state = inner.state.lock();
        if !state.processes.contains_key(&self.process) {
            return Poll::Pending;
        }
        if let Some(key) = self.key.take() {
            state.timers.remove(&key);
        }
        if state.now >= self.when {
            return Poll::Ready(());
        }
        state.next_timer += 1;
        let key = (self.when, state.next_timer);
        state.timers.insert(key, cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.inner.state.lock().timers.remove(&key);
        }
    }
}
