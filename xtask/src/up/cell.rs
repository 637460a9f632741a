//! The cell's daemons: started in the background, found again, stopped.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::binary;
use crate::home::Home;
use crate::{clock, run};

/// A new cell is ready within seconds; a large one that is opened again, too.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long an orderly end may take.
const END_WITHIN: Duration = Duration::from_secs(30);
/// How much of the log is shown when the daemon does not come up.
const LOG_SHOWN_LINES: usize = 30;

/// Starts the cell in the background unless it runs, and waits for its `ready` line.
pub(super) fn start(home: &Home) -> anyhow::Result<()> {
    if let Some(pid) = running(home)? {
        println!("the cell in {} runs, process {}", home.dir().display(), pid.as_raw_nonzero());
        return Ok(());
    }
    fs::create_dir_all(home.up()).with_context(|| format!("cannot make {}", home.up().display()))?;
    let log_path = log_file(home);
    let mut log = fs::File::options().create(true).append(true).read(true).open(&log_path)?;
    let before = log.metadata()?.len();
    // A session of its own: the cell outlives this terminal, and signals typed here do not reach it.
    let mut daemon = run::command("setsid");
    daemon.arg(binary()).args(["dev", "--home"]).arg(home.dir());
    daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    let mut child = daemon.spawn().context("cannot start the cell")?;
    fs::write(pid_file(home), format!("{}\n", child.id()))?;
    println!("process {}, log in {}", child.id(), log_path.display());
    let ready = clock::wait_for("the cell's `ready` line", READY_WITHIN, || said_ready(&mut log, before, &mut child));
    match ready {
        Ok(line) => println!("{line}"),
        Err(error) => {
            let text = fs::read_to_string(&log_path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(LOG_SHOWN_LINES)..] {
                println!("    {line}");
            }
            return Err(error);
        }
    }
    Ok(())
}

fn said_ready(log: &mut fs::File, from: u64, child: &mut Child) -> anyhow::Result<Result<String, String>> {
    let ended = child.try_wait()?;
    log.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    if let Some(line) = text.lines().find(|line| line.starts_with("ready")) {
        return Ok(Ok(line.to_owned()));
    }
    if let Some(status) = ended {
        bail!("the cell ended with {status} before it was ready");
    }
    Ok(Err(text.lines().last().unwrap_or("nothing yet").to_owned()))
}

/// Asks the daemon to end, and after a while no longer asks: the cell bears that as it bears a power cut.
pub(super) fn stop(home: &Home) -> anyhow::Result<()> {
    let Some(pid) = running(home)? else {
        println!("no daemon runs");
        return Ok(());
    };
    println!("ending process {}", pid.as_raw_nonzero());
    kill_process(pid, Signal::TERM)?;
    let gone = || Ok(if running(home)?.is_none() { Ok(()) } else { Err("it still runs".to_owned()) });
    if clock::wait_for("the daemon's orderly end", END_WITHIN, gone).is_err() {
        println!("it did not end in {} s: killing it", END_WITHIN.as_secs());
        kill_process(pid, Signal::KILL)?;
        clock::wait_for("the daemon's end", END_WITHIN, gone)?;
    }
    fs::remove_file(pid_file(home))?;
    Ok(())
}

/// Removes the cell's directory, if that is what it is.
pub(super) fn purge(home: &Home) -> anyhow::Result<()> {
    let looks_like_a_cell = home.openrc().exists() || home.up().exists();
    if !looks_like_a_cell {
        bail!("{} does not look like a cell's directory, so it is left alone", home.dir().display());
    }
    fs::remove_dir_all(home.dir()).with_context(|| format!("cannot remove {}", home.dir().display()))
}

/// The daemon of this home, if it runs: a pid alone may by now be somebody else's, so its command line must name the
/// home.
fn running(home: &Home) -> anyhow::Result<Option<Pid>> {
    let Ok(text) = fs::read_to_string(pid_file(home)) else { return Ok(None) };
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else {
        bail!("{} does not hold a process number", pid_file(home).display());
    };
    let process = PathBuf::from("/proc").join(pid.as_raw_nonzero().to_string());
    Ok(is_cell(&process, home.dir()).then_some(pid))
}

fn is_cell(process: &Path, home: &Path) -> bool {
    // A process that ended and was not yet awaited has no command line any more.
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0);
    words.any(|word| word == b"dev") && words.any(|word| word == home.as_os_str().as_encoded_bytes())
}

fn pid_file(home: &Home) -> PathBuf {
    home.up().join("pid")
}

fn log_file(home: &Home) -> PathBuf {
    home.up().join("log")
}
