//! A cell of the test's own: `mainstay dev` in a directory of its own. It ends, with all it has on this machine, when it
//! is dropped.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{clock, house, run};

const READY_WITHIN: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(30);
const LOG_SHOWN_LINES: usize = 25;

/// A running cell.
pub(super) struct Cell {
    dir: PathBuf,
    daemon: Child,
}

impl Cell {
    /// Starts one with this driver, `fake` or `qemu`, and this many nodes.
    pub(super) fn start(driver: &str, nodes: usize) -> anyhow::Result<Cell> {
        let dir = std::env::temp_dir().join(format!("mainstay-client-{driver}-{}", std::process::id()));
        std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (out, log) = (std::fs::File::create(dir.join("out"))?, std::fs::File::create(dir.join("log"))?);
        let mut dev = run::command(binary());
        dev.args(["dev", "--driver", driver, "--nodes", &nodes.to_string()]);
        dev.arg("--listen").arg(format!("127.0.0.1:{port}")).arg("--home").arg(dir.join("home"));
        dev.env("MAINSTAY_TINY", house::guest_image()).stdin(Stdio::null()).stdout(out).stderr(log);
        let daemon = dev.spawn().with_context(|| format!("cannot start {}", binary().display()))?;
        let mut cell = Cell { dir, daemon };
        cell.wait_until_ready(nodes).with_context(|| cell.log_end())?;
        Ok(cell)
    }

    fn wait_until_ready(&mut self, nodes: usize) -> anyhow::Result<()> {
        clock::wait_for("the cell's `ready` line", READY_WITHIN, || {
            if let Some(status) = self.daemon.try_wait()? {
                bail!("the cell ended with {status} before it was ready");
            }
            let out = std::fs::read_to_string(self.dir.join("out"))?;
            Ok(if out.starts_with("ready ") { Ok(()) } else { Err("it said nothing yet".to_owned()) })
        })?;
        clock::wait_for("all nodes to attend", READY_WITHIN, || {
            let list = self.operator(&["node", "list"])?;
            let up = list.as_array().into_iter().flatten().filter(|node| node["up"] == true).count();
            Ok(if up == nodes { Ok(()) } else { Err(format!("{up} of {nodes} are up")) })
        })
    }

    /// Its home.
    pub(super) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// Where the test may write files of its own.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is in its names of devices and namespaces on this machine.
    pub(super) fn tag(&self) -> anyhow::Result<String> {
        let cell: Value = serde_json::from_slice(&std::fs::read(self.home().join("cell.json"))?)?;
        super::said::text(&cell, "/tag")
    }

    /// An operator's command, as JSON.
    pub(super) fn operator(&self, words: &[&str]) -> anyhow::Result<Value> {
        let mut command = run::command(binary());
        command.args(words).args(["--output", "json", "--home"]).arg(self.home());
        Ok(serde_json::from_str(&run::output(&mut command)?)?)
    }

    /// Waits until no work is in flight, and no node has anything claimed or anything that nobody knows of.
    pub(super) fn settles_empty(&self) -> anyhow::Result<()> {
        clock::wait_for("the cell to be empty", END_WITHIN, || {
            let (works, nodes) = (self.operator(&["work", "list"])?, self.operator(&["node", "list"])?);
            let idle = |node: &Value| {
                let amounts = node["amounts"].as_array();
                amounts.is_some_and(|all| all.iter().all(|amount| amount["used"] == 0))
                    && node["servers"] == 0
                    && node["unknown_guests"] == Value::Array(Vec::new())
            };
            let empty = works == Value::Array(Vec::new()) && nodes.as_array().is_some_and(|all| all.iter().all(idle));
            Ok(if empty { Ok(()) } else { Err(format!("works {works}, nodes {nodes}")) })
        })
    }

    /// The last of what its daemons logged.
    pub(super) fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("the cell's log ends with\n{}", lines[lines.len().saturating_sub(LOG_SHOWN_LINES)..].join("\n"))
    }
}

/// What the stage before has built. `MAINSTAY_BIN` names another one.
fn binary() -> PathBuf {
    std::env::var_os("MAINSTAY_BIN").map_or_else(|| house::target().join("debug/mainstay"), PathBuf::from)
}

impl Drop for Cell {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw) {
            // One that has ended by itself needs no signal.
            let _gone = kill_process(pid, Signal::TERM);
        }
        let ended = || Ok(self.daemon.try_wait()?.map(drop).ok_or_else(|| "it runs".to_owned()));
        if clock::wait_for("the cell's orderly end", END_WITHIN, ended).is_err() {
            let _gone = self.daemon.kill();
            let _status = self.daemon.wait();
        }
        // Guests and networks of a test that failed; its directory with them.
        if let Err(error) = run::output(run::command(binary()).args(["down", "--home"]).arg(self.home())) {
            eprintln!("left on this machine by the cell in {}: {error:#}", self.dir.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{} cannot be removed: {error}", self.dir.display());
        }
    }
}
