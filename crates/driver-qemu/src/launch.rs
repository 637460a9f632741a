//! Starting a confined process that outlives the agent.
//!
//! The child enters its control groups, leaves the agent's session, drops its user and every way to gain another, and
//! only then becomes QEMU; all that by small programs of the base system, one exec after the other in one process, so
//! no code of ours runs between fork and exec. Descriptors are handed over by number ([`crate::argv::fd`]); every
//! other descriptor of the agent is closed on exec.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};

use crate::accel::Accel;
use crate::process::Process;

/// Enters the groups named before `--`, then becomes what is named after it. No core dumps: they hold guests' memory.
const ENTER: &str = r#"ulimit -c 0; while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@""#;

pub(crate) struct Launch<'a> {
    pub(crate) qemu: &'a Path,
    pub(crate) argv: Vec<String>,
    /// What the child inherits, each at its number.
    pub(crate) descriptors: Vec<(OwnedFd, i32)>,
    /// Where what it says of itself goes.
    pub(crate) log: OwnedFd,
    pub(crate) groups: Vec<PathBuf>,
    /// The user that it becomes; `None`: it stays the agent's, who is not root.
    pub(crate) user: Option<u32>,
    pub(crate) accel: Accel,
    /// Lets everything else on the node go first.
    pub(crate) background: bool,
}

impl Launch<'_> {
    /// Starts the process. It is the agent's child for as long as the agent lives.
    pub(crate) fn spawn(self) -> std::io::Result<Process> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ENTER, "guest"]).args(&self.groups).arg("--");
        if self.background {
            command.args(["nice", "-n", "19"]);
        }
        command.arg("setsid").args(confinement(self.user, self.accel)).arg(self.qemu).args(&self.argv);
        let log = File::from(self.log);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
        let mappings = self.descriptors.into_iter().map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).map_err(|_| std::io::Error::other("two descriptors for one number"))?;
        // The child is not reaped before its pidfd is open, so the number is still its own.
        Process::open(command.spawn()?.id())
    }
}

fn confinement(user: Option<u32>, accel: Accel) -> Vec<String> {
    let mut words = vec!["setpriv".to_owned(), "--no-new-privs".into()];
    if let Some(user) = user {
        words.extend([format!("--reuid={user}"), format!("--regid={user}")]);
        words.extend(["--inh-caps=-all".to_owned(), "--bounding-set=-all".into()]);
        words.push(match (accel, std::fs::metadata("/dev/kvm")) {
            (Accel::Kvm, Ok(device)) if device.gid() != 0 => format!("--groups={}", device.gid()),
            (Accel::Kvm | Accel::Tcg, _) => "--clear-groups".into(),
        });
    }
    words
}
