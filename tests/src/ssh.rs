//! Logging in to guests with the machine's own `ssh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A key, and where hosts are remembered.
pub struct Login {
    key: PathBuf,
    known_hosts: PathBuf,
}

impl Login {
    /// A new key in the directory `dir`.
    pub fn new(dir: &Path) -> Login {
        let key = dir.join("id_ed25519");
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "cell-test", "-f"]).arg(&key).stdin(Stdio::null());
        let made = command.status().expect("ssh-keygen is installed");
        assert!(made.success(), "ssh-keygen ended with {made}");
        Login { key, known_hosts: dir.join("known_hosts") }
    }

    /// The public half, for the cell.
    pub fn public(&self) -> String {
        std::fs::read_to_string(self.key.with_extension("pub")).expect("ssh-keygen writes it").trim().to_owned()
    }

    /// What `command` says in the guest at `address`; `Err`: why it was not run, or failed.
    pub fn run(&self, address: &str, command: &str) -> Result<String, String> {
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let mut ssh = Command::new("ssh");
        ssh.arg("-i").arg(&self.key).args(["-o", &known_hosts, "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]);
        let output = ssh.arg(format!("tiny@{address}")).arg(command).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("ssh cannot be run: {error}"))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }
}
