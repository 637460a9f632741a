//! The Debian packages whose files go into the image: which ones, which versions apt would take now, and their
//! archives in a cache. Nothing is installed; apt's signed lists say what each archive must hash to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::command::{run, run_in};
use super::path;
use super::stamp::sha256;

/// The name under which the kernel's package is known here; its real name has the version in it.
pub(super) const KERNEL: &str = "linux-image-cloud-amd64";

/// All of them. README.md in `guest/` says what each is for.
const WANTED: &[&str] = &[
    KERNEL,
    "busybox-static",
    "dropbear-bin",
    "e2fsprogs",
    "libc6",
    "libcom-err2",
    "libcrypt1",
    "libext2fs2",
    "libgmp10",
    "libtomcrypt1",
    "libtommath1",
    "zlib1g",
];

/// One package at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// What it is in the image; [`KERNEL`] for the kernel, else the package's name.
    pub(super) role: String,
    pub(super) name: String,
    pub(super) version: String,
    architecture: String,
    sha256: String,
}

impl Package {
    /// The name apt gives to the downloaded archive.
    fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// Asks apt's lists for the versions to take.
pub(super) fn resolve() -> anyhow::Result<Vec<Package>> {
    let meta = show(&[KERNEL])?;
    let kernel = field(&meta, "Depends")
        .and_then(|depends| depends.split([' ', ',']).find(|word| word.starts_with("linux-image-")))
        .with_context(|| format!("the package {KERNEL} names no kernel"))?;
    let names: Vec<&str> = WANTED.iter().map(|name| if *name == KERNEL { kernel } else { *name }).collect();
    let all = show(&names)?;
    let mut packages = Vec::new();
    for (role, name) in WANTED.iter().zip(&names) {
        let stanza = all
            .split("\n\n")
            .find(|stanza| field(stanza, "Package") == Some(name))
            .with_context(|| format!("apt knows no package {name}; run `apt-get update` (Debian 12 is expected)"))?;
        let part = |key: &str| {
            field(stanza, key).map(str::to_owned).with_context(|| format!("apt's entry for {name} has no {key}"))
        };
        packages.push(Package {
            role: (*role).to_owned(),
            name: (*name).to_owned(),
            version: part("Version")?,
            architecture: part("Architecture")?,
            sha256: part("SHA256")?,
        });
    }
    Ok(packages)
}

fn show(names: &[&str]) -> anyhow::Result<String> {
    let said = run("apt-cache", ["show", "--no-all-versions"].iter().chain(names))
        .context("apt's package lists do not have what the guest image needs; run `apt-get update`")?;
    Ok(said.out)
}

/// The value of a field that stands on one line.
fn field<'a>(stanza: &'a str, key: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// The archive of a package, downloaded unless the cache has it with the right content.
pub(super) fn fetch(package: &Package, cache: &Path, progress: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(cache)?;
    let file = cache.join(package.file_name());
    if file.exists() && sha256(&file)? == package.sha256 {
        return Ok(file);
    }
    progress(&format!("downloading {} {}", package.name, package.version));
    // apt writes to a name of its own first, into a directory that only this call uses.
    let partial = cache.join(format!("partial-{}", package.name));
    fs::create_dir_all(&partial)?;
    run_in(&partial, "apt-get", ["download", "-qq", &format!("{}={}", package.name, package.version)])
        .with_context(|| format!("cannot download {}; if it is gone, run `apt-get update`", package.name))?;
    let fresh = partial.join(package.file_name());
    if sha256(&fresh)? != package.sha256 {
        bail!("the downloaded {} is not what apt's list says it is", path(&fresh)?);
    }
    fs::rename(&fresh, &file)?;
    fs::remove_dir_all(&partial)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_apt_is_read_by_whole_field_names() {
        let stanza = "Package: zlib1g\nInstalled-Size: 161\nVersion: 1:1.2.13.dfsg-1\nSize: 86684\n";
        assert_eq!(field(stanza, "Version"), Some("1:1.2.13.dfsg-1"));
        assert_eq!(field(stanza, "Size"), Some("86684"));
        assert_eq!(field(stanza, "SHA256"), None);
    }

    #[test]
    fn an_epoch_is_escaped_in_the_file_name() {
        let package = Package {
            role: "zlib1g".into(),
            name: "zlib1g".into(),
            version: "1:1.2.13.dfsg-1".into(),
            architecture: "amd64".into(),
            sha256: String::new(),
        };
        assert_eq!(package.file_name(), "zlib1g_1%3a1.2.13.dfsg-1_amd64.deb");
    }
}
