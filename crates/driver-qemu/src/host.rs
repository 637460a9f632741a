//! What the node itself is: processors, memory, disk.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Virtual processors given out for each real one: most servers idle.
const VCPUS_PER_CPU: u32 = 16;
/// Memory that is never given to guests, in MiB; at least this, or a tenth.
const RESERVED_MIB_MIN: u64 = 512;

pub(crate) fn vcpus() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    cpus.saturating_mul(VCPUS_PER_CPU)
}

/// Memory for guests, in MiB.
pub(crate) fn guest_memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    guest_memory_of(&text)
}

fn guest_memory_of(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let total = line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0) / 1024;
    total.saturating_sub((total / 10).max(RESERVED_MIB_MIN))
}

/// Bytes that are free at `path`.
pub(crate) fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Disk for guests: what is free at `root`, and what guests in these directories have taken of it already.
pub(crate) fn guest_disk_bytes(root: &Path, guests: &[PathBuf]) -> u64 {
    let mut bytes = free_bytes(root).unwrap_or(0);
    for guest in guests.iter().filter_map(|guests| std::fs::read_dir(guests).ok()).flatten().flatten() {
        bytes += std::fs::metadata(guest.path().join("disk.qcow2")).map_or(0, |disk| disk.blocks() * 512);
    }
    bytes
}

/// For people: what processor this is.
pub(crate) fn cpu_facts(facts: &mut BTreeMap<String, String>) {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if let Some((_, model)) =
        text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'))
    {
        facts.insert("cpu_model".into(), model.trim().to_owned());
    }
    facts.insert("cpu_arch".into(), std::env::consts::ARCH.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_keeps_memory_for_itself() {
        assert_eq!(guest_memory_of("MemTotal:       24684200 kB\nMemFree: 1 kB"), 24105 - 2410);
        assert_eq!(guest_memory_of("MemTotal:       1048576 kB"), 512);
        assert_eq!(guest_memory_of("MemTotal:        262144 kB"), 0);
        assert_eq!(guest_memory_of(""), 0);
    }
}
