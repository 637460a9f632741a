//! One thread, simulated time, and an order of tasks that comes from the seed.
//!
//! Every task belongs to a [`Process`]: one life of one simulated program. The next task to run is drawn from those that
//! can; when none can, time jumps to the next timer. [`Exec::kill`] ends a process as `kill -9` does: first whatever it
//! holds on the world is made inert, then its tasks are dropped. Destructors then run, because Rust leaves no choice, but
//! nothing that they do reaches anybody. [`Exec::pause`] holds a process as `SIGSTOP` does: its tasks stand still while
//! everybody else's time goes on.
//!
//! A run that does not end is a finding, not a wait: steps and simulated time are bounded.

mod host;
pub mod points;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use world::{BoxFuture, World};

use crate::disk::SimDisk;
use crate::rng::Rng;

pub use host::Sleep;
use task::{Ready, TaskWaker};

/// One life of one simulated program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(u64);

/// What a run may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Polls of tasks.
    pub steps: u64,
    /// Simulated nanoseconds.
    pub nanos: u64,
}

/// A run did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// No task can run and no timer is set.
    #[error("nothing can happen any more, and the end is not reached")]
    Deadlock,
    /// Too many steps.
    #[error("not at the end after {0} steps")]
    Steps(u64),
    /// Too much simulated time.
    #[error("not at the end after {0} simulated seconds")]
    Time(u64),
}

struct Task {
    process: Process,
    /// Taken out while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
}

pub(crate) struct State {
    now: u64,
    rng: Rng,
    steps: u64,
    /// Over every choice so far: two runs that differ anywhere differ here.
    fingerprint: u64,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    timers: BTreeMap<(u64, u64), Waker>,
    next_timer: u64,
    processes: BTreeMap<Process, Life>,
    /// Killed, and not yet dropped.
    dead: BTreeMap<Process, Life>,
    /// Held, with their tasks that could run.
    paused: BTreeMap<Process, Vec<u64>>,
    pub(crate) hook: Option<points::Hook>,
    /// By how many microseconds the wall clocks of machines are wrong, by the name of what runs there.
    skews: BTreeMap<String, i64>,
    next_process: u64,
    lines: Vec<String>,
    echo: bool,
}

struct Life {
    name: String,
    tasks: BTreeSet<u64>,
}

pub(crate) struct Inner {
    pub(crate) seed: u64,
    pub(crate) state: Mutex<State>,
    ready: Arc<Mutex<Ready>>,
}

/// The executor. Cloning shares it.
#[derive(Clone)]
pub struct Exec {
    pub(crate) inner: Arc<Inner>,
}

