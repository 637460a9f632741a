//! Raw bytes may be anything, except what a program that guesses would take for another format.
//!
//! The list holds the formats that can name other files or that QEMU would open as a container. File systems, partition
//! tables and ISO 9660 are fine: they are what raw disks hold.

use super::{Facts, Refusal, Step, VIRTUAL_BYTES_MAX};

/// Bytes at the start that are looked at: the farthest mark (VDI's) ends at 68.
const HEAD_BYTES: u64 = 512;
/// Bytes at the end that are looked at: a VHD's footer.
const TAIL_BYTES: u64 = 512;

/// Marks at the start: where, what, whose.
const HEAD_MARKS: [(usize, &[u8], &str); 10] = [
    (0, b"QFI\xfb", "qcow2 (or an older qcow)"),
    (0, b"QED\0", "QED"),
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0, b"LUKS\xba\xbe", "a LUKS container"),
    (0, b"WithoutFreeSpace", "a Parallels disk"),
    (64, b"\x7f\x10\xda\xbe", "VDI"),
];

#[derive(Debug)]
enum State {
    Head,
    Tail,
    Done,
}

#[derive(Debug)]
pub(super) struct Check {
    file_bytes: u64,
    state: State,
}

impl Check {
    pub(super) fn new(file_bytes: u64) -> Check {
        Check { file_bytes, state: if file_bytes == 0 { State::Done } else { State::Head } }
    }

    pub(super) fn wants(&mut self) -> Result<Step, Refusal> {
        if self.file_bytes > VIRTUAL_BYTES_MAX {
            return Err(Refusal::DiskTooLarge { virtual_bytes: self.file_bytes });
        }
        Ok(match self.state {
            State::Head => Step::Read(0..HEAD_BYTES.min(self.file_bytes)),
            State::Tail => Step::Read(self.file_bytes.saturating_sub(TAIL_BYTES)..self.file_bytes),
            State::Done => Step::Accepted(Facts { virtual_bytes: self.file_bytes }),
        })
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match self.state {
            State::Head => {
                let found =
                    HEAD_MARKS.iter().find(|(at, mark, _)| bytes.get(*at..).is_some_and(|b| b.starts_with(mark)));
                if let Some((_, _, found)) = found {
                    return Err(Refusal::NotRaw { found });
                }
                self.state = State::Tail;
            }
            State::Tail => {
                if bytes.starts_with(b"conectix") {
                    return Err(Refusal::NotRaw { found: "VHD" });
                }
                self.state = State::Done;
            }
            State::Done => {}
        }
        Ok(())
    }
}
