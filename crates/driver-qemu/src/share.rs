//! What of a machine is one driver's, when several agents share it.
//!
//! Processors, memory and disk are divided; users of guests are not, so drivers look at what the others have recorded
//! before they choose one. Everything else carries a name that is one driver's alone.

use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::host;
use crate::layout::Layout;

/// What of the machine is this driver's. By default all of it.
#[derive(Clone, Debug)]
pub struct Share {
    /// Tells its control groups from those of the others. `None`: it is alone, or the first of them. It must stay the
    /// same for as long as the state directory does.
    pub name: Option<String>,
    /// The directory that holds the state directories of all of them.
    pub among: Option<PathBuf>,
    /// It has one of so many equal parts of the machine.
    pub parts: NonZeroU32,
    /// Processors to give out, where it is not an equal part.
    pub vcpus: Option<u32>,
    /// Memory to give out, where it is not an equal part.
    pub memory_mib: Option<u64>,
    /// Disk to give out, where it is not an equal part.
    pub disk_gib: Option<u64>,
}

impl Default for Share {
    fn default() -> Share {
        Share { name: None, among: None, parts: NonZeroU32::MIN, vcpus: None, memory_mib: None, disk_gib: None }
    }
}

impl Share {
    pub(crate) fn vcpus(&self) -> u32 {
        self.vcpus.unwrap_or(host::vcpus() / self.parts)
    }

    pub(crate) fn memory_mib(&self) -> u64 {
        self.memory_mib.unwrap_or(host::guest_memory_mib() / u64::from(self.parts.get()))
    }

    /// A part of what is free, and of what all guests of the machine have taken of it already.
    pub(crate) fn disk_gib(&self, own: &Layout) -> u64 {
        self.disk_gib.unwrap_or_else(|| {
            // Without a look at the others' the parts would still fit together, but shrink as those build.
            let others = self.others(own).unwrap_or_default();
            let guests: Vec<PathBuf> = std::iter::once(own).chain(&others).map(Layout::guests).collect();
            (host::guest_disk_bytes(own.root(), &guests) / u64::from(self.parts.get())) >> 30
        })
    }

    /// The directories of the other drivers.
    pub(crate) fn others(&self, own: &Layout) -> std::io::Result<Vec<Layout>> {
        let Some(among) = &self.among else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(among)? {
            let other = Layout::at(&entry?.path())?;
            if other.root() != own.root() && other.guests().is_dir() {
                found.push(other);
            }
        }
        Ok(found)
    }

    /// Keeps the other drivers from choosing until what is returned is dropped.
    pub(crate) fn choose_alone(&self) -> std::io::Result<Choice> {
        let Some(among) = &self.among else { return Ok(Choice::Ours(None)) };
        let held = File::open(among)?;
        match rustix::fs::flock(held.as_fd(), rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Choice::Ours(Some(held))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Choice::Theirs),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whose the choice is at the moment.
#[derive(Debug)]
pub(crate) enum Choice {
    /// Ours, for as long as this is open.
    Ours(Option<File>),
    /// Another driver's.
    Theirs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_together_and_stated_ones_are_taken_as_they_are() {
        let parts = |parts| Share { parts: NonZeroU32::new(parts).unwrap(), ..Share::default() };
        let (whole, third) = (parts(1), parts(3));
        assert!(third.vcpus() > 0 && third.vcpus() * 3 <= whole.vcpus());
        assert!(third.memory_mib() > 0 && third.memory_mib() * 3 <= whole.memory_mib());
        let stated = Share { vcpus: Some(5), memory_mib: Some(6), disk_gib: Some(7), ..parts(3) };
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        assert_eq!((stated.vcpus(), stated.memory_mib(), stated.disk_gib(&layout)), (5, 6, 7));
    }

    #[test]
    fn the_others_are_those_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let one = Layout::create(&dir.path().join("node-1")).unwrap();
        let two = Layout::create(&dir.path().join("node-2")).unwrap();
        std::fs::create_dir(dir.path().join("not-a-driver")).unwrap();
        let among = Some(dir.path().to_path_buf());
        let share = Share { among, ..Share::default() };
        let others = share.others(&one).unwrap();
        assert_eq!(others.iter().map(Layout::root).collect::<Vec<_>>(), [two.root()]);
        let held = share.choose_alone().unwrap();
        assert!(matches!(held, Choice::Ours(Some(_))));
        assert!(matches!(share.choose_alone().unwrap(), Choice::Theirs));
        drop(held);
        assert!(matches!(share.choose_alone().unwrap(), Choice::Ours(Some(_))));
    }
}
