//! One store, one process: a lock that the kernel takes back when its holder dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::OpenError;

/// Held while the store is open. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the store at `store`, in a file beside it that names the holder.
    pub(crate) fn take(store: &Path) -> Result<Lock, OpenError> {
        let path = path_of(store);
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        // Not truncated: until the lock is ours, the file speaks of somebody else.
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The text only helps a person; an unreadable one changes nothing.
                let _unreadable = file.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() }.to_owned();
                return Err(OpenError::InUse { store: store.to_path_buf(), lock: path, holder });
            }
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "process {}", std::process::id()).map_err(failed)?;
        Ok(Lock { _file: file })
    }
}

fn path_of(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
