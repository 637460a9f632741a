//! Are these bytes what they are said to be? Asked once, after an upload and before anybody can use the image.
//!
//! Hypervisors that guess a format can be led to read files of their host: a "raw" disk that begins like qcow2, a qcow2
//! that names a backing file. So an image has a stated format, and bytes that contradict it are refused with a reason
//! that its owner can act on. A qcow2 is also walked: all of its tables must lie inside the file and claim no byte twice.
//!
//! [`Check`] reads nothing itself: it says which bytes it wants next and is fed with them. So it is pure, and it needs
//! little memory however large the image is. Its reads are bounded by the size of the file.
//!
//! Not done here: judging the contents of the disk, repairing, converting; and reference counts are not recounted, as no
//! one writes to an image.

mod qcow2;
mod raw;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::image::DiskFormat;

/// The greatest disk that an image may have: what an ext4 or XFS of a node can still hold in one file, with room.
pub const VIRTUAL_BYTES_MAX: u64 = 64 << 40;

/// Why bytes are not taken as an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A raw image that another program would take for something else.
    #[error(
        "the image is said to be raw, but its bytes are {found}: upload it under its real format if that is qcow2, or \
         convert it with \"qemu-img convert -O raw\""
    )]
    NotRaw {
        /// What it looks like.
        found: &'static str,
    },
    /// No qcow2 at all.
    #[error("the image is said to be qcow2, but does not begin with a qcow2 header")]
    NotQcow2,
    /// A version that nobody here reads.
    #[error("the qcow2 has version {version}; only 2 and 3 are known")]
    Version {
        /// What the header says.
        version: u32,
    },
    /// Part of its data is elsewhere.
    #[error("the qcow2 has a backing file; merge it with \"qemu-img convert -O qcow2\" and upload the result")]
    BackingFile,
    /// Its data is elsewhere.
    #[error("the qcow2 keeps its data in an external file; merge it with \"qemu-img convert -O qcow2\"")]
    ExternalData,
    /// Nobody here holds its key.
    #[error("the qcow2 is encrypted; convert it to a plain one")]
    Encrypted,
    /// Its last writer did not finish, or found damage.
    #[error("the qcow2 is marked {mark}; repair it with \"qemu-img check -r all\"")]
    Marked {
        /// The mark.
        mark: &'static str,
    },
    /// Features that a reader has to know.
    #[error("the qcow2 needs features that are not known here (bits {bits:#x})")]
    UnknownFeature {
        /// The unknown bits.
        bits: u64,
    },
    /// States of the past, which nobody checks and nobody could reach.
    #[error("the qcow2 has {count} internal snapshots; remove them with \"qemu-img convert -O qcow2\"")]
    Snapshots {
        /// Their number.
        count: u32,
    },
    /// A header field that cannot be.
    #[error("the qcow2 header is damaged: {what}")]
    Header {
        /// What is wrong.
        what: &'static str,
    },
    /// The disk is larger than anything here could hold.
    #[error("the disk in the image has {virtual_bytes} bytes, at most {VIRTUAL_BYTES_MAX} are possible")]
    DiskTooLarge {
        /// What the header says.
        virtual_bytes: u64,
    },
    /// Something lies behind the end of the file.
    #[error("the image is cut off: its {what} reaches to byte {end}, the file has {file_bytes}")]
    Truncated {
        /// What lies outside.
        what: &'static str,
        /// Where it ends.
        end: u64,
        /// The file's size.
        file_bytes: u64,
    },
    /// A table entry that cannot be.
    #[error("the qcow2 is corrupt: an entry of its {table} is {entry:#x}: {what}")]
    Entry {
        /// The table.
        table: &'static str,
        /// The entry.
        entry: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Two things in one place.
    #[error("the qcow2 is corrupt: its {what} lies at byte {offset}, where something else lies already")]
    Overlap {
        /// The second of them.
        what: &'static str,
        /// The place.
        offset: u64,
    },
}

/// What a check found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The size of the disk that a guest will see.
    pub virtual_bytes: u64,
}

/// What a check wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These bytes of the file. Never empty, never beyond the file's end, at most 2 MiB.
    Read(Range<u64>),
    /// Nothing more: the image is what it is said to be.
    Accepted(Facts),
}

/// A running check. Ask [`Check::wants`], then [`Check::feed`] what it wants, until it accepts or refuses.
#[derive(Debug)]
pub struct Check {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Raw(raw::Check),
    Qcow2(Box<qcow2::Check>),
}

impl Check {
    /// The check of a file of this size that is said to be `format`.
    pub fn new(format: DiskFormat, file_bytes: u64) -> Check {
        let kind = match format {
            DiskFormat::Raw => Kind::Raw(raw::Check::new(file_bytes)),
            DiskFormat::Qcow2 => Kind::Qcow2(Box::new(qcow2::Check::new(file_bytes))),
        };
        Check { kind }
    }

    /// What it wants now. Asking twice gives the same answer.
    pub fn wants(&mut self) -> Result<Step, Refusal> {
        match &mut self.kind {
            Kind::Raw(check) => check.wants(),
            Kind::Qcow2(check) => check.wants(),
        }
    }

    /// Takes the bytes of the range that [`Check::wants`] asked for.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match &mut self.kind {
            Kind::Raw(check) => check.feed(bytes),
            Kind::Qcow2(check) => check.feed(bytes),
        }
    }
}

/// A big-endian number at `at`; zero where the bytes end before it, which the callers have excluded.
fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// A big-endian number at `at`; zero where the bytes end before it, which the callers have excluded.
fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_be_bytes)
}
