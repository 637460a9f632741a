//! Kernel modules: which ones go in, and in which order they must be loaded. `guest/modules` names the wanted ones in
//! groups; what they depend on stands in the modules themselves ("depends=" in their information section).
//!
//! A module that the kernel has built in has no file, which is fine as a dependency and an error as a wish.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The groups of `guest/modules`; the scripts in the image load them by these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Root,
    RootOther,
    Base,
    Cdrom,
    Iso9660,
    Vfat,
}

impl Group {
    /// Those that are loaded from the root filesystem rather than from the initramfs.
    pub(super) const LATE: &[Group] = &[Group::Base, Group::Cdrom, Group::Iso9660, Group::Vfat];

    const ALL: &[Group] = &[Group::Root, Group::RootOther, Group::Base, Group::Cdrom, Group::Iso9660, Group::Vfat];

    pub(super) fn name(self) -> &'static str {
        match self {
            Group::Root => "root",
            Group::RootOther => "root-other",
            Group::Base => "base",
            Group::Cdrom => "cdrom",
            Group::Iso9660 => "iso9660",
            Group::Vfat => "vfat",
        }
    }
}

/// For each group its modules in loading order, and where each module's file is.
pub(super) struct Groups {
    order: BTreeMap<Group, Vec<String>>,
    found: BTreeMap<String, PathBuf>,
}

impl Groups {
    /// Reads the wish list and looks the modules up below `kernel`.
    pub(super) fn read(wishes: &Path, kernel: &Path) -> anyhow::Result<Groups> {
        let text = fs::read_to_string(wishes).with_context(|| format!("cannot read {}", wishes.display()))?;
        let mut found = BTreeMap::new();
        find(kernel, &mut found)?;
        let depends = |name: &str| -> anyhow::Result<Option<Vec<String>>> {
            let Some(file) = found.get(name) else { return Ok(None) };
            Ok(Some(dependencies(&fs::read(file)?)))
        };
        let order = plan(&text, depends)?;
        Ok(Groups { order, found })
    }

    /// The names of a group in loading order, one a line.
    pub(super) fn list(&self, group: Group) -> String {
        self.order[&group].iter().map(|name| format!("{name}\n")).collect()
    }

    /// Name and file of every module in these groups, each once.
    pub(super) fn files(&self, groups: &[Group]) -> BTreeMap<&str, &Path> {
        let names = groups.iter().flat_map(|group| &self.order[group]);
        names.map(|name| (name.as_str(), self.found[name].as_path())).collect()
    }
}

/// `depends` gives the direct dependencies of a module, or nothing if there is no such file.
fn plan(
    wishes: &str,
    depends: impl Fn(&str) -> anyhow::Result<Option<Vec<String>>>,
) -> anyhow::Result<BTreeMap<Group, Vec<String>>> {
    let mut order: BTreeMap<Group, Vec<String>> = Group::ALL.iter().map(|group| (*group, Vec::new())).collect();
    for line in wishes.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, wanted) = line.split_once(':').with_context(|| format!("not GROUP: MODULE...: {line}"))?;
        let group = Group::ALL.iter().find(|group| group.name() == name);
        let list = group.and_then(|group| order.get_mut(group)).with_context(|| format!("no such group: {name}"))?;
        for module in wanted.split_whitespace().map(normal) {
            if depends(&module)?.is_none() {
                bail!("this kernel has no module {module}");
            }
            visit(&module, &depends, list)?;
        }
    }
    Ok(order)
}

/// Depth first: what a module needs comes before it. The kernel's build refuses cycles, so this ends.
fn visit(
    module: &str,
    depends: &impl Fn(&str) -> anyhow::Result<Option<Vec<String>>>,
    list: &mut Vec<String>,
) -> anyhow::Result<()> {
    if list.iter().any(|have| have == module) {
        return Ok(());
    }
    let Some(needs) = depends(module)? else { return Ok(()) };
    for need in needs {
        visit(&need, depends, list)?;
    }
    list.push(module.to_owned());
    Ok(())
}

/// The "depends=" entry of a module file, a list with commas, ended by a zero byte.
fn dependencies(file: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = file.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = &file[at + KEY.len()..];
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    let text = String::from_utf8_lossy(&value[..end]);
    text.split(',').filter(|name| !name.is_empty()).map(normal).collect()
}

/// The kernel takes '-' and '_' in module names for the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn find(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            found.insert(normal(&stem), path.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny_kernel(name: &str) -> anyhow::Result<Option<Vec<String>>> {
        let needs: &[&str] = match name {
            "virtio" => &[],
            "virtio_ring" => &["virtio"],
            "virtio_pci" => &["virtio_ring", "virtio"],
            "virtio_blk" => &["virtio", "virtio_ring", "built_in"],
            _ => return Ok(None),
        };
        Ok(Some(needs.iter().map(|need| (*need).to_owned()).collect()))
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        let order = plan("# words\nroot: virtio-pci virtio_blk\n", tiny_kernel).unwrap();
        assert_eq!(order[&Group::Root], ["virtio", "virtio_ring", "virtio_pci", "virtio_blk"]);
        assert!(order[&Group::Base].is_empty());
    }

    #[test]
    fn a_wish_that_cannot_be_met_is_named() {
        assert!(plan("root: floppy", tiny_kernel).unwrap_err().to_string().contains("floppy"));
        assert!(plan("rot: virtio", tiny_kernel).unwrap_err().to_string().contains("rot"));
    }

    #[test]
    fn dependencies_are_read_from_the_module() {
        assert_eq!(dependencies(b"xx\0depends=virtio,virtio-ring\0retpoline=Y\0"), ["virtio", "virtio_ring"]);
        assert!(dependencies(b"xx\0depends=\0name=fat\0").is_empty());
    }
}
