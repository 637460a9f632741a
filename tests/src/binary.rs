//! The program under test: the one that the same build made, built here only if nobody has.
//!
//! A test executable lies in `target/PROFILE/deps`, the program one above, and so do programs that are tests. Cargo notes beside it which sources went into
//! it; if one of these is newer, or the program is not there, cargo is asked to build it, once for each process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program. `MAINSTAY_BIN` names another one.
pub(crate) fn path() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("MAINSTAY_BIN") {
        Some(named) => named.into(),
        None => built(),
    })
}

fn built() -> PathBuf {
    let own = std::env::current_exe().expect("the running test has a path");
    let profile = own.ancestors().find(|dir| dir.ends_with("deps")).or(Some(&own)).and_then(Path::parent);
    let profile = profile.expect("an executable lies in target/PROFILE or below");
    let program = profile.join("mainstay");
    if !is_fresh(&program) {
        build(profile);
    }
    assert!(program.exists(), "cargo built no {}", program.display());
    program
}

/// Whether the program is there and no source is newer, by the list that cargo keeps beside it.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let (Some(built), Ok(list)) = (changed(program), std::fs::read_to_string(program.with_extension("d"))) else {
        return false;
    };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    sources.split_whitespace().all(|source| changed(Path::new(source)).is_some_and(|changed| changed <= built))
}

fn build(profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the root");
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--quiet", "--package", "mainstay", "--bin", "mainstay"]);
    command.arg("--target-dir").arg(profile.parent().expect("a profile lies in the target directory"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo can be started");
    assert!(status.success(), "the program under test does not build: {status}");
}
