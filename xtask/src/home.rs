//! The directory of a cell: which one is meant, and what lies where in it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A cell's directory.
pub(crate) struct Home {
    dir: PathBuf,
}

/// The directory that was named, else `$MAINSTAY_HOME`, else `~/.mainstay`; absolute.
pub(crate) fn choose(named: Option<PathBuf>) -> anyhow::Result<Home> {
    let dir = match named.or_else(|| std::env::var_os("MAINSTAY_HOME").map(PathBuf::from)) {
        Some(dir) => dir,
        None => PathBuf::from(std::env::var_os("HOME").context("no HOME in the environment: name one with --home")?)
            .join(".mainstay"),
    };
    Ok(Home { dir: std::path::absolute(dir)? })
}

impl Home {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What an `openstack` client reads.
    pub(crate) fn clouds_yaml(&self) -> PathBuf {
        self.dir.join("clouds.yaml")
    }

    /// The same as shell variables; written by the cell when its API answers.
    pub(crate) fn openrc(&self) -> PathBuf {
        self.dir.join("openrc")
    }

    /// Makes it, for its owner only, if it is not there.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        let up = self.up();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&up);
        made.with_context(|| format!("cannot make {}", up.display()))
    }

    /// What `cargo xtask up` keeps: the daemons' log, the key of the first server, the request that made it.
    pub(crate) fn up(&self) -> PathBuf {
        self.dir.join("up")
    }
}
