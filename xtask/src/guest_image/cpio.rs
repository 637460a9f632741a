//! Writes the archive format that the kernel takes as initramfs: cpio, "newc". A header of 110 characters of
//! hexadecimal text, the name, the content, each padded to four bytes; a last entry says that it ends. Everything
//! belongs to root and has time 0, so the same input gives the same bytes. It does not read archives, nor knows links.

/// An archive in the making. Directories must be added before what is in them.
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    pub(super) fn new() -> Archive {
        Archive { bytes: Vec::new(), entries: 0 }
    }

    pub(super) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub(super) fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, REGULAR | mode, (0, 0), content);
    }

    pub(super) fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, CHARACTER | 0o600, (major, minor), &[]);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = if mode & DIRECTORY != 0 { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("a file of an initramfs is far below 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        // Inode, mode, owner, group, links, time, size, the device it is on, the device it is, length of the name,
        // and a checksum that this variant leaves at 0.
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks an archive as the kernel does: by the sizes in its headers.
    fn read(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let field = |at: usize, n: usize| {
            let text = std::str::from_utf8(&bytes[at + 6 + 8 * n..at + 14 + 8 * n]).unwrap();
            u32::from_str_radix(text, 16).unwrap()
        };
        let (mut at, mut found) = (0, Vec::new());
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701", "a header starts at {at}");
            let (mode, size, name_size) = (field(at, 1), field(at, 6) as usize, field(at, 11) as usize);
            let name = String::from_utf8(bytes[at + 110..at + 110 + name_size - 1].to_vec()).unwrap();
            assert_eq!(bytes[at + 110 + name_size - 1], 0);
            let content = (at + 110 + name_size).next_multiple_of(4);
            found.push((name, mode, bytes[content..content + size].to_vec()));
            at = (content + size).next_multiple_of(4);
        }
        found
    }

    #[test]
    fn what_is_written_can_be_walked() {
        let mut archive = Archive::new();
        archive.directory("dev");
        archive.character_device("dev/console", 5, 1);
        for content in ["", "a", "ab", "abc", "abcd"] {
            archive.file(&format!("f{content}"), 0o755, content.as_bytes());
        }
        let bytes = archive.finish();
        let found = read(&bytes);
        let names: Vec<&str> = found.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(names, ["dev", "dev/console", "f", "fa", "fab", "fabc", "fabcd", "TRAILER!!!"]);
        assert_eq!(found[0].1, 0o040_755);
        assert_eq!(found[1].1, 0o020_600);
        assert_eq!(found[5], ("fabc".into(), 0o100_755, b"abc".to_vec()));
        assert_eq!(bytes.len() % 4, 0);
    }
}
