//! From files to a disk: a FAT filesystem with boot loader, kernel and initramfs; an ext4 filesystem with the root;
//! and the partition table that joins them. All are plain files of ours and only become a disk in the end.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::command::run;
use super::path;
use super::tree::{Entries, Kind};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// The partitions, in sectors. They start at whole MiB, as every tool likes it.
const BOOT: Partition = Partition { kind: 0x0c, active: true, start: MIB / SECTOR, length: 32 * MIB / SECTOR };
const ROOT: Partition =
    Partition { kind: 0x83, active: false, start: BOOT.start + BOOT.length, length: 95 * MIB / SECTOR };

/// By this the initramfs knows the root partition.
const ROOT_LABEL: &str = "tiny-root";

/// The code that the BIOS loads first: it looks for the active partition and goes there.
const FIRST_STAGE: &str = "/usr/lib/SYSLINUX/mbr.bin";

#[derive(Debug, Clone, Copy)]
struct Partition {
    kind: u8,
    active: bool,
    start: u64,
    length: u64,
}

/// FAT with syslinux on it.
pub(super) fn boot_filesystem(work: &Path, kernel: &Path, initrd: &Path, config: &Path) -> anyhow::Result<PathBuf> {
    let image = work.join("boot.img");
    File::create(&image)?.set_len(BOOT.length * SECTOR)?;
    let (sectors, hidden) = (BOOT.length.to_string(), BOOT.start.to_string());
    // The boot sector must know how far from the start of the disk it will be ("hidden" sectors).
    run(
        "mformat",
        ["-i", path(&image)?, "-T", &sectors, "-H", &hidden, "-h", "64", "-s", "32", "-v", "TINYBOOT", "::"],
    )?;
    for (from, to) in [(kernel, "::/vmlinuz"), (initrd, "::/initrd.gz"), (config, "::/syslinux.cfg")] {
        run("mcopy", ["-i", path(&image)?, path(from)?, to])?;
    }
    run("syslinux", ["--install", path(&image)?])?;
    Ok(image)
}

/// ext4 with these entries. The files are laid out in a directory and taken from there; who owns them is written
/// afterwards, so that it makes no difference which user builds.
pub(super) fn root_filesystem(work: &Path, entries: &Entries) -> anyhow::Result<PathBuf> {
    let (staged, image) = (work.join("root"), work.join("root.img"));
    fs::create_dir(&staged)?;
    for (at, entry) in entries {
        let to = staged.join(at);
        match &entry.kind {
            Kind::Directory => fs::create_dir(&to),
            Kind::Copy(from) => fs::copy(from, &to).map(|_| ()),
            Kind::Text(text) => fs::write(&to, text),
            Kind::Link(target) => symlink(target, &to),
        }
        .with_context(|| format!("cannot lay out {at}"))?;
        if !matches!(entry.kind, Kind::Link(_)) {
            fs::set_permissions(&to, fs::Permissions::from_mode(entry.mode))?;
        }
    }

    let blocks = (ROOT.length * SECTOR / 4096).to_string();
    let options = "root_owner=0:0,hash_seed=74696e79-0000-4000-8000-000000000000";
    run(
        "mke2fs",
        ["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-J", "size=4", "-L", ROOT_LABEL, "-E", options, "-d"]
            .into_iter()
            .chain([path(&staged)?, path(&image)?, blocks.as_str()]),
    )?;

    let orders = work.join("owners");
    fs::write(&orders, owner_orders(entries))?;
    let said = run("debugfs", ["-w", "-f", path(&orders)?, path(&image)?])?;
    // It ends with 0 whatever happens, and greets with one line.
    if let Some(complaint) = said.err.lines().find(|line| !line.starts_with("debugfs ")) {
        bail!("debugfs could not set the owner of every file: {complaint}");
    }
    run("e2fsck", ["-f", "-n", path(&image)?]).context("the root filesystem that was just made is broken")?;
    Ok(image)
}

/// What debugfs shall do: set user and group of every entry.
fn owner_orders(entries: &Entries) -> String {
    let order = |(at, owner): (&String, u32)| {
        format!("set_inode_field \"/{at}\" uid {owner}\nset_inode_field \"/{at}\" gid {owner}\n")
    };
    entries.iter().map(|(at, entry)| order((at, entry.owner))).collect()
}

/// The disk: first sector, boot filesystem, root filesystem.
pub(super) fn assemble(work: &Path, boot: &Path, root: &Path) -> anyhow::Result<PathBuf> {
    let raw = work.join("disk.raw");
    let code = fs::read(FIRST_STAGE).with_context(|| format!("no {FIRST_STAGE}; is syslinux-common installed?"))?;
    let mut disk = File::create(&raw)?;
    disk.set_len((ROOT.start + ROOT.length) * SECTOR)?;
    disk.write_all(&first_sector(&code, &[BOOT, ROOT]))?;
    for (partition, image) in [(BOOT, boot), (ROOT, root)] {
        disk.seek(SeekFrom::Start(partition.start * SECTOR))?;
        std::io::copy(&mut File::open(image)?, &mut disk)?;
    }
    Ok(raw)
}

/// The master boot record: 440 bytes of code, a disk signature, four entries of 16 bytes, and 55 AA.
fn first_sector(code: &[u8], partitions: &[Partition]) -> [u8; SECTOR as usize] {
    let mut sector = [0; SECTOR as usize];
    let code = &code[..code.len().min(440)];
    sector[..code.len()].copy_from_slice(code);
    sector[440..444].copy_from_slice(b"tiny");
    for (entry, partition) in sector[446..510].chunks_exact_mut(16).zip(partitions) {
        let sectors = |n: u64| u32::try_from(n).expect("the partitions are some MiB long").to_le_bytes();
        entry[0] = if partition.active { 0x80 } else { 0 };
        // Cylinder, head and sector cannot say where these partitions are; this value means "see the numbers below".
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[4] = partition.kind;
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&sectors(partition.start));
        entry[12..16].copy_from_slice(&sectors(partition.length));
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_image::tree::Entry;

    #[test]
    fn the_partition_table_is_what_a_bios_and_linux_read() {
        let sector = first_sector(&[0x90; 600], &[BOOT, ROOT]);
        assert_eq!(sector[439], 0x90, "the code fills its place");
        assert_eq!(&sector[440..444], b"tiny", "and not more");
        assert_eq!(&sector[446..454], &[0x80, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff]);
        assert_eq!(&sector[454..462], &[0, 8, 0, 0, 0, 0, 1, 0], "2048 sectors in, 65536 long");
        assert_eq!(&sector[462..470], &[0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
        assert_eq!(u32::from_le_bytes(sector[470..474].try_into().unwrap()), 2048 + 65536);
        // The initramfs writes a new length exactly here when the disk is larger.
        assert_eq!(u32::from_le_bytes(sector[474..478].try_into().unwrap()), 95 * 2048);
        assert_eq!(&sector[478..], [[0; 32].as_slice(), &[0x55, 0xaa]].concat());
    }

    #[test]
    fn every_entry_gets_its_owner() {
        let entry = Entry { kind: Kind::Directory, mode: 0o755, owner: 1000 };
        let orders = owner_orders(&Entries::from([("home/tiny".to_owned(), entry)]));
        assert_eq!(orders, "set_inode_field \"/home/tiny\" uid 1000\nset_inode_field \"/home/tiny\" gid 1000\n");
    }
}
