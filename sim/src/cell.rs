//! A cell to be harmed: control processes over one store, and agents over fake machines that outlive them.
//!
//! The wiring is that of the binary, with the same constructors; what the binary opens on disks and sockets is simulated
//! here. Killing makes a process inert, breaks its connections, lets its disk forget, and only then drops it. A process
//! that is paused stays what it was; the others take it for dead in time, and one that holds no locked file may be
//! replaced by another of its name while it is out of sight: when it comes back it is a stale owner.

mod acts;
mod blobs;
mod bootstrap;
mod control;
mod layout;
mod member;
mod node;
mod scratch;

use std::collections::BTreeMap;
use std::sync::Arc;

use driver_fake::{FakeMachine, Latency, Operation};
use parking_lot::Mutex;
use servers::nodes::Attendance;
use tokio::sync::mpsc;
use world::{BoxFuture, World};

use crate::disk::SimDisk;
use crate::exec::{Exec, Process};
use crate::net::{KEEPALIVE_NANOS, Net};
use crate::rng::Rng;
use crate::store::StoreDisk;
use crate::store::unsure::Doubts;

use bootstrap::IMAGE_BYTES;

pub use blobs::{BLOBS, ImageDir};
pub(crate) use bootstrap::sha256;
pub use bootstrap::{FLAVOR, IMAGE, INSTANCES, PROJECT, caller};
pub(crate) use control::indexes;
pub use control::{Control, SnapshotError, create_image, tenant};
pub use layout::{Shape, Size, Who};
pub use scratch::Scratch;

/// How long a client waits when nobody answers.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// How a request to the API ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It was answered.
    Told(T),
    /// Nobody was there to take it.
    Down,
    /// The connection broke: it may have happened.
    Broken,
}

struct Machine {
    disk: Arc<SimDisk>,
    nodes: Vec<String>,
    /// Raised when the machine is booted.
    boot: u64,
}

#[derive(Default)]
struct Lives {
    processes: BTreeMap<Who, Process>,
    /// Those whose names others have taken over while they were out of sight.
    strays: Vec<(Who, Process)>,
    /// What answers tenants.
    fronts: BTreeMap<Who, Control>,
    /// Who attends each coordinator.
    attendances: BTreeMap<Who, Arc<Attendance>>,
    nodes: BTreeMap<String, Arc<agent::Node>>,
    /// What the killed were doing: counts by who and what.
    interrupted: BTreeMap<String, u64>,
}

impl Lives {
    /// What `who` had handed out; to be dropped only when it is dead.
    fn take_handles(&mut self, who: Who, nodes: &[String]) -> impl Sized + use<> {
        let nodes: Vec<_> = nodes.iter().filter_map(|name| self.nodes.remove(name)).collect();
        (self.fronts.remove(&who), self.attendances.remove(&who), nodes)
    }
}

/// A cell.
pub struct Cell {
    /// The executor.
    pub exec: Exec,
    /// Its processes.
    pub size: Size,
    /// The world of what is never killed: machines, clients, the scenario itself.
    pub outside: World,
    /// The process of the same.
    pub outside_process: Process,
    /// The network.
    pub net: Arc<Net>,
    /// What stands under the agents.
    pub machine: Arc<FakeMachine>,
    /// Exported disks, on the machines.
    pub scratch: Arc<Scratch>,
    /// The directory of the image service.
    pub blobs: Arc<ImageDir>,
    /// The store's disk.
    pub store: Arc<StoreDisk>,
    /// What becomes of commits whose outcome is not told.
    pub doubts: Arc<Doubts>,
    machines: Mutex<Vec<Machine>>,
    lives: Mutex<Lives>,
    rng: Mutex<Rng>,
    exits: mpsc::UnboundedSender<Who>,
}

fn slow(machine: &FakeMachine) {
    let latency = |least, most| Latency {
        least: std::time::Duration::from_millis(least),
        spread: std::time::Duration::from_millis(most - least),
    };
    machine.faults(|faults| {
        faults.latency = BTreeMap::from([
            (Operation::Find, latency(1, 50)),
            (Operation::Network, latency(1, 10)),
            (Operation::NoNetwork, latency(1, 10)),
            (Operation::Prepare, latency(5, 80)),
            (Operation::Start, latency(5, 150)),
            (Operation::Stop, latency(5, 100)),
            (Operation::Pause, latency(1, 10)),
            (Operation::Absent, latency(5, 80)),
            (Operation::Export, latency(5, 150)),
        ]);
    });
}

