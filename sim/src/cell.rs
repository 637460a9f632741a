//! A cell to be killed: one control process over one store, and agents over fake machines that outlive them.
//!
//! The wiring is that of the binary, with the same constructors; what the binary opens on disks and sockets is simulated
//! here. Killing makes a process inert, breaks its connections, lets its disk forget, and only then drops it.

mod bootstrap;
mod control;
mod node;

use std::collections::BTreeMap;
use std::sync::Arc;

use driver_fake::{FakeMachine, Latency, Operation};
use parking_lot::Mutex;
use pki::{Identity, Role};
use rpc::Target;
use tokio::sync::mpsc;
use world::{BoxFuture, World};

use crate::disk::SimDisk;
use crate::exec::{Exec, Process};
use crate::net::Net;
use crate::rng::Rng;
use crate::store::StoreDisk;

pub use bootstrap::{FLAVOR, IMAGE, PROJECT, caller};
pub use control::Control;
pub(crate) use control::indexes;

/// The name of the control process.
pub const CONTROL: &str = "control";

/// How long a client waits when nobody answers.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// How large a cell is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Agent processes.
    pub agents: usize,
    /// Nodes of each.
    pub nodes: usize,
}

/// A process of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The control process.
    Control,
    /// The agent process with this number.
    Agent(usize),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Control => f.write_str(CONTROL),
            Who::Agent(number) => write!(f, "agent{number}"),
        }
    }
}

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
    control: Option<Control>,
    nodes: BTreeMap<String, Arc<agent::Node>>,
    /// What the killed were doing: counts by who and what.
    interrupted: BTreeMap<String, u64>,
}

/// A cell.
pub struct Cell {
    /// The executor.
    pub exec: Exec,
    /// The world of what is never killed: machines, clients, the scenario itself.
    pub outside: World,
    /// The process of the same.
    pub outside_process: Process,
    /// The network.
    pub net: Arc<Net>,
    /// What stands under the agents.
    pub machine: Arc<FakeMachine>,
    /// The store's disk.
    pub store: Arc<StoreDisk>,
    machines: Mutex<Vec<Machine>>,
    lives: Mutex<Lives>,
    rng: Mutex<Rng>,
    exits: mpsc::UnboundedSender<Who>,
}

fn identity(role: Role, name: &str) -> Identity {
    Identity { cell: "cell.sim".into(), role, name: name.into() }
}

fn target(role: Role) -> Target {
    Target { role, name: CONTROL.into(), endpoint: String::new() }
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
        ]);
    });
}

impl Cell {
    /// A cell in which nothing runs yet. What ends by itself is told to the receiver.
    pub fn new(exec: &Exec, size: Size) -> (Arc<Cell>, mpsc::UnboundedReceiver<Who>) {
        let (outside_process, outside) = exec.process("outside", &SimDisk::new(exec.seed(), "outside"));
        let machine = FakeMachine::new(&outside);
        slow(&machine);
        let machines = (0..size.agents).map(|agent| Machine {
            disk: SimDisk::new(exec.seed(), &format!("agent{agent}")),
            nodes: (0..size.nodes).map(|node| format!("n{agent}-{node}")).collect(),
            boot: 1,
        });
        let (exits, exited) = mpsc::unbounded_channel();
        let cell = Cell {
            net: Net::new(exec, outside_process),
            store: StoreDisk::new(exec),
            machines: Mutex::new(machines.collect()),
            lives: Mutex::default(),
            rng: Mutex::new(Rng::new(exec.seed(), "cell")),
            exec: exec.clone(),
            outside,
            outside_process,
            machine,
            exits,
        };
        (Arc::new(cell), exited)
    }

    /// All processes that a cell has.
    pub fn everybody(&self) -> Vec<Who> {
        let agents = (0..self.machines.lock().len()).map(Who::Agent);
        std::iter::once(Who::Control).chain(agents).collect()
    }

    /// The names of all nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.machines.lock().iter().flat_map(|machine| machine.nodes.clone()).collect()
    }

    /// Starts `who`, unless it runs.
    pub fn start(self: &Arc<Self>, who: Who) {
        if self.lives.lock().processes.contains_key(&who) {
            return;
        }
        self.exec.note(&who.to_string(), "start", "");
        let cell = Arc::clone(self);
        let (process, main): (Process, BoxFuture<'static, String>) = match who {
            Who::Control => {
                let (process, world) = self.exec.process(CONTROL, &SimDisk::new(self.exec.seed(), CONTROL));
                (process, Box::pin(control::run(cell, process, world)))
            }
            Who::Agent(number) => {
                let (disk, nodes, boot) = {
                    let machines = self.machines.lock();
                    let machine = &machines[number];
                    (Arc::clone(&machine.disk), machine.nodes.clone(), machine.boot)
                };
                let (process, world) = self.exec.process(&who.to_string(), &disk);
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
                let _the_run_has_ended = cell.exits.send(who);
                std::future::pending().await
            }),
        );
    }

    /// Ends `who` as `kill -9` and a power cut together would. Whether it ran.
    pub fn kill(&self, who: Who) -> bool {
        let (process, control, nodes) = {
            let mut lives = self.lives.lock();
            let Some(process) = lives.processes.remove(&who) else { return false };
            let control = if who == Who::Control { lives.control.take() } else { None };
            let names = match who {
                Who::Control => Vec::new(),
                Who::Agent(number) => self.machines.lock()[number].nodes.clone(),
            };
            let nodes: Vec<_> = names.iter().filter_map(|name| lives.nodes.remove(name)).collect();
            (process, control, nodes)
        };
        let doing = self.doing(who, process);
        self.exec.note(&who.to_string(), "kill", &doing.join(", "));
        {
            let mut lives = self.lives.lock();
            let kind = if who == Who::Control { "control" } else { "agent" };
            for what in doing {
                *lives.interrupted.entry(format!("{kind} in {what}")).or_default() += 1;
            }
        }
        // From here on nothing that the process holds acts; its tasks are dropped only then.
        self.exec.kill_first(process);
        self.net.died(process);
        match who {
            Who::Control => self.store.crash(),
            Who::Agent(number) => self.machines.lock()[number].disk.crash(),
        }
        self.exec.bury(process);
        drop((control, nodes));
        true
    }

    fn doing(&self, who: Who, process: Process) -> Vec<String> {
        let mut doing = self.net.busy_with(process);
        let syncing = match who {
            Who::Control => self.store.is_busy(),
            Who::Agent(number) => self.machines.lock()[number].disk.is_busy(),
        };
        if syncing {
            doing.push(if who == Who::Control { "store sync".into() } else { "log sync".into() });
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

    /// Nothing fails or stands still any more.
    pub fn heal(&self) {
        self.net.heal();
        self.store.heal();
        self.machines.lock().iter().for_each(|machine| machine.disk.heal());
        self.machine.faults(|faults| {
            faults.next.clear();
            faults.disk_full = false;
        });
    }

    /// The control process, once it answers.
    pub fn control(&self) -> Option<Control> {
        self.lives.lock().control.clone()
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
        self.travel().await;
        let Some(control) = self.control() else {
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

    fn arrived(&self, process: Process, control: Control) {
        let mut lives = self.lives.lock();
        if lives.processes.get(&Who::Control) == Some(&process) {
            lives.control = Some(control);
        }
    }

    fn node_runs(&self, name: &str, node: &Arc<agent::Node>) {
        self.lives.lock().nodes.insert(name.to_owned(), Arc::clone(node));
    }
}
