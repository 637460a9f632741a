//! Builds the guest image `tiny`: Debian's cloud kernel, busybox, dropbear and the scripts under `guest/`, as a
//! qcow2 that boots by BIOS.
//!
//! Think of it as a function from three inputs (the files under `guest/`, the versions of a few Debian packages, this
//! code) to one file; a stamp beside the file holds the inputs it was made from, and while they are the same nothing
//! is done. Every intermediate thing lives in a directory beside the result. Nothing is mounted, nothing is installed
//! on the host, and no privilege is needed: owners are written into the filesystem with debugfs.
//!
//! It does not fetch package lists (`apt-get update`), does not install [`PACKAGES`], and does not boot the result.

mod command;
mod cpio;
mod disk;
mod modules;
mod packages;
mod stamp;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use command::run;
use packages::Package;

/// The Debian packages that the host needs to build the image and to boot it.
pub(crate) const PACKAGES: &[&str] =
    &["qemu-system-x86", "qemu-utils", "mtools", "syslinux", "syslinux-common", "e2fsprogs", "gzip", "openssh-client"];

/// The image may not be larger than this, in bytes.
const LIMIT: u64 = 40 << 20;

/// Makes the image at `out` (and beside it `*.sha256`, in the format of sha256sum), unless it is there already and its
/// inputs have not changed. `progress` is told what is going on, a line at a time.
///
/// A build that is cut off leaves the previous image as it was, and the next call builds anew.
pub(crate) fn build(out: &Path, progress: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest");
    let parent = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let parent = parent.canonicalize()?;
    // A second builder waits here and then finds the work done. The lock ends with this function, or with the process.
    let lock = fs::File::create(parent.join("lock"))?;
    lock.lock().context("cannot lock the directory of the guest image")?;

    let packages = packages::resolve()?;
    let inputs = stamp::of(&guest, &packages)?;
    if stamp::is_current(out, &inputs)? {
        progress(&format!("{} is up to date", out.display()));
        return Ok(());
    }

    let work = parent.join("work");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot clear {}", work.display()))?;
    }
    fs::create_dir_all(&work)?;
    let unpacked = unpack_all(&packages, &parent.join("debs"), &work, progress)?;

    progress("writing initramfs and filesystems");
    let kernel = Kernel::find(&unpacked)?;
    let groups = modules::Groups::read(&guest.join("modules"), &kernel.modules)?;
    let initrd = work.join("initrd");
    fs::write(&initrd, initramfs(&guest, &unpacked, &groups)?)?;
    run("gzip", ["-9n".as_ref(), initrd.as_os_str()])?;

    let boot = disk::boot_filesystem(&work, &kernel.image, &work.join("initrd.gz"), &guest.join("boot/syslinux.cfg"))?;
    let entries = tree::root_filesystem(&guest, &unpacked, &packages, &groups)?;
    let root = disk::root_filesystem(&work, &entries)?;
    let raw = disk::assemble(&work, &boot, &root)?;

    progress("compressing");
    let fresh = out.with_extension("qcow2.new");
    run("qemu-img", ["convert", "-c", "-f", "raw", "-O", "qcow2", path(&raw)?, path(&fresh)?])?;
    let bytes = fs::metadata(&fresh)?.len();
    if bytes > LIMIT {
        bail!("the image has {bytes} bytes, more than the {LIMIT} it may have: something large got into guest/");
    }
    stamp::publish(&fresh, out, &inputs)?;
    fs::remove_dir_all(&work)?;
    progress(&format!("{}: {:.1} MiB", out.display(), bytes as f64 / f64::from(1 << 20)));
    Ok(())
}

/// Where each package was unpacked to.
struct Unpacked {
    dir: PathBuf,
}

impl Unpacked {
    /// A file of package `name`, by its path in that package.
    fn file(&self, name: &str, inside: &str) -> PathBuf {
        self.dir.join(name).join(inside)
    }
}

fn unpack_all(
    packages: &[Package],
    cache: &Path,
    work: &Path,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<Unpacked> {
    let dir = work.join("packages");
    for package in packages {
        let deb = packages::fetch(package, cache, progress)?;
        let target = dir.join(&package.role);
        fs::create_dir_all(&target)?;
        run("dpkg-deb", ["-x", path(&deb)?, path(&target)?])?;
    }
    Ok(Unpacked { dir })
}

/// The kernel's own files in its package.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    fn find(unpacked: &Unpacked) -> anyhow::Result<Kernel> {
        let only = |inside: &str, prefix: &str| -> anyhow::Result<PathBuf> {
            let dir = unpacked.file(packages::KERNEL, inside);
            for entry in fs::read_dir(&dir).with_context(|| format!("the kernel package has no {inside}"))? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    return Ok(entry.path());
                }
            }
            bail!("the kernel package has no {inside}/{prefix}*")
        };
        Ok(Kernel { image: only("boot", "vmlinuz-")?, modules: only("lib/modules", "")?.join("kernel") })
    }
}

/// The first root filesystem: just enough to find the real one.
fn initramfs(guest: &Path, unpacked: &Unpacked, groups: &modules::Groups) -> anyhow::Result<Vec<u8>> {
    let mut archive = cpio::Archive::new();
    for dir in ["bin", "dev", "lib", "lib/modules", "proc", "root", "sys"] {
        archive.directory(dir);
    }
    // The kernel opens it for the first process before anything can be mounted.
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, &fs::read(guest.join("initramfs/init"))?);
    archive.file("bin/busybox", 0o755, &fs::read(unpacked.file("busybox-static", "bin/busybox"))?);
    for group in [modules::Group::Root, modules::Group::RootOther] {
        archive.file(&format!("lib/modules/{}.list", group.name()), 0o644, groups.list(group).as_bytes());
    }
    for (name, file) in groups.files(&[modules::Group::Root, modules::Group::RootOther]) {
        archive.file(&format!("lib/modules/{name}.ko"), 0o644, &fs::read(file)?);
    }
    Ok(archive.finish())
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8; choose another directory", path.display()))
}
