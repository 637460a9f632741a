//! A cell: `mainstay dev` in a directory of its own, with all its processes by their ids.
//!
//! [`Cell::end`] kills what it started and removes its directory. A cell that is dropped before that ends too, but leaves
//! its directory for whoever looks into the failure.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::Settings;
use crate::probe::{self, Used};

const READY_WITHIN: Duration = Duration::from_secs(120);
const NODES_WITHIN: Duration = Duration::from_secs(120);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);

/// How a cell is made.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How guests are run: `fake` or `qemu`.
    pub driver: &'static str,
    /// How many nodes.
    pub nodes: usize,
}

impl Plan {
    /// With fake nodes.
    pub fn fake(nodes: usize) -> Plan {
        Plan { driver: "fake", nodes }
    }
}

/// A cell whose processes run, or were killed.
pub struct Cell {
    dir: Option<TempDir>,
    home: PathBuf,
    binary: PathBuf,
    plan: Plan,
    address: SocketAddr,
    dev: Option<Child>,
    agents: Vec<u32>,
}

impl Cell {
    /// A new cell, and how long it took from exec to `ready`. Its nodes may still be on their way.
    pub async fn new(settings: &Settings, plan: Plan) -> anyhow::Result<(Cell, Duration)> {
        let dir = tempfile::Builder::new().prefix("cell-").tempdir_in(&settings.dir)?;
        let home = dir.path().join("home");
        let address = free_address()?;
        let binary = settings.binary.clone();
        let mut cell = Cell { home, binary, plan, address, dev: None, agents: Vec::new(), dir: Some(dir) };
        let took = cell.start().await?;
        Ok((cell, took))
    }

    /// A new cell, all of whose nodes attend.
    pub async fn settled(settings: &Settings, plan: Plan) -> anyhow::Result<Cell> {
        let (mut cell, _) = Cell::new(settings, plan).await?;
        cell.nodes_up().await?;
        Ok(cell)
    }

    /// Where its public API answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Starts it; the time from exec to `ready`.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        let parent = self.home.parent().context("a home lies in a directory")?;
        let log = File::options().create(true).append(true).open(parent.join("dev.log"))?;
        let mut command = Command::new(&self.binary);
        command.arg("dev").arg("--home").arg(&self.home).args(["--driver", self.plan.driver]);
        command.args(["--nodes", &self.plan.nodes.to_string(), "--listen", &self.address.to_string()]);
        let out = parent.join("dev.out");
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(log);
        let begun = Instant::now();
        self.dev = Some(command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?);
        loop {
            if std::fs::read_to_string(&out)?.lines().any(|line| line.starts_with("ready ")) {
                return Ok(begun.elapsed());
            }
            let ended = self.dev.as_mut().and_then(|dev| dev.try_wait().ok().flatten());
            if ended.is_some() || begun.elapsed() > READY_WITHIN {
                bail!("the cell did not get ready ({ended:?}): {}", self.log_end());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until all its nodes attend.
    pub async fn nodes_up(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let up = self
                .operator(&["node", "list"])
                .await
                .map(|nodes| nodes.as_array().into_iter().flatten().filter(|node| node["up"] == true).count());
            if up.as_ref().is_ok_and(|up| *up == self.plan.nodes) {
                self.agents = self.agents_noted();
                return Ok(());
            }
            if begun.elapsed() > NODES_WITHIN {
                bail!("of {} nodes there are {up:?}: {}", self.plan.nodes, self.log_end());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// An operator's question, answered as JSON.
    pub async fn operator(&self, words: &[&str]) -> anyhow::Result<Value> {
        let mut command = tokio::process::Command::new(&self.binary);
        let output = command.args(words).args(["--output", "json", "--home"]).arg(&self.home).output().await?;
        if !output.status.success() {
            bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The process of the control roles.
    pub fn control(&self) -> anyhow::Result<u32> {
        self.dev.as_ref().map(Child::id).context("the cell does not run")
    }

    /// The processes of its agents. All fake nodes share one.
    pub fn agents(&self) -> &[u32] {
        &self.agents
    }

    /// All its daemons.
    pub fn daemons(&self) -> anyhow::Result<Vec<u32>> {
        Ok(std::iter::once(self.control()?).chain(self.agents.iter().copied()).collect())
    }

    /// What its control process and its agents have used.
    pub fn used(&self) -> anyhow::Result<(Used, Used)> {
        let mut agents = Used::default();
        for pid in &self.agents {
            let used = probe::used(*pid)?;
            agents.cpu_ms += used.cpu_ms;
            agents.written_bytes += used.written_bytes;
        }
        Ok((probe::used(self.control()?)?, agents))
    }

    /// Memory of all its daemons, in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        self.daemons()?.into_iter().map(probe::memory).sum()
    }

    fn agents_noted(&self) -> Vec<u32> {
        let notes = std::fs::read_dir(self.home.join("run")).into_iter().flatten().flatten();
        let notes = notes.filter(|entry| entry.file_name().to_string_lossy().starts_with("agent-"));
        let pids = notes.filter_map(|entry| {
            let note: Value = serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok()?;
            u32::try_from(note["pid"].as_u64()?).ok()
        });
        // Numbers of processes are used again: it is ours only if it was told our home.
        let ours = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&*self.home.to_string_lossy())
        };
        pids.filter(ours).collect()
    }

    /// `kill -9` of all its daemons at once; returns when they are gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.kill_now();
        let begun = Instant::now();
        while self.agents.iter().any(|pid| runs(*pid)) {
            if begun.elapsed() > ENDS_WITHIN {
                bail!("agents {:?} do not end", self.agents);
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.agents.clear();
        Ok(())
    }

    fn kill_now(&mut self) {
        if self.dev.is_some() {
            self.agents = self.agents_noted();
        }
        // The agents first: the other process would start them again.
        let mut dev = self.dev.take();
        if let Some(dev) = &mut dev {
            // It may have ended by itself: that is as gone.
            let _gone = dev.kill();
        }
        for pid in &self.agents {
            signal(*pid, Signal::KILL);
        }
        if let Some(dev) = &mut dev {
            let _status = dev.wait();
        }
    }

    /// Kills all its daemons and removes everything of it.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.kill().await?;
        self.take_guests_down();
        if let Some(dir) = self.dir.take() {
            dir.close()?;
        }
        Ok(())
    }

    /// Real guests and their networks outlive the daemons.
    fn take_guests_down(&self) {
        if self.plan.driver == "qemu" {
            let down = Command::new(&self.binary).args(["down", "--home"]).arg(&self.home).status();
            if !down.as_ref().is_ok_and(ExitStatus::success) {
                eprintln!("    guests in {} may still run: `mainstay down` ended with {down:?}", self.home.display());
            }
        }
    }

    /// The last of what it logged.
    fn log_end(&self) -> String {
        let log = self.home.with_file_name("dev.log");
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // What has ended has no directory any more.
        let Some(dir) = self.dir.take() else { return };
        self.kill_now();
        self.take_guests_down();
        eprintln!("    what is left of the cell is kept in {}", dir.keep().display());
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Whether a process that is not our child is still there.
fn runs(pid: u32) -> bool {
    pid_of(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// Sends a signal to a process that this run started. One that is gone already is no error.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid) {
        let _gone = kill_process(pid, signal);
    }
}

/// A port of loopback on which nobody listens, below those that the kernel hands out by itself.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let start = u16::try_from(std::process::id() % 8_000)?;
    let port = (0..2_000).map(|at| 20_000 + start + at).find(free).context("no port of loopback is free")?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}
