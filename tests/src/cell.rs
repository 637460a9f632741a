//! A cell: `mainstay dev` in a directory of its own, with the fake driver or with real guests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, free_port, signal};
use crate::{Client, Door, Machine, SmallDisk, binary, records, until};

const NODES_UP_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// How long somebody without patience waits for an answer.
const IMPATIENCE: Duration = Duration::from_secs(5);

/// One entry of the API's table of routes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The method.
    pub method: String,
    /// The path, its parameters in braces.
    pub path: String,
    /// Whose errors it speaks: `Nova`, `Neutron`, …
    pub dialect: String,
}

/// A cell. Everything that it started ends when it is dropped.
pub struct Cell {
    dev: Option<Process>,
    /// They go before the directory that they are mounted in.
    disks: BTreeMap<String, SmallDisk>,
    dir: TempDir,
    port: u16,
    nodes: usize,
    real: bool,
    options: Vec<String>,
    environment: Vec<(String, OsString)>,
}

impl Cell {
    /// A new cell with this many fake nodes, all of them there.
    pub fn start(nodes: usize) -> Cell {
        let cell = Cell::just_ready(nodes);
        cell.all_nodes_up();
        cell
    }

    /// A new cell with this many fake nodes, at the moment at which it says that it is ready.
    pub fn just_ready(nodes: usize) -> Cell {
        let mut cell = Cell::new(nodes, false);
        cell.run();
        cell
    }

    /// A new cell of fake nodes that does not run yet.
    pub fn of_fakes(nodes: usize) -> Cell {
        Cell::new(nodes, false)
    }

    /// A new cell with one node that runs real guests. It does not run yet.
    ///
    /// # Panics
    /// Without root: what these cells are about cannot be had without.
    pub fn of_guests() -> Cell {
        Cell::of_guests_on(1)
    }

    /// The same with several nodes, which share this machine.
    ///
    /// # Panics
    /// As [`Cell::of_guests`].
    pub fn of_guests_on(nodes: usize) -> Cell {
        assert!(rustix::process::geteuid().is_root(), "real guests with real networks are tested as root");
        Cell::new(nodes, true)
    }

    fn new(nodes: usize, real: bool) -> Cell {
        let dir = tempfile::Builder::new().prefix("mainstay-cell-").tempdir().expect("a directory for a cell");
        // What a guest's user is to run may lie in it; the cell's home below is its owner's alone.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("the directory is ours");
        let (options, environment) = (Vec::new(), Vec::new());
        Cell { dev: None, disks: BTreeMap::new(), dir, port: free_port(), nodes, real, options, environment }
    }

    /// Gives `mainstay dev` these further words at each start from now on, in place of those given before.
    pub fn set_options(&mut self, words: &[&str]) {
        self.options = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Lets programs in `dir` be found before others of their name.
    pub fn search_first(&mut self, dir: &Path) {
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(dir.to_path_buf()).chain(std::env::split_paths(&rest));
        let path = std::env::join_paths(dirs).expect("the directory's name has no colon");
        self.environment.push(("PATH".into(), path));
    }

    /// Gives the node of a cell that does not run yet a disk of its own.
    pub fn give_disk(&mut self, mebibytes: u64) {
        self.give_disk_at("agents/node-1", mebibytes);
    }

    /// Gives a directory below the home of a cell that does not run yet a disk of its own.
    pub fn give_disk_at(&mut self, sub: &str, mebibytes: u64) {
        let disk = SmallDisk::mount(&self.path(sub), mebibytes);
        self.disks.insert(sub.to_owned(), disk);
    }

    /// The node's own disk.
    ///
    /// # Panics
    /// If it has none.
    pub fn disk(&self) -> &SmallDisk {
        self.disk_at("agents/node-1").expect("the node was given a disk")
    }

    /// The disk of a directory below the home, if it was given one.
    pub fn disk_at(&self, sub: &str) -> Option<&SmallDisk> {
        self.disks.get(sub)
    }

    /// Where the test may put files of its own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The cell's directory.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Where a process logs.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// Where its public API answers.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Starts `mainstay dev` and waits until it is ready.
    pub fn run(&mut self) {
        let home = self.home().display().to_string();
        let listen = format!("127.0.0.1:{}", self.port);
        let nodes = self.nodes.to_string();
        let driver = if self.real { "qemu" } else { "fake" };
        let words = ["dev", "--home", &home, "--driver", driver, "--nodes", &nodes, "--listen", &listen];
        let words = words.into_iter().map(str::to_owned).chain(self.options.iter().cloned());
        let words: Vec<String> = words.collect();
        let mut dev = Process::start_within(&words, &self.log("dev"), &self.environment);
        let line = dev.ready();
        assert_eq!(line, format!("ready {}", self.url()), "what it says when it is ready");
        self.dev = Some(dev);
    }

    /// Waits until all nodes attend.
    pub fn all_nodes_up(&self) {
        until("all nodes are up", NODES_UP_WITHIN, || {
            let nodes = self.try_operator(&["node", "list"])?;
            let up = nodes.as_array().into_iter().flatten().filter(|node| node["up"] == true).count();
            if up == self.nodes { Ok(()) } else { Err(format!("{up} of {}: {nodes}", self.nodes)) }
        });
    }

    /// `kill -9` of `mainstay dev`. Its agents end by themselves.
    pub fn kill(&mut self) {
        if let Some(mut dev) = self.dev.take() {
            dev.kill();
        }
    }

    /// `kill -9` of `mainstay dev` and of its agents.
    pub fn kill_all(&mut self) {
        self.agent_pids().iter().for_each(|agent| signal(*agent, Signal::KILL));
        self.kill();
        self.agent_ends();
    }

    /// SIGTERM, and waits for an orderly end.
    pub fn stop(&mut self) {
        if let Some(mut dev) = self.dev.take() {
            dev.terminate();
        }
    }

    /// Whether `mainstay dev` has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.dev.as_mut().is_none_or(Process::has_ended)
    }

