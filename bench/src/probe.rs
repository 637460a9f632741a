//! What the kernel says of processes: time on processors, bytes to disks, memory, bytes on `lo`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;

/// What a process has used since it began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Milliseconds on processors, in user space and in the kernel.
    pub cpu_ms: f64,
    /// Bytes that it caused to be written to storage (whole pages, as the kernel counts them).
    pub written_bytes: u64,
}

impl Used {
    /// What was used between `before` and now.
    #[must_use]
    pub fn since(self, before: Used) -> Used {
        Used { cpu_ms: self.cpu_ms - before.cpu_ms, written_bytes: self.written_bytes - before.written_bytes }
    }
}

/// What a process has used; its ended threads are in it, its children are not.
pub fn used(pid: u32) -> anyhow::Result<Used> {
    let stat = read(pid, "stat")?;
    // The name in parentheses may hold anything: fields are counted from behind it.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    let cpu_ms = (ticks(11) + ticks(12)) * 1000.0 / per_second;
    let io = read(pid, "io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    let written_bytes = line.and_then(|bytes| bytes.parse().ok()).context("the kernel counts no bytes written")?;
    Ok(Used { cpu_ms, written_bytes })
}

/// The process's share of memory, in bytes: what it shares with others is divided among them.
pub fn memory(pid: u32) -> anyhow::Result<u64> {
    let rollup = read(pid, "smaps_rollup")?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.context("the kernel tells no PSS")? * 1024)
}

/// Its threads.
pub fn threads(pid: u32) -> BTreeSet<u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Milliseconds that the processors of this machine have worked, for whomever.
pub fn busy_ms() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("cannot read what the processors did")?;
    let line =
        text.lines().next().and_then(|line| line.strip_prefix("cpu")).context("no line is for all processors")?;
    let ticks: Vec<f64> = line.split_whitespace().filter_map(|ticks| ticks.parse().ok()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq, steal
    let busy = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|at| ticks.get(at));
    Ok(busy.sum::<f64>() * 1000.0 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes that were sent over `lo` in this network namespace, headers included.
pub fn lo_bytes() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/dev").context("cannot read the counters of interfaces")?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).context("there is no `lo`")
}

/// Bytes and packets that all interfaces of this network namespace have received, headers included: what was sent within
/// it, and what came to it.
pub fn carried() -> anyhow::Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/net/dev").context("cannot read the counters of interfaces")?;
    let counts = text.lines().filter_map(|line| {
        let mut fields = line.split_once(':')?.1.split_whitespace().map_while(|field| field.parse::<u64>().ok());
        Some((fields.next()?, fields.next()?))
    });
    Ok(counts.fold((0, 0), |(bytes, packets), (more, others)| (bytes + more, packets + others)))
}

/// Bytes of all files under a path.
pub fn size(path: &Path) -> u64 {
    let Ok(found) = path.symlink_metadata() else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
}

fn read(pid: u32, what: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/{what}");
    std::fs::read_to_string(&path).with_context(|| format!("process {pid} is gone, or its {what} may not be read"))
}
