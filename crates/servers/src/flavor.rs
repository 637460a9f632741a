//! Flavors: sizes of servers.

use std::collections::{BTreeMap, BTreeSet};

use identity::ProjectId;

/// A size of servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flavor {
    /// Its id.
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub ram_mib: u64,
    /// Root disk in GiB; 0: as large as the image.
    pub disk_gib: u64,
    /// Further disk in GiB.
    pub ephemeral_gib: u64,
    /// Swap in MiB.
    pub swap_mib: u64,
    /// Network factor in thousandths.
    pub rxtx_milli: u32,
    /// Whether all projects may use it.
    pub public: bool,
    /// Whether it may not be used for new servers.
    pub disabled: bool,
    /// Its description.
    pub description: Option<String>,
    /// Extra specs.
    pub extra_specs: BTreeMap<String, String>,
    /// Projects that may use it if it is not public.
    pub access: BTreeSet<ProjectId>,
}

impl Flavor {
    /// A public flavor with nothing special about it.
    pub fn plain(id: &str, name: &str, vcpus: u32, ram_mib: u64, disk_gib: u64) -> Flavor {
        Flavor {
            id: id.to_owned(),
            name: name.to_owned(),
            vcpus,
            ram_mib,
            disk_gib,
            rxtx_milli: 1000,
            public: true,
            ..Flavor::default()
        }
    }

    /// Whether `project` may use it.
    pub fn usable_by(&self, project: Option<&ProjectId>) -> bool {
        self.public || project.is_some_and(|project| self.access.contains(project))
    }
}