impl Exec {
    /// An executor whose every choice comes from `seed`. `echo`: events are printed as they happen.
    pub fn new(seed: u64, echo: bool) -> Exec {
        let state = State {
            now: 0,
            rng: Rng::new(seed, "scheduling"),
            steps: 0,
            fingerprint: seed,
            tasks: BTreeMap::new(),
            next_task: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            processes: BTreeMap::new(),
            dead: BTreeMap::new(),
            paused: BTreeMap::new(),
            hook: None,
            skews: BTreeMap::new(),
            next_process: 0,
            lines: Vec::new(),
            echo,
        };
        Exec { inner: Arc::new(Inner { seed, state: Mutex::new(state), ready: Arc::default() }) }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// A new process, and its world with `disk` in it.
    pub fn process(&self, name: &str, disk: &Arc<SimDisk>) -> (Process, World) {
        let mut state = self.inner.state.lock();
        state.next_process += 1;
        let process = Process(state.next_process);
        state.processes.insert(process, Life { name: name.to_owned(), tasks: BTreeSet::new() });
        let host = host::SimHost::new(self, process, name, state.now, disk);
        drop(state);
        (process, World::new(Arc::new(host)))
    }

    /// Whether `process` has not been killed.
    pub fn is_alive(&self, process: Process) -> bool {
        self.inner.state.lock().processes.contains_key(&process)
    }

    /// Lets `task` run in `process`; in a dead one it never runs.
    pub fn spawn(&self, process: Process, task: BoxFuture<'static, ()>) {
        let mut guard = self.inner.state.lock();
        let state = &mut *guard;
        let Some(life) = state.processes.get_mut(&process) else {
            drop(guard);
            drop(task);
            return;
        };
        state.next_task += 1;
        let id = state.next_task;
        life.tasks.insert(id);
        let waker = TaskWaker::waker(id, &self.inner.ready);
        state.tasks.insert(id, Task { process, future: Some(task), waker: waker.clone() });
        drop(guard);
        waker.wake();
    }

    /// Ends `process`: it can do nothing from here on, and then its tasks are dropped.
    pub fn kill(&self, process: Process) {
        self.kill_first(process);
        self.bury(process);
    }

    /// Holds `process` until [`Exec::resume`]: none of its tasks runs. Its clocks go on.
    pub fn pause(&self, process: Process) {
        let mut state = self.inner.state.lock();
        if state.processes.contains_key(&process) {
            state.paused.entry(process).or_default();
        }
    }

    /// Lets a paused process go on.
    pub fn resume(&self, process: Process) {
        let parked = self.inner.state.lock().paused.remove(&process).unwrap_or_default();
        self.inner.ready.lock().queue.extend(parked);
    }

    /// Whether `process` is paused.
    pub fn is_paused(&self, process: Process) -> bool {
        self.inner.state.lock().paused.contains_key(&process)
    }

    /// The first half of [`Exec::kill`]: whatever the process holds is inert from here on.
    pub fn kill_first(&self, process: Process) {
        let mut state = self.inner.state.lock();
        state.paused.remove(&process);
        if let Some(life) = state.processes.remove(&process) {
            state.dead.insert(process, life);
        }
    }

    /// The second half: its tasks are dropped.
    pub fn bury(&self, process: Process) {
        let dropped: Vec<Task> = {
            let mut state = self.inner.state.lock();
            let Some(life) = state.dead.remove(&process) else { return };
            life.tasks.iter().filter_map(|id| state.tasks.remove(id)).collect()
        };
        drop(dropped);
    }

    /// Ends everything; without it the tasks and the executor would keep each other for ever.
    pub fn end(&self) {
        self.set_hook(None);
        let all: Vec<Process> = self.inner.state.lock().processes.keys().copied().collect();
        all.into_iter().for_each(|process| self.kill(process));
    }

    /// Simulated nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.inner.state.lock().now
    }

    /// Lets the wall clock of whatever runs under `name` be wrong by so many microseconds.
    pub fn skew_wall(&self, name: &str, micros: i64) {
        self.inner.state.lock().skews.insert(name.to_owned(), micros);
    }

    fn wall_skew(&self, name: &str) -> i64 {
        self.inner.state.lock().skews.get(name).copied().unwrap_or(0)
    }

    /// Polls so far.
    pub fn steps(&self) -> u64 {
        self.inner.state.lock().steps
    }

    /// A number that differs if any choice of the run did.
    pub fn fingerprint(&self) -> u64 {
        self.inner.state.lock().fingerprint
    }

    /// Completes `span_nanos` later, unless `process` has died.
    pub fn sleep(&self, process: Process, span_nanos: u64) -> Sleep {
        let when = self.now().saturating_add(span_nanos);
        Sleep::new(&self.inner, process, when)
    }

    /// Writes one line of the event log.
    pub fn note(&self, who: &str, what: &str, detail: &str) {
        let mut state = self.inner.state.lock();
        let (seconds, micros) = (state.now / 1_000_000_000, state.now / 1000 % 1_000_000);
        let line = format!("{seconds:>6}.{micros:06}  {who:<9}  {what:<9}  {}", short(detail));
        if state.echo {
            println!("{line}");
        }
        state.lines.push(line);
    }

    /// The event log so far.
    pub fn lines(&self) -> Vec<String> {
        self.inner.state.lock().lines.clone()
    }

