//! A network namespace of this run's own: its `lo` carries nothing but the cell and its load, and nothing gets out.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Starts this program again inside one, in place of this process. Returns if that is not possible (no root, no
/// `unshare`): then `lo` is everybody's, and other traffic on it is counted too.
pub fn enter() {
    let Ok(program) = std::env::current_exe() else { return };
    let probe = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("no network namespace can be made: bytes on `lo` include those of other programs");
        return;
    }
    let error = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\" --inside"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .exec();
    eprintln!("`unshare` cannot be run: {error}");
}
