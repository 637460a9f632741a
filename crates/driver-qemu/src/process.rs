//! A guest's process: how it is found, watched and ended.
//!
//! There is no pid file. A process of a guest is one whose command line carries the guest's marker
//! ([`crate::argv::marker`]) and whose user is the guest's own or the agent's; it is held by a pidfd from then on, so
//! a number that the kernel gives out again is never mistaken for it. While any process of a guest lives, the guest's
//! lock is held: who gets the lock knows that there is none, also none that is just being started.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use driver::{GuestId, Run};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::argv;

/// A process, by a descriptor that stays its own.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pidfd: Arc<OwnedFd>,
}

/// How a process ended, as far as can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was no child of this agent: nobody told us.
    Unknown,
}

impl Process {
    pub(crate) fn open(pid: u32) -> std::io::Result<Process> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(Process { pidfd: Arc::new(rustix::process::pidfd_open(pid, PidfdFlags::empty())?) })
    }

    pub(crate) fn kill(&self) -> std::io::Result<()> {
        match rustix::process::pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process has ended. It stays a zombie until [`Process::reap`] or its parent took it.
    #[expect(
        deprecated,
        reason = "the safe constructor; what it cannot check holds: the descriptor is owned by what it watches"
    )]
    pub(crate) async fn ended(&self) -> std::io::Result<()> {
        let watched = AsyncFd::with_interest(Arc::clone(&self.pidfd), Interest::READABLE)?;
        let _ready = watched.readable().await?;
        Ok(())
    }

    /// Takes the status of an ended child.
    pub(crate) fn reap(&self) -> Exit {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            },
            Ok(None) | Err(_) => Exit::Unknown,
        }
    }
}

/// Every process that carries a marker of ours, with its pid and user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) guest: GuestId,
    pub(crate) run: Run,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

pub(crate) fn scan() -> std::io::Result<Vec<Marked>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        found.extend(marked(pid));
    }
    Ok(found)
}

fn marked(pid: u32) -> Option<Marked> {
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let name = words.windows(2).find(|pair| pair[0] == b"-name").map(|pair| pair[1])?;
    let (guest, run) = argv::parse_marker(std::str::from_utf8(name).ok()?)?;
    Some(Marked { guest, run, pid, uid })
}

/// The process of `guest`, if one is there, held so that it stays the one that was found. `uid` is the guest's user.
pub(crate) fn find(guest: GuestId, uid: u32) -> std::io::Result<Option<(Process, Run)>> {
    find_in(&scan()?, guest, uid)
}

pub(crate) fn find_in(all: &[Marked], guest: GuestId, uid: u32) -> std::io::Result<Option<(Process, Run)>> {
    let agent = rustix::process::geteuid().as_raw();
    for candidate in all.iter().filter(|one| one.guest == guest && (one.uid == uid || one.uid == agent)) {
        let Ok(process) = Process::open(candidate.pid) else { continue };
        // The number may have been given out again between reading and opening: only now it cannot any more.
        if marked(candidate.pid).is_some_and(|now| (now.guest, now.run) == (guest, candidate.run)) {
            return Ok(Some((process, candidate.run)));
        }
    }
    Ok(None)
}

/// The guest's lock, if no process of it lives.
pub(crate) fn lock(path: &Path) -> std::io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}
