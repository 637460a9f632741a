//! Where everything lies, and how files are written so that a crash leaves the old or the new.
//!
//! ```text
//! images/<sha256>            an image, verified; <sha256>.seen says what it looked like then; <sha256>.part is a fetch
//! guests/<id>/guest.json     what must be known to take the guest away again; written first, removed last
//! guests/<id>/disk.qcow2     its disk, over the image
//! guests/<id>/config.iso     its config drive
//! guests/<id>/lock           locked by every process of it
//! guests/<id>/monitor        the socket of its QEMU's monitor
//! guests/<id>/console.pipe   what its serial port says, on its way to console.log and console.log.1
//! guests/<id>/qemu.pipe      what its QEMU says, on its way to qemu.log and qemu.log.1
//! probes/<id>/               a guest that only tries KVM; removed by the next process if this one could not
//! kvm.json                   what the probe of KVM found
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use driver::{DriverError, GuestId};
use serde::{Deserialize, Serialize};

/// The driver's directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn create(root: &Path) -> std::io::Result<Layout> {
        let layout = Layout::at(root)?;
        std::fs::create_dir_all(layout.images())?;
        std::fs::create_dir_all(layout.guests())?;
        std::fs::create_dir_all(layout.probes())?;
        private(&layout.root)?;
        Ok(layout)
    }
    /// One that may be there, to be looked at.
    pub(crate) fn at(root: &Path) -> std::io::Result<Layout> {
        Ok(Layout { root: std::path::absolute(root)? })
    }
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    pub(crate) fn image(&self, sha256: &str) -> PathBuf {
        self.images().join(sha256)
    }
    pub(crate) fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }
    pub(crate) fn guest(&self, id: GuestId) -> GuestDir {
        GuestDir { path: self.guests().join(id.to_string()) }
    }
    /// Where the guests of the KVM probe lie; laid out like the others, but nobody's.
    pub(crate) fn probes(&self) -> PathBuf {
        self.root.join("probes")
    }
    pub(crate) fn probe(&self, id: GuestId) -> GuestDir {
        GuestDir { path: self.probes().join(id.to_string()) }
    }
    pub(crate) fn kvm(&self) -> PathBuf {
        self.root.join("kvm.json")
    }

    /// The guests of which something lies here.
    pub(crate) fn all_guests(&self) -> std::io::Result<Vec<GuestId>> {
        ids_in(&self.guests())
    }

    /// The probes that an earlier process left behind.
    pub(crate) fn all_probes(&self) -> std::io::Result<Vec<GuestId>> {
        ids_in(&self.probes())
    }
}

fn ids_in(dir: &Path) -> std::io::Result<Vec<GuestId>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<GuestId>().ok()));
    }
    found.sort();
    Ok(found)
}

/// One guest's directory.
#[derive(Clone, Debug)]
pub(crate) struct GuestDir {
    path: PathBuf,
}

impl GuestDir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
    pub(crate) fn disk(&self) -> PathBuf {
        self.join("disk.qcow2")
    }
    pub(crate) fn config(&self) -> PathBuf {
        self.join("config.iso")
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.join("lock")
    }

    /// What was recorded of the guest; `None` if nothing was, so that no port of it was ever plugged.
    pub(crate) fn record(&self) -> Result<Option<GuestRecord>, DriverError> {
        let path = self.join("guest.json");
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| DriverError::Failed(format!("{} is damaged: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&format!("cannot read {}", path.display()), &error)),
        }
    }

    pub(crate) fn write_record(&self, record: &GuestRecord) -> Result<(), DriverError> {
        let bytes = serde_json::to_vec(record).expect("a record of plain texts and numbers has a JSON form");
        write_whole(&self.join("guest.json"), &bytes).map_err(|error| failed("cannot record the guest", &error))
    }

    /// Removes everything, the record last: until then the guest can still be taken away.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name() != "guest.json" {
                std::fs::remove_file(entry.path())?;
            }
        }
        std::fs::remove_dir_all(&self.path)
    }
}

/// What must be known of a guest to take it away again, also by an agent that never saw it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GuestRecord {
    /// Of this record's form.
    pub(crate) version: u32,
    /// For people who read the directory.
    pub(crate) name: String,
    /// The user under which its process runs; nobody else's.
    pub(crate) uid: u32,
    /// The image under its disk.
    pub(crate) image: String,
    /// Its ports.
    pub(crate) ports: Vec<PortRecord>,
}

/// A port of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortRecord {
    pub(crate) network: String,
    pub(crate) port: String,
}

/// Makes `path` readable by its owner alone: guests' disks and user data lie below it.
pub(crate) fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Writes a file so that after a crash it holds its old content or the new one.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename_synced(&fresh, path)
}

/// Renames within one directory, durably.
pub(crate) fn rename_synced(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::rename(from, to)?;
    if let Some(parent) = to.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// An error of the operating system as the driver's: a full disk is no reason to try again here.
pub(crate) fn failed(what: &str, error: &std::io::Error) -> DriverError {
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        return DriverError::Refused(format!("{what}: no space left on the node's disk"));
    }
    DriverError::Failed(format!("{what}: {error}"))
}

/// Runs `work`, which blocks, on a thread of its own.
pub(crate) async fn off_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    let (done, answer) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || drop(done.send(work())))
        .map_err(|error| failed("cannot start a thread", &error))?;
    answer.await.unwrap_or_else(|_| Err(DriverError::Failed(format!("the thread that should {name} has panicked"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_can_be_taken_away_until_its_record_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let spec = crate::tests_support::spec();
        let guest = layout.guest(spec.id);
        assert_eq!(guest.record(), Ok(None));
        std::fs::create_dir_all(guest.path()).unwrap();
        let record = GuestRecord { version: 1, name: "a".into(), uid: 5, image: "ab".into(), ports: vec![] };
        guest.write_record(&record).unwrap();
        std::fs::write(guest.disk(), b"x").unwrap();
        assert_eq!((guest.record(), layout.all_guests().unwrap()), (Ok(Some(record)), vec![spec.id]));
        guest.remove().unwrap();
        guest.remove().unwrap();
        assert_eq!(layout.all_guests().unwrap(), []);
    }

    #[test]
    fn a_full_disk_is_named_and_not_tried_again() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(
            failed("cannot copy", &full),
            DriverError::Refused("cannot copy: no space left on the node's disk".into())
        );
    }
}
