//! How often a process asks the kernel for a sync: counted by the kernel's own tracepoints, without slowing it down.
//!
//! A tracing instance of its own is told which threads to watch (and those that they start), and how often something was
//! traced stands in its statistics; the events themselves are never read. Needs root and tracefs; without them there is
//! no count, and nothing else is worse for it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::probe;

const CALLS: [&str; 4] = ["sys_enter_fsync", "sys_enter_fdatasync", "sys_enter_sync_file_range", "sys_enter_syncfs"];

/// Counts until it is dropped.
pub struct Syncs {
    instance: PathBuf,
}

impl Syncs {
    /// Starts to count those of a process. `None`: it cannot be done here.
    pub fn of(pid: u32) -> Option<Syncs> {
        let tracing = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(Path::new);
        let tracing = tracing.into_iter().find(|path| path.join("instances").is_dir())?;
        let instance = tracing.join("instances").join(format!("mainstay-bench-{pid}"));
        std::fs::create_dir(&instance).ok()?;
        let syncs = Syncs { instance };
        syncs.watch(pid).ok()?;
        Some(syncs)
    }

    fn watch(&self, pid: u32) -> std::io::Result<()> {
        let mut threads = String::new();
        for thread in probe::threads(pid) {
            let _infallible = write!(threads, "{thread} ");
        }
        std::fs::write(self.instance.join("set_event_pid"), threads)?;
        std::fs::write(self.instance.join("options/event-fork"), "1")?;
        for call in CALLS {
            std::fs::write(self.instance.join("events/syscalls").join(call).join("enable"), "1")?;
        }
        Ok(())
    }

    /// How many there were since it began to count.
    pub fn count(&self) -> u64 {
        let per_cpu = std::fs::read_dir(self.instance.join("per_cpu")).into_iter().flatten().flatten();
        let stats = per_cpu.filter_map(|cpu| std::fs::read_to_string(cpu.path().join("stats")).ok());
        stats.map(|text| events(&text)).sum()
    }
}

/// Events that a processor's buffer holds, and those that it once held.
fn events(stats: &str) -> u64 {
    let line = |name: &str| stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
    ["entries", "overrun", "dropped events"].into_iter().map(|name| line(name).unwrap_or(0)).sum()
}

impl Drop for Syncs {
    fn drop(&mut self) {
        for call in CALLS {
            let _gone = std::fs::write(self.instance.join("events/syscalls").join(call).join("enable"), "0");
        }
        if let Err(error) = std::fs::remove_dir(&self.instance) {
            eprintln!("{} is left behind: {error}", self.instance.display());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn events_that_were_overwritten_count_too() {
        let stats = "entries: 12\noverrun: 30\ncommit overrun: 0\nbytes: 1\ndropped events: 1\nread events: 0\n";
        assert_eq!(super::events(stats), 43);
    }
}