    /// Runs until `work`, in `process`, has ended.
    ///
    /// # Errors
    /// If it does not end within `limits`.
    pub fn block_on<T: Send + 'static>(
        &self,
        process: Process,
        limits: Limits,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stuck> {
        let slot = Arc::new(Mutex::new(None));
        let result = Arc::clone(&slot);
        self.spawn(
            process,
            Box::pin(async move {
                let value = work.await;
                *result.lock() = Some(value);
            }),
        );
        loop {
            if let Some(value) = slot.lock().take() {
                return Ok(value);
            }
            if !self.step() {
                return Err(Stuck::Deadlock);
            }
            let state = self.inner.state.lock();
            if state.steps > limits.steps {
                return Err(Stuck::Steps(state.steps));
            }
            if state.now > limits.nanos {
                return Err(Stuck::Time(state.now / 1_000_000_000));
            }
        }
    }

    /// Polls one task, or lets time pass to the next timer. False when nothing can ever happen again.
    fn step(&self) -> bool {
        let Some(id) = self.choose() else { return self.jump() };
        let (mut future, waker) = {
            let mut state = self.inner.state.lock();
            let state = &mut *state;
            let Some(task) = state.tasks.get_mut(&id) else { return true };
            if let Some(parked) = state.paused.get_mut(&task.process) {
                // It stays woken, so that it is parked once.
                parked.push(id);
                return true;
            }
            let Some(future) = task.future.take() else { return true };
            (future, task.waker.clone())
        };
        self.inner.ready.lock().woken.remove(&id);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = self.inner.state.lock();
        state.steps += 1;
        let done = match polled {
            Poll::Ready(()) => {
                let task = state.tasks.remove(&id);
                if let Some(life) = task.as_ref().and_then(|task| state.processes.get_mut(&task.process)) {
                    life.tasks.remove(&id);
                }
                task
            }
            Poll::Pending => {
                if let Some(task) = state.tasks.get_mut(&id) {
                    task.future = Some(future);
                    return true;
                }
                None
            }
        };
        // What was polled, or was killed by what it did, is dropped without the lock: its destructors may need it.
        drop(state);
        drop(done);
        true
    }

    fn choose(&self) -> Option<u64> {
        let mut state = self.inner.state.lock();
        let mut ready = self.inner.ready.lock();
        if ready.queue.is_empty() {
            return None;
        }
        let index = state.rng.index(ready.queue.len());
        let id = ready.queue.swap_remove(index);
        state.fingerprint = (state.fingerprint.rotate_left(5) ^ id ^ state.now).wrapping_mul(0x0000_0100_0000_01b3);
        Some(id)
    }

    fn jump(&self) -> bool {
        let due: Vec<Waker> = {
            let mut state = self.inner.state.lock();
            let Some((when, _)) = state.timers.keys().next().copied() else { return false };
            state.now = state.now.max(when);
            let behind = (state.now + 1, 0);
            let later = state.timers.split_off(&behind);
            std::mem::replace(&mut state.timers, later).into_values().collect()
        };
        due.into_iter().for_each(Waker::wake);
        true
    }

    /// The name that `process` was given, if it lives.
    pub fn name(&self, process: Process) -> Option<String> {
        self.inner.state.lock().processes.get(&process).map(|life| life.name.clone())
    }
}

/// `detail` with the first eight digits of each UUID: enough to tell things of one run apart.
fn short(detail: &str) -> String {
    let is_uuid = |bytes: &[u8]| {
        let shape = |(index, byte): (usize, &u8)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        bytes.get(..36).is_some_and(|bytes| bytes.iter().enumerate().all(shape))
    };
    let (mut out, mut skip) = (String::with_capacity(detail.len()), 0);
    for (index, letter) in detail.char_indices() {
        if index < skip {
            continue;
        }
        if is_uuid(&detail.as_bytes()[index..]) {
            out.push_str(&detail[index..index + 8]);
            skip = index + 36;
        } else {
            out.push(letter);
        }
    }
    out
}
