//! When the image must be built again. The stamp is a text: one line for each input (a file of `guest/` with its hash,
//! a package with its version, this code). It is written last, after image and checksum are in place under their
//! names, so an image with its stamp is a whole one; that the image is still the one of the checksum is looked at too.

use std::fs;
use std::path::Path;

use anyhow::Context;
use ring::digest;

use super::packages::Package;
use super::tree;

/// The code that turns inputs into the image is an input itself.
const CODE: &[&str] = &[
    include_str!("../guest_image.rs"),
    include_str!("cpio.rs"),
    include_str!("disk.rs"),
    include_str!("modules.rs"),
    include_str!("packages.rs"),
    include_str!("tree.rs"),
];

/// The stamp of what would be built now.
pub(super) fn of(guest: &Path, packages: &[Package]) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    for file in tree::files_below(guest)? {
        let executable = if tree::is_executable(&guest.join(&file))? { "x" } else { "-" };
        lines.push(format!("file {} {executable} {}", sha256(&guest.join(&file))?, file.display()));
    }
    for package in packages {
        lines.push(format!("package {} {}", package.name, package.version));
    }
    lines.push(format!("code {}", hash(CODE.concat().as_bytes())));
    Ok(lines.join("\n") + "\n")
}

/// True if `out` is whole and was made from these inputs.
pub(super) fn is_current(out: &Path, inputs: &str) -> anyhow::Result<bool> {
    let Ok(stamp) = fs::read_to_string(out.with_extension("stamp")) else { return Ok(false) };
    let Ok(sum) = fs::read_to_string(out.with_extension("sha256")) else { return Ok(false) };
    Ok(stamp == inputs && out.exists() && sum == checksum_line(out)?)
}

/// Puts the finished image in its place. The old stamp goes first: cut off anywhere, the next build starts anew.
pub(super) fn publish(fresh: &Path, out: &Path, inputs: &str) -> anyhow::Result<()> {
    let stamp = out.with_extension("stamp");
    if stamp.exists() {
        fs::remove_file(&stamp)?;
    }
    fs::rename(fresh, out)?;
    fs::write(out.with_extension("sha256"), checksum_line(out)?)?;
    fs::write(&stamp, inputs)?;
    Ok(())
}

fn checksum_line(out: &Path) -> anyhow::Result<String> {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{}  {name}\n", sha256(out)?))
}

/// The SHA-256 of a file, as hexadecimal text.
pub(super) fn sha256(file: &Path) -> anyhow::Result<String> {
    Ok(hash(&fs::read(file).with_context(|| format!("cannot read {}", file.display()))?))
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