impl Cell {
    /// A cell in which nothing runs yet. What ends by itself is told to the receiver.
    pub fn new(exec: &Exec, size: Size) -> (Arc<Cell>, mpsc::UnboundedReceiver<Who>) {
        let (outside_process, outside) = exec.process("outside", &SimDisk::new(exec.seed(), "outside"));
        let machine = FakeMachine::new(&outside);
        slow(&machine);
        let scratch = Scratch::new(exec.seed());
        let exports = Arc::clone(&scratch);
        machine.export_with(Arc::new(move |path: &std::path::Path, content: Vec<u8>| {
            exports.put(path, content.into());
            Ok(())
        }));
        let machines = (0..size.agents).map(|agent| Machine {
            disk: SimDisk::new(exec.seed(), &format!("agent{agent}")),
            nodes: (0..size.nodes).map(|node| format!("n{agent}-{node}")).collect(),
            boot: 1,
        });
        let (exits, exited) = mpsc::unbounded_channel();
        let cell = Cell {
            net: Net::new(exec, outside_process),
            scratch,
            blobs: ImageDir::new(exec.seed(), &sha256(IMAGE_BYTES).to_string(), IMAGE_BYTES),
            store: StoreDisk::new(exec),
            doubts: Arc::default(),
            machines: Mutex::new(machines.collect()),
            lives: Mutex::default(),
            rng: Mutex::new(Rng::new(exec.seed(), "cell")),
            exec: exec.clone(),
            size,
            outside,
            outside_process,
            machine,
            exits,
        };
        (Arc::new(cell), exited)
    }

    /// All processes that a cell has.
    pub fn everybody(&self) -> Vec<Who> {
        let agents = (0..self.size.agents).map(Who::Agent);
        self.size.control.processes().into_iter().chain(agents).collect()
    }