    /// The process of `mainstay dev`.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn dev_pid(&self) -> u32 {
        self.dev.as_ref().expect("the cell runs").id()
    }

    /// The process of all its agents, or of the first, if it is known and runs.
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent_pid_of("node-1")
    }

    /// The process of this node's agent, if it has one of its own that is known and runs.
    pub fn agent_pid_of(&self, node: &str) -> Option<u32> {
        let note = std::fs::read(self.home().join(format!("run/agent-{node}.json"))).ok()?;
        let note: Value = serde_json::from_slice(&note).ok()?;
        let pid = u32::try_from(note["pid"].as_u64()?).ok()?;
        // Numbers of processes are used again: it is ours only if it was told our home.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(&*self.home().to_string_lossy()).then_some(pid)
    }

    fn agent_pids(&self) -> Vec<u32> {
        (1..=self.nodes).filter_map(|node| self.agent_pid_of(&format!("node-{node}"))).collect()
    }

    /// Waits until no agent runs.
    pub fn agent_ends(&self) {
        until("the agent processes end", ENDS_WITHIN, || {
            let running = self.agent_pids();
            if running.is_empty() { Ok(()) } else { Err(format!("{running:?} run")) }
        });
    }

    /// An operator's command, as JSON.
    pub fn try_operator(&self, words: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(binary::path());
        command.args(words).args(["--output", "json", "--home"]).arg(self.home());
        let output = command.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }

    /// An operator's command for people: whether it ended well, and all that it said.
    pub fn said(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new(binary::path());
        let output = command.args(words).arg("--home").arg(self.home()).output().expect("the program can be started");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.success(), said.concat())
    }

    /// An operator's command that must succeed, as JSON.
    #[track_caller]
    pub fn operator(&self, words: &[&str]) -> Value {
        self.try_operator(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// What an audit says, and whether it is content.
    pub fn try_audit(&self) -> Result<(bool, Value), String> {
        let mut command = Command::new(binary::path());
        command.args(["audit", "--json", "--home"]).arg(self.home());
        let output = command.output().map_err(|error| error.to_string())?;
        let said = serde_json::from_slice(&output.stdout);
        let said = said.map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((output.status.success(), said))
    }

    /// Waits until an audit finds nothing, and returns what it has looked at. Nodes that were just started may need a
    /// moment until all their networks are made again.
    pub fn audits_clean(&self, within: Duration) -> Value {
        until("an audit finds nothing", within, || match self.try_audit()? {
            (true, said) => Ok(said),
            (false, said) => Err(said.to_string()),
        })
    }

    /// Someone without a token.
    pub fn anonymous(&self) -> Client {
        Client::anonymous(&self.url(), &self.home().join("pki/authority.crt"))
    }

    /// Someone without a token and without patience.
    pub fn impatient(&self) -> Client {
        Client::patient(&self.url(), &self.home().join("pki/authority.crt"), IMPATIENCE)
    }

    /// Where anybody may send anything.
    pub fn door(&self) -> Door {
        Door::new(([127, 0, 0, 1], self.port).into(), &self.home().join("pki/authority.crt"))
    }

    /// All that the running API answers, as it says itself.
    pub fn routes(&self) -> Vec<Route> {
        let text = std::fs::read_to_string(self.home().join("run/routes")).expect("the API notes its routes");
        let route = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
            [method, path, dialect] => {
                Route { method: (*method).into(), path: (*path).into(), dialect: (*dialect).into() }
            }
            _ => panic!("no route: {line}"),
        };
        text.lines().map(route).collect()
    }

    /// The administrator, in the project `admin`.
    pub fn admin(&self) -> Client {
        let password = std::fs::read_to_string(self.home().join("admin-password")).expect("the admin's password");
        self.anonymous().login("admin", password.trim(), "admin")
    }

    /// Waits until no work is in flight and no node has anything claimed or unknown: then nothing is left of any server.
    pub fn settles_empty(&self, within: Duration) {
        until("no work, no claim, no guest is left", within, || {
            let works = self.try_operator(&["work", "list"])?;
            let nodes = self.try_operator(&["node", "list"])?;
            let zero = |node: &Value| {
                let amounts =
                    node["amounts"].as_array().is_some_and(|all| all.iter().all(|amount| amount["used"] == 0));
                amounts && node["servers"] == 0 && node["unknown_guests"] == Value::Array(Vec::new())
            };
            let idle = works == Value::Array(Vec::new()) && nodes.as_array().is_some_and(|all| all.iter().all(zero));
            let guests = self.guests();
            if idle && guests.is_empty() {
                Ok(())
            } else {
                Err(format!("works {works}\nnodes {nodes}\nguests {guests:?}"))
            }
        });
    }

    /// The guests of which anything exists on the machine, with what is known of each.
    pub fn guests(&self) -> BTreeMap<String, String> {
        if self.real {
            let machine = Machine::of(&self.home());
            let running = machine.processes();
            let shown = |guest: &String| if running.contains_key(guest) { "running" } else { "stopped" };
            return machine.directories().into_iter().map(|guest| (guest.clone(), shown(&guest).to_owned())).collect();
        }
        let text = std::fs::read_to_string(self.home().join("agents/node-1/fake/guests")).unwrap_or_default();
        let mut guests = BTreeMap::new();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                [_, guest, "absent", _] => drop(guests.remove(*guest)),
                [node, guest, state, _] => drop(guests.insert((*guest).to_owned(), format!("{state} on {node}"))),
                _ => {}
            }
        }
        guests
    }

    /// Where each guest is, as each node's own book says: node, guest and state, and what was doubtful in between: a guest
    /// that was on two nodes at a time. For fake nodes.
    pub fn books(&self) -> (BTreeMap<(String, String), String>, Vec<String>) {
        let text = std::fs::read_to_string(self.home().join("agents/node-1/fake/guests")).unwrap_or_default();
        let (mut guests, mut doubled) = (BTreeMap::new(), Vec::new());
        for line in text.lines().skip(1) {
            let [node, guest, state, run] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            let key = (node.to_owned(), guest.to_owned());
            if state == "absent" {
                guests.remove(&key);
                continue;
            }
            if let Some((other, _)) = guests.keys().find(|(other, of)| of == guest && other != node) {
                doubled.push(format!("the guest {guest} is {state} (run {run}) on {node} and was on {other}"));
            }
            guests.insert(key, state.to_owned());
        }
        (guests, doubled)
    }

    /// Whether it has real guests.
    pub fn is_real(&self) -> bool {
        self.real
    }

    /// Keeps the directory when the cell is dropped, with what lies on disks of its own; says where it is.
    pub fn keep(&mut self) -> PathBuf {
        for sub in self.disks.keys() {
            let (from, to) = (self.path(sub), self.dir.path().join(sub.replace('/', "-")));
            let _as_far_as_it_goes = Command::new("cp").arg("-r").arg(from).arg(to).status();
        }
        self.dir.disable_cleanup(true);
        self.dir.path().to_path_buf()
    }

    /// What the stopped cell has in its store.
    pub fn records(&self) -> records::Records {
        assert!(self.dev.is_none(), "a running cell's store is locked");
        records::read(&self.home())
    }

    /// The directory and the port without anything that runs.
    pub fn path(&self, sub: &str) -> PathBuf {
        Path::join(&self.home(), sub)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let agent = self.agent_pid();
        self.kill();
        if let Some(agent) = agent {
            signal(agent, Signal::KILL);
        }
        if self.real {
            Machine::of(&self.home()).lose_power();
        }
    }
}
