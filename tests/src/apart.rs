//! A cell whose roles are processes of their own: what they have of each other, they have over mutual TLS.
//!
//! There is one process of each role, and one for all agents. Only the liveness instance has a place that everybody knows;
//! the others are wherever they start. A second coordinator of the same name can be started while the first is still there.

use std::collections::BTreeMap;

use crate::Cell;
use crate::process::{Process, free_port};

/// The roles, in the order in which they are started.
pub(crate) const ROLES: [&str; 6] = ["liveness", "store", "scheduler", "coordinator", "api", "agents"];

/// The processes of a cell that was made by `mainstay dev`, and stopped.
pub struct Apart {
    home: String,
    listen: String,
    logs: BTreeMap<String, std::path::PathBuf>,
    /// Where the liveness instance is.
    bootstrap: String,
    nodes: usize,
    running: BTreeMap<&'static str, Process>,
}

impl Apart {
    /// Starts every role of `cell`, which does not run and had so many nodes.
    pub fn start(cell: &Cell, nodes: usize) -> Apart {
        let logs = ROLES.into_iter().map(|role| (role.to_owned(), cell.log(role)));
        let mut apart = Apart {
            home: cell.home().display().to_string(),
            listen: cell.url().replace("https://", ""),
            logs: logs.collect(),
            bootstrap: format!("127.0.0.1:{}", free_port()),
            nodes,
            running: BTreeMap::new(),
        };
        ROLES.into_iter().for_each(|role| apart.run(role));
        apart
    }

    /// Starts the process of `role` and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn run(&mut self, role: &'static str) {
        let mut process = Process::start(&self.words(role), &self.logs[role]);
        process.ready();
        self.running.insert(role, process);
    }

    /// `kill -9`.
    pub fn kill(&mut self, role: &str) {
        if let Some(mut process) = self.running.remove(role) {
            process.kill();
        }
    }

    /// The process of `role`, if it runs.
    pub fn pid(&self, role: &str) -> Option<u32> {
        self.running.get(role).map(Process::id)
    }

    /// Starts another coordinator of the same name, while nobody has ended the one that is returned.
    pub fn overtake(&mut self) -> Option<Process> {
        let earlier = self.running.remove("coordinator");
        self.run("coordinator");
        earlier
    }

    /// Starts again those that have ended by themselves; their names.
    pub fn restart_ended(&mut self) -> Vec<&'static str> {
        let mut ended = Vec::new();
        for role in ROLES {
            if self.running.get_mut(role).is_none_or(Process::has_ended) {
                ended.push(role);
            }
        }
        ended.iter().for_each(|role| self.run(role));
        ended
    }

    fn words(&self, role: &str) -> Vec<String> {
        let mut words: Vec<String> = if role == "agents" {
            let nodes = (1..=self.nodes).flat_map(|number| ["--node".to_owned(), format!("node-{number}")]);
            ["agent", "--driver", "fake"].into_iter().map(str::to_owned).chain(nodes).collect()
        } else {
            let at = if role == "liveness" { &self.bootstrap } else { "127.0.0.1:0" };
            let words = ["serve", "--roles", role, "--name", "one", "--listen", &self.listen, "--rpc-listen", at];
            words.into_iter().map(str::to_owned).collect()
        };
        words.extend(["--home".to_owned(), self.home.clone(), "--bootstrap".to_owned(), self.bootstrap.clone()]);
        words
    }
}
