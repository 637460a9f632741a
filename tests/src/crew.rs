//! A cell whose processes a test puts together by itself, each with the words that it wants.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::{Process, free_port, signal};
use crate::{Cell, Island, Signal, until};

/// Who finds nobody has looked for half a minute.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The processes of a cell that was made by `mainstay dev`, and stopped.
pub struct Crew {
    home: PathBuf,
    /// Where processes log.
    dir: PathBuf,
    listen: String,
    /// Where whoever starts is told to look for liveness instances.
    bootstrap: Vec<String>,
    running: BTreeMap<String, Process>,
}

impl Crew {
    /// Nobody runs yet.
    pub fn of(cell: &Cell) -> Crew {
        Crew {
            home: cell.home(),
            dir: cell.dir().to_path_buf(),
            listen: cell.url().replace("https://", ""),
            bootstrap: Vec::new(),
            running: BTreeMap::new(),
        }
    }

    /// A cell that was made and does not run, and nobody of its crew.
    pub fn muster() -> (Cell, Crew) {
        let mut cell = Cell::just_ready(1);
        cell.stop();
        cell.agent_ends();
        let crew = Crew::of(&cell);
        (cell, crew)
    }

    /// An address of loopback that stays the same when its process starts again.
    pub fn address() -> String {
        format!("127.0.0.1:{}", free_port())
    }

    /// Whoever starts from now on is told of these liveness instances.
    pub fn finds(&mut self, addresses: &[&str]) {
        self.bootstrap = addresses.iter().map(|address| (*address).to_owned()).collect();
    }

    /// Starts control roles as the process `name`, which answers at `at`, and waits until it is ready.
    pub fn serve(&mut self, name: &str, roles: &str, at: &str, words: &[&str]) {
        let mut words = self.words(&[&["serve", "--roles", roles, "--name", name, "--rpc-listen", at], words].concat());
        if !words.iter().any(|word| word == "--listen") {
            words.extend(["--listen".to_owned(), self.listen.clone()]);
        }
        self.enlist(name, Process::start(&words, &self.dir.join(format!("{name}.log"))));
    }

    /// Starts a control role as the process `name` that is to end by itself; whether it succeeded, and what it logged.
    pub fn ends(&mut self, name: &str, role: &str) -> (bool, String) {
        let words = self.words(&["serve", "--roles", role, "--name", name]);
        let mut process = Process::start(&words, &self.dir.join(format!("{name}.log")));
        let status = until("it ends by itself", ENDS_WITHIN, || process.status().ok_or_else(|| process.log_end()));
        (status.success(), self.log(name))
    }

    /// Starts the agents of fake nodes in one process, and waits until it is ready. `on`: where.
    pub fn agent(&mut self, name: &str, nodes: &[&str], on: Option<&Island>, words: &[&str]) {
        let named: Vec<&str> = nodes.iter().flat_map(|node| ["--node", node]).collect();
        let words = self.words(&[&["agent", "--driver", "fake"], &named[..], words].concat());
        let log = self.dir.join(format!("{name}.log"));
        let process = match on {
            Some(island) => Process::start_in(island.namespace(), &words, &log),
            None => Process::start(&words, &log),
        };
        self.enlist(name, process);
    }

    fn enlist(&mut self, name: &str, mut process: Process) {
        process.ready();
        self.running.insert(name.to_owned(), process);
    }

    /// What every process is told, in front of which comes what this one is told.
    fn words(&self, words: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if !words.iter().any(|word| word == "--home") {
            words.extend(["--home".to_owned(), self.home.display().to_string()]);
        }
        words.extend(self.bootstrap.iter().flat_map(|address| ["--bootstrap".to_owned(), address.clone()]));
        words
    }

    /// `kill -9`.
    pub fn kill(&mut self, name: &str) {
        if let Some(mut process) = self.running.remove(name) {
            process.kill();
        }
    }

    /// SIGTERM, and waits for an orderly end.
    pub fn terminate(&mut self, name: &str) {
        if let Some(mut process) = self.running.remove(name) {
            process.terminate();
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str, which: Signal) {
        if let Some(process) = self.running.get(name) {
            signal(process.id(), which);
        }
    }

    /// The process `name`.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        self.running.get(name).map(Process::id).unwrap_or_else(|| panic!("{name} does not run"))
    }

    /// All that the process `name` has logged, in all its lives.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default()
    }
}
