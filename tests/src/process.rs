//! Processes that a test started, and nobody else's.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::{binary, until};

/// A debug build on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A running program; killed when it is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    out: PathBuf,
}

impl Process {
    /// Starts the program; what it writes to standard error is added to the file `log`.
    pub fn start(arguments: &[String], log: &Path) -> Process {
        Process::start_within(arguments, log, &[])
    }

    /// The same with these variables in its environment.
    pub fn start_within(arguments: &[String], log: &Path, environment: &[(String, OsString)]) -> Process {
        Process::spawn(Command::new(binary::path()), arguments, log, environment)
    }

    /// The same in this network namespace.
    pub fn start_in(namespace: &str, arguments: &[String], log: &Path) -> Process {
        // `ip` becomes the program: the id is the program's.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(binary::path());
        Process::spawn(command, arguments, log, &[])
    }

    fn spawn(mut command: Command, arguments: &[String], log: &Path, environment: &[(String, OsString)]) -> Process {
        let out = log.with_extension("out");
        let errors = File::options().create(true).append(true).open(log).expect("the log can be written");
        let stdout = File::create(&out).expect("the output can be written");
        command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(errors);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().expect("the program under test starts");
        Process { child, log: log.to_path_buf(), out }
    }

    /// Waits until it says `ready`, and returns what it said then.
    pub fn ready(&mut self) -> String {
        until("the line `ready`", READY_WITHIN, || {
            let out = std::fs::read_to_string(&self.out).unwrap_or_default();
            if let Some(line) = out.lines().find(|line| line.starts_with("ready")).filter(|_| out.ends_with('\n')) {
                return Ok(line.to_owned());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("it ended instead of getting ready ({status}):\n{}", self.log_end());
            }
            Err(self.log_end())
        })
    }

    /// Whether it has ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// How it has ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last of what it logged.
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself: that is as gone.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }

    /// SIGTERM, and waits until it has ended in good order.
    ///
    /// # Panics
    /// If it does not end, or not with success.
    pub fn terminate(&mut self) {
        signal(self.id(), Signal::TERM);
        let status = until("the end after SIGTERM", ENDS_WITHIN, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        assert!(status.success(), "it ended with {status} after SIGTERM:\n{}", self.log_end());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the last of {}:\n{}", self.log.display(), self.log_end());
        }
    }
}

/// Sends a signal to a process of the test's own. One that is gone already is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

/// Whether a process has ended. One that only waits to be noticed by its parent has.
pub fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; the state follows it.
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Bytes that a process caused to be written to storage.
pub fn written_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("process {pid} is gone"))
}

/// Memory that a process holds, shared pages counted in part.
pub fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("process {pid} is gone")) * 1024
}

/// A port on which nobody listens, below those that the kernel hands out by itself: a daemon that starts again gets it
/// again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970");
    let seed = u64::from(std::process::id()) * 7919 + u64::from(since.subsec_nanos());
    (0..10_000u64)
        .map(|_| 20_000 + u16::try_from((seed + u64::from(NEXT.fetch_add(1, Ordering::Relaxed))) % 10_000).unwrap_or(0))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a port is free")
}
