//! The cell's daemons: started in the background, found again, stopped.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::binary;
use crate::home::Home;
use crate::{clock, house, run};

/// A new cell is ready within seconds; a large one that is opened again, too.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How long an orderly end may take.
const END_WITHIN: Duration = Duration::from_secs(30);
/// How much of the log is shown when the daemon does not come up.
const LOG_SHOWN_LINES: usize = 30;

/// Starts the cell in the background unless it runs, and waits for its `ready` line.
pub(super) fn start(home: &Home) -> anyhow::Result<()> {
    if let Some(pid) = daemons(home)?.first() {
        println!("the cell in {} runs, process {}", home.dir().display(), pid.as_raw_nonzero());
        return Ok(());
    }
    home.make()?;
    let log_path = home.up().join("log");
    let mut log = fs::File::options().create(true).append(true).read(true).open(&log_path)?;
    let before = log.metadata()?.len();
    // A session of its own: the cell outlives this terminal, and signals typed here do not reach it.
    let mut daemon = run::command("setsid");
    daemon.arg(binary()).args(["dev", "--home"]).arg(home.dir()).env("MAINSTAY_TINY", house::guest_image());
    daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    let mut child = daemon.spawn().context("cannot start the cell")?;
    println!("process {}, log in {}", child.id(), log_path.display());
    match clock::wait_for("the cell's `ready` line", READY_WITHIN, || said_ready(&mut log, before, &mut child)) {
        Ok(line) => println!("{line}"),
        Err(error) => {
            show_end_of(&log_path);
            return Err(error);
        }
    }
    Ok(())
}

fn show_end_of(log: &Path) {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LOG_SHOWN_LINES)..] {
        println!("    {line}");
    }
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

/// Asks the daemons to end, and after a while no longer asks: the cell bears that as it bears a power cut.
pub(super) fn stop(home: &Home) -> anyhow::Result<()> {
    let running = daemons(home)?;
    if running.is_empty() {
        println!("no daemon runs");
        return Ok(());
    }
    println!("asking them to end:");
    signal(&running, Signal::TERM);
    let gone = || Ok(if daemons(home)?.is_empty() { Ok(()) } else { Err("not all of them have ended".to_owned()) });
    if clock::wait_for("the daemons' orderly end", END_WITHIN, gone).is_err() {
        println!("not all have ended in {} s: killing them", END_WITHIN.as_secs());
        signal(&daemons(home)?, Signal::KILL);
        clock::wait_for("the daemons' end", END_WITHIN, gone)?;
    }
    Ok(())
}

fn signal(processes: &[Pid], signal: Signal) {
    for pid in processes {
        println!("process {}", pid.as_raw_nonzero());
        // Who has ended by itself in the meantime needs no signal, and whether any is left is looked at afterwards.
        let _ended = kill_process(*pid, signal);
    }
}

/// Removes the cell's directory, if that is what it is.
pub(super) fn purge(home: &Home) -> anyhow::Result<()> {
    let looks_like_a_cell = home.openrc().exists() || home.up().exists();
    if !looks_like_a_cell {
        bail!("{} does not look like a cell's directory, so it is left alone", home.dir().display());
    }
    fs::remove_dir_all(home.dir()).with_context(|| format!("cannot remove {}", home.dir().display()))
}

/// The processes of this cell: programs called `mainstay` whose command line names the cell's home. Guests are not
/// among them.
fn daemons(home: &Home) -> anyhow::Result<Vec<Pid>> {
    let Ok(home) = home.dir().canonicalize() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot look at processes")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        // A process that has just ended has no command line any more.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if is_daemon_of(&command, &home) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn is_daemon_of(command: &[u8], home: &Path) -> bool {
    let mut words = command.split(|byte| *byte == 0).map(|word| Path::new(OsStr::from_bytes(word)));
    let called_so = words.next().and_then(Path::file_name) == Some(OsStr::new("mainstay"));
    let runs_on = words.next().is_some_and(|verb| ["dev", "serve", "agent"].iter().any(|name| verb == Path::new(name)));
    called_so && runs_on && words.any(|word| word == home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_daemons_of_this_home_are_found() {
        let check = |command: &str, expected: bool| {
            assert_eq!(
                is_daemon_of(command.replace(' ', "\0").as_bytes(), Path::new("/var/cell")),
                expected,
                "{command}"
            );
        };
        check("target/release/mainstay dev --home /var/cell", true);
        check("/opt/mainstay agent --home /var/cell/ --driver qemu", true);
        check("mainstay dev --home /var/cell2", false);
        check("mainstay status --home /var/cell", false);
        check("qemu-system-x86_64 -D /var/cell", false);
        check("vi /var/cell", false);
    }
}
