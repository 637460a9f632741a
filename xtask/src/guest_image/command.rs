//! Running a host tool: its output on success, all that it said on failure. Tools never see the terminal.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::PACKAGES;

/// What a tool wrote before it ended well.
pub(super) struct Said {
    pub(super) out: String,
    /// Its standard error; some tools, debugfs one of them, report failures only here.
    pub(super) err: String,
}

/// Runs `program` and returns what it wrote.
pub(super) fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> anyhow::Result<Said> {
    run_in(Path::new("."), program, args)
}

/// The same, with `dir` as the working directory.
pub(super) fn run_in<S: AsRef<OsStr>>(
    dir: &Path,
    program: &str,
    args: impl IntoIterator<Item = S>,
) -> anyhow::Result<Said> {
    let mut command = Command::new(program);
    // Tools print for people in many languages; we read the English ones. The system's tools (mke2fs, debugfs) are
    // in sbin, which a plain user's PATH on Debian leaves out.
    let search = std::env::var("PATH").unwrap_or_default();
    command
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .env("PATH", format!("{search}:/usr/sbin:/sbin"));
    let output = command.output().with_context(|| {
        format!("cannot run {program}; `apt-get install {}` brings what is missing", PACKAGES.join(" "))
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said { out: text(&output.stdout), err: text(&output.stderr) };
    if !output.status.success() {
        bail!("{program} failed ({}): {} {}", output.status, said.err.trim(), said.out.trim());
    }
    Ok(said)
}
