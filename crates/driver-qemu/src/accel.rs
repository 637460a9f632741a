//! KVM or TCG: decided by whether a guest has really run.
//!
//! A `/dev/kvm` that opens proves nothing, and neither does firmware that prints: there are hosts on which every guest
//! hangs after that. So a guest is booted with KVM, from an image that the cell uses anyway, until its login prompt
//! appears on the console. The result is kept for this boot of the host and this version of QEMU. The probe runs in
//! the background, at the lowest priority, some time after the first guest was prepared; until it has succeeded guests
//! run under TCG. Images without a serial console prove nothing either, so a few different ones are tried.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::layout::write_whole;

/// How guests' processors are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    /// By the real ones.
    Kvm,
    /// By translation.
    Tcg,
}

impl Accel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }
}

/// Images that are tried before this boot of the host counts as one without KVM.
const IMAGES_TRIED_MAX: usize = 3;
/// How long after the wish for a probe it begins: the first guests of a node have it to themselves.
pub(crate) const PROBE_AFTER: Duration = Duration::from_secs(60);
/// With KVM a guest that takes longer to its login prompt is no gain over TCG.
pub(crate) const PROBE_BOUND: Duration = Duration::from_secs(20);
/// What proves it.
pub(crate) const PROOF: &str = "login:";

/// What is kept between processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    boot: String,
    qemu: String,
    works: bool,
    tried: BTreeSet<String>,
}

/// Whether guests could open `/dev/kvm` at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// There is none, or it does not open.
    Absent,
    /// Only root opens it, and no guest runs as root.
    RootOnly,
    /// A guest's user opens it, with the device's group where that is needed.
    Open,
}

impl Device {
    /// What is there for guests of an agent that is root, or is not.
    pub(crate) fn detect(root: bool) -> Device {
        let path = "/dev/kvm";
        let (opened, meta) = (std::fs::File::options().read(true).write(true).open(path), std::fs::metadata(path));
        match (opened, meta) {
            (Ok(_), Ok(meta)) if root && !reachable(meta.mode(), meta.gid()) => Device::RootOnly,
            (Ok(_), Ok(_)) => Device::Open,
            (Err(_), _) | (_, Err(_)) => Device::Absent,
        }
    }
}

fn reachable(mode: u32, group: u32) -> bool {
    mode & 0o006 == 0o006 || (mode & 0o060 == 0o060 && group != 0)
}

/// What is known about KVM on this node.
pub(crate) struct Knowledge {
    file: PathBuf,
    device: Device,
    state: parking_lot::Mutex<State>,
}

struct State {
    kept: Kept,
    probing: bool,
}

impl Knowledge {
    /// Reads what an earlier process found out, if it still holds.
    pub(crate) fn open(file: PathBuf, boot: &str, qemu: &str, device: Device) -> Knowledge {
        let read: Option<Kept> = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let fresh = Kept { boot: boot.to_owned(), qemu: qemu.to_owned(), works: false, tried: BTreeSet::new() };
        let kept = read.filter(|kept| kept.boot == boot && kept.qemu == qemu).unwrap_or(fresh);
        Knowledge { file, device, state: parking_lot::Mutex::new(State { kept, probing: false }) }
    }

    /// What the next guest runs under.
    pub(crate) fn accel(&self) -> Accel {
        if self.device == Device::Open && self.state.lock().kept.works { Accel::Kvm } else { Accel::Tcg }
    }

    /// For people.
    pub(crate) fn describe(&self) -> &'static str {
        let state = self.state.lock();
        match (self.device, state.kept.works, state.kept.tried.is_empty()) {
            (Device::Absent, ..) => "no /dev/kvm",
            (Device::RootOnly, ..) => "only root opens /dev/kvm: give it a group of its own that may read and write it",
            (Device::Open, true, _) => "a guest has run with it",
            (Device::Open, false, true) => "not tried yet",
            (Device::Open, false, false) => "/dev/kvm opens, but a guest does not get to its login prompt with it",
        }
    }

    /// Whether a probe with this image should run now; then it is this caller's to run.
    pub(crate) fn begin(&self, image: &str) -> bool {
        let mut state = self.state.lock();
        let kept = &state.kept;
        let open = self.device == Device::Open
            && !kept.works
            && kept.tried.len() < IMAGES_TRIED_MAX
            && !kept.tried.contains(image);
        if !open || state.probing {
            return false;
        }
        state.probing = true;
        true
    }

    /// Keeps what a probe found; `None`: it could not be made.
    pub(crate) fn end(&self, image: &str, works: Option<bool>) {
        let mut state = self.state.lock();
        state.probing = false;
        let Some(works) = works else { return };
        state.kept.works = works;
        state.kept.tried.insert(image.to_owned());
        let bytes = serde_json::to_vec(&state.kept).expect("plain texts have a JSON form");
        if let Err(error) = write_whole(&self.file, &bytes) {
            tracing::warn!(%error, "what the probe of KVM found is not kept: it will run again after a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_holds_for_one_boot_and_one_qemu() {
        let dir = tempfile::tempdir().unwrap();
        let open = |boot, qemu| Knowledge::open(dir.path().join("kvm.json"), boot, qemu, Device::Open);
        let first = open("boot 1", "7.2.0");
        assert_eq!(first.accel(), Accel::Tcg);
        assert!(first.begin("a") && !first.begin("b"), "one probe at a time");
        first.end("a", Some(false));
        assert!(!first.begin("a") && first.begin("b"), "each image once");
        first.end("b", Some(true));
        assert!(!first.begin("c"), "one success is enough");
        assert_eq!(first.accel(), Accel::Kvm);
        assert_eq!(open("boot 1", "7.2.0").accel(), Accel::Kvm);
        assert_eq!(open("boot 2", "7.2.0").accel(), Accel::Tcg);
        assert_eq!(open("boot 1", "8.0.0").accel(), Accel::Tcg);
        assert!(reachable(0o660, 105) && reachable(0o666, 0) && !reachable(0o660, 0) && !reachable(0o600, 105));
        assert_eq!(
            Knowledge::open(dir.path().join("kvm.json"), "boot 1", "7.2.0", Device::RootOnly).accel(),
            Accel::Tcg
        );
    }
}