    /// The names of all nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.machines.lock().iter().flat_map(|machine| machine.nodes.clone()).collect()
    }

    /// Every name under which somebody answers calls.
    pub fn names(&self) -> Vec<String> {
        let control = self.size.control.processes();
        control.iter().map(Who::to_string).chain(self.nodes()).collect()
    }

    fn nodes_of(&self, who: Who) -> Vec<String> {
        match who {
            Who::Agent(number) => self.machines.lock()[number].nodes.clone(),
            Who::Store | Who::Api(_) | Who::Coordinator(_) | Who::Scheduler | Who::Liveness(_) => Vec::new(),
        }
    }

    /// Starts `who`, unless it runs.
    pub fn start(self: &Arc<Self>, who: Who) {
        if self.lives.lock().processes.contains_key(&who) {
            return;
        }
        let name = who.to_string();
        self.exec.note(&name, "start", "");
        let cell = Arc::clone(self);
        let (process, main): (Process, BoxFuture<'static, String>) = match who {
            Who::Store | Who::Api(_) | Who::Coordinator(_) | Who::Scheduler | Who::Liveness(_) => {
                let (process, world) = self.exec.process(&name, &SimDisk::new(self.exec.seed(), &name));
                (process, Box::pin(control::run(cell, who, process, world)))
            }
            Who::Agent(number) => {
                let (disk, nodes, boot) = {
                    let machines = self.machines.lock();
                    let machine = &machines[number];
                    (Arc::clone(&machine.disk), machine.nodes.clone(), machine.boot)
                };
                let (process, world) = self.exec.process(&name, &disk);
                (process, Box::pin(node::run(cell, process, world, nodes, format!("boot-{boot}"))))
            }
        };
        self.lives.lock().processes.insert(who, process);
        let cell = Arc::clone(self);
        self.exec.spawn(
            process,
            Box::pin(async move {
                let reason = main.await;
                cell.exec.note(&who.to_string(), "exit", &reason);
                if cell.is(who, process) {
                    let _the_run_has_ended = cell.exits.send(who);
                }
                std::future::pending().await
            }),
        );
    }

    /// Ends `who` as `kill -9` and a power cut together would. Whether it ran.
    pub fn kill(&self, who: Who) -> bool {
        let (process, handles) = {
            let names = self.nodes_of(who);
            let mut lives = self.lives.lock();
            let Some(process) = lives.processes.remove(&who) else { return false };
            (process, lives.take_handles(who, &names))
        };
        let doing = self.doing(who, process);
        self.exec.note(&who.to_string(), "kill", &doing.join(", "));
        {
            let mut lives = self.lives.lock();
            let name = who.to_string();
            let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
            for what in doing {
                *lives.interrupted.entry(format!("{kind} in {what}")).or_default() += 1;
            }
        }
        // From here on nothing that the process holds acts; its tasks are dropped only then.
        self.exec.kill_first(process);
        self.net.died(process);
        match who {
            Who::Store => self.store.crash(),
            Who::Agent(number) => self.disk(number).crash(),
            Who::Api(_) | Who::Coordinator(_) | Who::Scheduler | Who::Liveness(_) => {}
        }
        self.exec.bury(process);
        drop(handles);
        true
    }

    /// Ends `process`, be it the present one of its name or one that was replaced.
    pub fn kill_process(&self, process: Process) {
        let Some(who) = self.who(process) else { return };
        if self.is(who, process) {
            self.kill(who);
            return;
        }
        self.lives.lock().strays.retain(|(_, stray)| *stray != process);
        self.end_stray(who, process);
    }

    /// Holds `who` for a while, as `SIGSTOP` does. Whether it ran.
    pub fn pause(self: &Arc<Self>, who: Who, span_nanos: u64) -> bool {
        let Some(process) = self.lives.lock().processes.get(&who).copied() else { return false };
        if self.exec.is_paused(process) {
            return false;
        }
        self.exec.note(&who.to_string(), "pause", &format!("for {} ms", span_nanos / 1_000_000));
        self.exec.pause(process);
        let cell = Arc::clone(self);
        let go_on = async move {
            let unseen = span_nanos.min(KEEPALIVE_NANOS.0);
            cell.exec.sleep(cell.outside_process, unseen).await;
            if unseen < span_nanos && cell.exec.is_paused(process) {
                cell.net.unreachable(process);
                cell.exec.sleep(cell.outside_process, span_nanos - unseen).await;
            }
            cell.go_on(who, process);
        };
        self.exec.spawn(self.outside_process, Box::pin(go_on));
        true
    }

    fn go_on(&self, who: Who, process: Process) {
        if self.exec.is_paused(process) {
            self.exec.note(&who.to_string(), "resume", if self.is(who, process) { "" } else { "a stale one" });
            self.exec.resume(process);
        }
    }

    /// Starts another process under the name of `who`, which runs on: somebody took it for dead. Whether that can be.
    pub fn replace(self: &Arc<Self>, who: Who) -> bool {
        if !who.can_be_doubled() {
            return false;
        }
        {
            let mut lives = self.lives.lock();
            let Some(process) = lives.processes.remove(&who) else { return false };
            lives.strays.push((who, process));
            // What the stray handed out goes with it: its clients find the new one. Its own tasks hold the rest.
            let handles = lives.take_handles(who, &[]);
            drop(lives);
            drop(handles);
        }
        self.exec.note(&who.to_string(), "replace", "it is taken for dead");
        self.start(who);
        true
    }

    /// Ends those whose names others have taken over.
    pub fn end_strays(&self) {
        let strays = std::mem::take(&mut self.lives.lock().strays);
        strays.into_iter().for_each(|(who, process)| self.end_stray(who, process));
    }

    fn end_stray(&self, who: Who, process: Process) {
        self.exec.note(&who.to_string(), "kill", "the stale one");
        self.exec.kill_first(process);
        self.net.died(process);
        self.exec.bury(process);
    }

    fn is(&self, who: Who, process: Process) -> bool {
        self.lives.lock().processes.get(&who) == Some(&process)
    }

    /// Which process of the cell this is; the stale ones too.
    pub fn who(&self, process: Process) -> Option<Who> {
        let lives = self.lives.lock();
        let present = lives.processes.iter().map(|(who, process)| (*who, *process));
        present.chain(lives.strays.iter().copied()).find(|(_, of)| *of == process).map(|(who, _)| who)
    }

    fn doing(&self, who: Who, process: Process) -> Vec<String> {
        let mut doing = self.net.busy_with(process);
        match who {
            Who::Store if self.store.is_busy() => doing.push("store sync".into()),
            Who::Agent(number) if self.disk(number).is_busy() => doing.push("log sync".into()),
            Who::Store | Who::Agent(_) | Who::Api(_) | Who::Coordinator(_) | Who::Scheduler | Who::Liveness(_) => {}
        }
        doing
    }

    /// Boots the machine under an agent: its guests stop, its networks are gone.
    pub fn boot(&self, number: usize) {
        self.kill(Who::Agent(number));
        let nodes = {
            let machine = &mut self.machines.lock()[number];
            machine.boot += 1;
            machine.nodes.clone()
        };
        self.exec.note(&Who::Agent(number).to_string(), "boot", "the machine loses power");
        nodes.iter().for_each(|node| self.machine.boot(node));
    }

    /// The disk of an agent's machine.
    pub fn disk(&self, number: usize) -> Arc<SimDisk> {
        Arc::clone(&self.machines.lock()[number].disk)
    }

    /// Ends everybody, and starts them again: some things that were cut off are settled only then.
    pub fn restart(self: &Arc<Self>) {
        for who in self.everybody() {
            self.kill(who);
            self.start(who);
        }
    }

    /// What did not hold while it ran: the books at every commit, and that nobody acts under a stale epoch.
    pub fn noticed(&self) -> Vec<String> {
        let disks: Vec<_> = self.machines.lock().iter().map(|machine| Arc::clone(&machine.disk)).collect();
        let nodes = disks.iter().filter_map(|disk| disk.stale());
        self.store.unbalanced().into_iter().chain(self.store.stale()).chain(nodes).collect()
    }

    /// Nothing fails or stands still any more.
    pub fn heal(&self) {
        self.end_strays();
        let present: Vec<_> = self.lives.lock().processes.iter().map(|(who, process)| (*who, *process)).collect();
        present.into_iter().for_each(|(who, process)| self.go_on(who, process));
        self.net.heal();
        self.store.heal();
        self.doubts.heal();
        self.blobs.heal();
        self.machines.lock().iter().for_each(|machine| machine.disk.heal());
        self.machine.faults(|faults| {
            faults.next.clear();
            faults.disk_full = false;
        });
    }

    /// One of the processes that answer tenants, drawn from the seed.
    fn front(&self, which: impl Fn(&Control) -> bool) -> Option<Control> {
        let lives = self.lives.lock();
        let fronts: Vec<&Control> = lives.fronts.values().filter(|control| which(control)).collect();
        (!fronts.is_empty()).then(|| (*self.rng.lock().pick(&fronts)).clone())
    }

    /// Nodes that do not attend each coordinator, and coordinators that do not run.
    pub fn absent(&self) -> Vec<String> {
        let lives = self.lives.lock();
        let mut absent = Vec::new();
        for who in self.size.control.processes() {
            if !lives.processes.contains_key(&who) {
                absent.push(format!("{who} does not run"));
            }
        }
        for who in self.size.control.players(pki::Role::Coordinator) {
            let attending = lives.attendances.get(&who).map(|attendance| attendance.all()).unwrap_or_default();
            let missing = self.nodes().into_iter().filter(|node| !attending.contains(node));
            absent.extend(missing.map(|node| format!("{node} does not attend {who}")));
        }
        for who in self.size.control.players(pki::Role::Api) {
            if !lives.fronts.contains_key(&who) {
                absent.push(format!("{who} does not answer"));
            }
        }
        absent
    }

    /// The nodes that run now.
    pub fn running_nodes(&self) -> BTreeMap<String, Arc<agent::Node>> {
        self.lives.lock().nodes.clone()
    }

    /// What the killed were doing, with counts.
    pub fn interrupted(&self) -> BTreeMap<String, u64> {
        self.lives.lock().interrupted.clone()
    }

    /// Sends a request to the API and waits for its end, as a client over a network would.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(Control) -> BoxFuture<'static, T> + Send,
    ) -> Answer<T> {
        self.ask_one_of(|_| true, work).await
    }

    /// The same of one that has the image service.
    pub async fn ask_images<T: Send + 'static>(
        &self,
        work: impl FnOnce(Control, Arc<images::Images>) -> BoxFuture<'static, T> + Send,
    ) -> Answer<T> {
        let with = |control: Control| {
            let images = control.images.clone().expect("only those that have it are asked");
            work(control, images)
        };
        self.ask_one_of(|control| control.images.is_some(), with).await
    }

    async fn ask_one_of<T: Send + 'static>(
        &self,
        which: impl Fn(&Control) -> bool + Send,
        work: impl FnOnce(Control) -> BoxFuture<'static, T> + Send,
    ) -> Answer<T> {
        self.travel().await;
        let Some(control) = self.front(which) else {
            self.outside.sleep(RETRY_PAUSE).await;
            return Answer::Down;
        };
        let process = control.process;
        let work = work(control);
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.exec.spawn(process, Box::pin(async move { drop(reply.send(work.await)) }));
        let Ok(value) = answer.await else {
            self.travel().await;
            return Answer::Broken;
        };
        self.travel().await;
        // The answer may have been lost with its sender.
        if !self.exec.is_alive(process) && self.rng.lock().chance(1, 2) {
            return Answer::Broken;
        }
        Answer::Told(value)
    }

    async fn travel(&self) {
        let span = self.rng.lock().span_nanos(20, 3000);
        self.exec.sleep(self.outside_process, span).await;
    }

    fn arrived(&self, who: Who, control: Control) {
        if self.is(who, control.process) {
            self.lives.lock().fronts.insert(who, control);
        }
    }

    fn attended(&self, who: Who, process: Process, attendance: Arc<Attendance>) {
        if self.is(who, process) {
            self.lives.lock().attendances.insert(who, attendance);
        }
    }

    fn node_runs(&self, name: &str, node: &Arc<agent::Node>) {
        self.lives.lock().nodes.insert(name.to_owned(), Arc::clone(node));
    }
}
