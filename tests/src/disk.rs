//! A disk of its own for a directory.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk whose size can be changed while it is in use. It lies in memory, and takes what is written to it.
pub struct SmallDisk {
    dir: PathBuf,
    mebibytes: u64,
}

impl SmallDisk {
    /// Mounts it on `dir`, which is made.
    pub fn mount(dir: &Path, mebibytes: u64) -> SmallDisk {
        std::fs::create_dir_all(dir).expect("a directory can be made");
        let options = format!("size={mebibytes}m,mode=0700");
        mount(&["-t", "tmpfs", "-o", &options, "cell-test", &dir.display().to_string()]);
        SmallDisk { dir: dir.to_path_buf(), mebibytes }
    }

    /// Makes it so large.
    pub fn resize(&self, mebibytes: u64) {
        mount(&["-o", &format!("remount,size={mebibytes}m"), &self.dir.display().to_string()]);
    }

    /// Fills it to the last byte: it shrinks to what is on it, and a file of ballast takes the rest. A large disk is not
    /// written full, for that would be this machine's memory.
    pub fn fill(&self) {
        self.resize(self.used_mebibytes().max(1));
        let mut file =
            File::options().create(true).append(true).open(self.ballast()).expect("the disk has a directory");
        for length in [4096, 1] {
            let bytes = vec![1; length];
            // What others free meanwhile they may have.
            while file.write(&bytes).is_ok_and(|written| written == length) {}
        }
    }

    /// Removes the ballast, and makes it as large as it was at first.
    pub fn free(&self) {
        let _there_was_none = std::fs::remove_file(self.ballast());
        self.resize(self.mebibytes);
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
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
