//! Logging in to a guest with the host's own `ssh`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::{clock, run};

/// Under emulation a guest's first key exchange takes its seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);

/// What `ssh` ends with if it is ssh that failed, and not the command.
const SSH_FAILED: i32 = 255;

/// Who to log in as, and where.
pub(crate) struct Login<'a> {
    pub(crate) key: &'a Path,
    pub(crate) address: &'a str,
    /// Guests come and go and their addresses are used again, so their keys are kept apart from the person's own list.
    pub(crate) known_hosts: &'a Path,
}

impl Login<'_> {
    /// Runs a command in the guest, again until its SSH server lets us in. If the command itself fails, so does this.
    pub(crate) fn wait_for(&self, command: &str) -> anyhow::Result<String> {
        clock::wait_for("the guest's SSH server", ANSWERS_WITHIN, || {
            let mut ssh = run::command("ssh");
            ssh.args(self.options()).args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"]);
            let output = ssh.arg(self.target()).arg(command).stdin(Stdio::null()).output().context("cannot run ssh")?;
            let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            match output.status.code() {
                Some(0) => Ok(Ok(said(&output.stdout))),
                Some(SSH_FAILED) | None => Ok(Err(said(&output.stderr))),
                Some(code) => bail!("in the guest, `{command}` ended with {code}: {}", said(&output.stderr)),
            }
        })
    }

    /// What a person types.
    pub(super) fn line(&self) -> String {
        format!("ssh {} {}", self.options().join(" "), self.target())
    }

    fn options(&self) -> Vec<String> {
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let key = self.key.display().to_string();
        ["-i", &key, "-o", "StrictHostKeyChecking=no", "-o", &known_hosts].map(str::to_owned).to_vec()
    }

    fn target(&self) -> String {
        format!("tiny@{}", self.address)
    }
}
