//! What is in the root filesystem: a list of entries with owner and mode, put together from `guest/rootfs`, from the
//! packages and from a few directories. The list is the truth; [`super::disk`] turns it into ext4.
//!
//! Of the packages only what is needed is taken, and always their copyright files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::command::run;
use super::packages::{KERNEL, Package};
use super::{Unpacked, modules, path};

/// Where a file's bytes come from, or what else it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Copy(PathBuf),
    Text(String),
    Link(String),
}

/// One thing in the filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// User and group alike.
    pub(super) owner: u32,
}

/// All entries by their path without the leading slash; a directory sorts before what is in it.
pub(super) type Entries = BTreeMap<String, Entry>;

/// Mount points and places that the scripts write to: path, mode, owner.
const DIRECTORIES: &[(&str, u32, u32)] = &[
    ("dev", 0o755, 0),
    ("etc/dropbear", 0o700, 0),
    ("home/tiny", 0o755, 1000),
    ("mnt", 0o755, 0),
    ("proc", 0o755, 0),
    ("root", 0o700, 0),
    ("run", 0o755, 0),
    ("sys", 0o755, 0),
    ("tmp", 0o1777, 0),
    ("var/lib/tiny", 0o700, 0),
    ("var/log", 0o755, 0),
    ("var/tmp", 0o1777, 0),
];

/// Programs and libraries: package, path in it, path in the image (a library keeps the name that programs ask for).
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("dropbear-bin", "usr/sbin/dropbear", "usr/sbin/dropbear"),
    ("dropbear-bin", "usr/bin/dropbearkey", "usr/bin/dropbearkey"),
    ("dropbear-bin", "usr/bin/dbclient", "usr/bin/dbclient"),
    ("e2fsprogs", "sbin/resize2fs", "sbin/resize2fs"),
    ("libc6", "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
    ("libc6", "lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libc.so.6"),
    ("libcom-err2", "lib/x86_64-linux-gnu/libcom_err.so.2", "lib/x86_64-linux-gnu/libcom_err.so.2"),
    ("libcrypt1", "lib/x86_64-linux-gnu/libcrypt.so.1", "lib/x86_64-linux-gnu/libcrypt.so.1"),
    ("libext2fs2", "lib/x86_64-linux-gnu/libe2p.so.2", "lib/x86_64-linux-gnu/libe2p.so.2"),
    ("libext2fs2", "lib/x86_64-linux-gnu/libext2fs.so.2", "lib/x86_64-linux-gnu/libext2fs.so.2"),
    ("libgmp10", "usr/lib/x86_64-linux-gnu/libgmp.so.10", "lib/x86_64-linux-gnu/libgmp.so.10"),
    ("libtomcrypt1", "usr/lib/x86_64-linux-gnu/libtomcrypt.so.1", "lib/x86_64-linux-gnu/libtomcrypt.so.1"),
    ("libtommath1", "usr/lib/x86_64-linux-gnu/libtommath.so.1", "lib/x86_64-linux-gnu/libtommath.so.1"),
    ("zlib1g", "lib/x86_64-linux-gnu/libz.so.1", "lib/x86_64-linux-gnu/libz.so.1"),
];

/// The root filesystem of the image.
pub(super) fn root_filesystem(
    guest: &Path,
    unpacked: &Unpacked,
    packages: &[Package],
    groups: &modules::Groups,
) -> anyhow::Result<Entries> {
    let mut entries = Entries::new();
    for (at, mode, owner) in DIRECTORIES {
        add(&mut entries, at, Kind::Directory, *mode, *owner);
    }
    for (package, from, to) in PROGRAMS {
        let from = unpacked.file(package, from);
        let from = from.canonicalize().with_context(|| format!("{package} has changed: no {}", from.display()))?;
        add(&mut entries, to, Kind::Copy(from), 0o755, 0);
    }
    let busybox = unpacked.file("busybox-static", "bin/busybox");
    // Its `su` and `ping` need root; all other applets give it up before they start.
    add(&mut entries, "bin/busybox", Kind::Copy(busybox.clone()), 0o4755, 0);

    for file in files_below(&guest.join("rootfs"))? {
        let from = guest.join("rootfs").join(&file);
        let mode = match (is_executable(&from)?, path(&file)?) {
            (true, _) => 0o755,
            (false, "etc/shadow") => 0o600,
            (false, _) => 0o644,
        };
        add(&mut entries, path(&file)?, Kind::Copy(from), mode, 0);
    }

    for group in modules::Group::LATE {
        let at = format!("lib/modules/{}.list", group.name());
        add(&mut entries, &at, Kind::Text(groups.list(*group)), 0o644, 0);
    }
    for (name, from) in groups.files(modules::Group::LATE) {
        add(&mut entries, &format!("lib/modules/{name}.ko"), Kind::Copy(from.to_owned()), 0o644, 0);
    }

    let mut contents = String::new();
    for package in packages {
        contents += &format!("{} {}\n", package.name, package.version);
        let from = unpacked.file(&package.role, &format!("usr/share/doc/{}/copyright", package.name));
        let at = if package.role == KERNEL { KERNEL } else { package.name.as_str() };
        // Some packages of one source share the file by a link into another package.
        if from.is_file() {
            add(&mut entries, &format!("usr/share/doc/{at}/copyright"), Kind::Copy(from), 0o644, 0);
        }
    }
    add(&mut entries, "usr/share/doc/packages", Kind::Text(contents), 0o644, 0);

    // The image is for amd64 and so is its busybox: it can say itself which programs it plays.
    for applet in run(path(&busybox)?, ["--list-full"])?.out.lines() {
        if !entries.contains_key(applet) {
            add(&mut entries, applet, Kind::Link("/bin/busybox".into()), 0o777, 0);
        }
    }
    Ok(entries)
}

/// Adds an entry, and the directories above it that are not there yet.
fn add(entries: &mut Entries, at: &str, kind: Kind, mode: u32, owner: u32) {
    for (slash, _) in at.match_indices('/') {
        let parent = Entry { kind: Kind::Directory, mode: 0o755, owner: 0 };
        entries.entry(at[..slash].to_owned()).or_insert(parent);
    }
    entries.insert(at.to_owned(), Entry { kind, mode, owner });
}

/// All regular files below `dir`, by their path from there, in order.
pub(super) fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut open, mut files) = (vec![PathBuf::new()], Vec::new());
    while let Some(inside) = open.pop() {
        let here = dir.join(&inside);
        for entry in fs::read_dir(&here).with_context(|| format!("cannot list {}", here.display()))? {
            let entry = entry?;
            let child = inside.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(child);
            } else {
                files.push(child);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// True if its owner may execute the file; that much of a mode survives in git.
pub(super) fn is_executable(file: &Path) -> anyhow::Result<bool> {
    Ok(fs::metadata(file)?.permissions().mode() & 0o100 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_before_what_is_in_it_and_keeps_its_own_owner() {
        let mut entries = Entries::new();
        add(&mut entries, "home/tiny", Kind::Directory, 0o700, 1000);
        add(&mut entries, "home/tiny/a/b", Kind::Text("x".into()), 0o644, 0);
        let paths: Vec<&str> = entries.keys().map(String::as_str).collect();
        assert_eq!(paths, ["home", "home/tiny", "home/tiny/a", "home/tiny/a/b"]);
        assert_eq!((entries["home/tiny"].owner, entries["home/tiny"].mode), (1000, 0o700));
        assert_eq!(entries["home"].owner, 0);
    }
}
