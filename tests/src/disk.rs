//! A disk of its own for a directory.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk whose size can be changed while it is in use. It lies in memory, and takes what is written to it.
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts it on `dir`, which is made.
    pub fn mount(dir: &Path, mebibytes: u64) -> SmallDisk {
        std::fs::create_dir_all(dir).expect("a directory can be made");
        let options = format!("size={mebibytes}m,mode=0700");
        mount(&["-t", "tmpfs", "-o", &options, "cell-test", &dir.display().to_string()]);
        SmallDisk { dir: dir.to_path_buf() }
    }

    /// Makes it so large.
    pub fn resize(&self, mebibytes: u64) {
        mount(&["-o", &format!("remount,size={mebibytes}m"), &self.dir.display().to_string()]);
    }

    /// How much is on it, in MiB, rounded up.
    pub fn used_mebibytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.dir).expect("it is mounted");
        ((stat.f_blocks - stat.f_bfree) * stat.f_frsize).div_ceil(1 << 20)
    }
}

fn mount(arguments: &[&str]) {
    let done = Command::new("mount").args(arguments).status().expect("`mount` is installed");
    assert!(done.success(), "mount {arguments:?} ended with {done}: these tests are run as root");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what still runs on it keeps it alive, and nobody else.
        let _the_cell_is_gone = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
