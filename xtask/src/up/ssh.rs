//! Logging in to a guest with the host's own `ssh`.

use std::path::Path;
use std::time::Duration;

use crate::{clock, run};

/// Under emulation a guest's first key exchange takes its seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);

/// Who to log in as, and where.
pub(super) struct Login<'a> {
    pub(super) key: &'a Path,
    pub(super) address: &'a str,
    /// Guests come and go and their addresses are used again, so their keys are kept apart from the person's own list.
    pub(super) known_hosts: &'a Path,
}

impl Login<'_> {
    /// Runs a command in the guest, again until its SSH server answers.
    pub(super) fn wait_for(&self, command: &str) -> anyhow::Result<String> {
        clock::wait_for("the guest's SSH server", ANSWERS_WITHIN, || {
            let mut ssh = run::command("ssh");
            ssh.args(self.options()).args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"]);
            Ok(run::output(ssh.arg(self.target()).arg(command)).map_err(|error| format!("{error:#}")))
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
