//! The dependency graph as cargo resolves it for the platform that Mainstay runs on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::Value;

use crate::run;

/// The only platform that is built and tested.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A crate, ours or another's.
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// What its manifest states, if anything.
    pub(super) licence: Option<String>,
    /// Ours: the floor that its manifest names, if any.
    pub(super) floor: Option<String>,
    /// Whether it is of this workspace.
    pub(super) ours: bool,
    /// The names of the crates that its manifest asks for, by the place where they are needed.
    pub(super) uses: BTreeMap<Use, BTreeSet<String>>,
}

impl Package {
    /// Whether the product needs `name` because of this crate; its own tests do not count.
    pub(super) fn needs(&self, name: &str) -> bool {
        [Use::Normal, Use::Build].iter().any(|place| self.uses.get(place).is_some_and(|names| names.contains(name)))
    }
}

/// Where a dependency is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Normal,
    Build,
    Tests,
}

/// All crates that a build of the workspace needs, ours included.
pub(super) struct Graph {
    pub(super) packages: Vec<Package>,
}

impl Graph {
    pub(super) fn read() -> anyhow::Result<Graph> {
        let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM];
        let text = run::output(&mut run::cargo(args)).context("Cargo.lock does not match the manifests")?;
        Graph::of(&serde_json::from_str(&text)?).context("cargo metadata has another shape than expected")
    }

    fn of(metadata: &Value) -> Option<Graph> {
        let members: BTreeSet<&str> =
            metadata["workspace_members"].as_array()?.iter().filter_map(Value::as_str).collect();
        let resolved: BTreeSet<&str> =
            metadata["resolve"]["nodes"].as_array()?.iter().filter_map(|node| node["id"].as_str()).collect();
        let mut packages = Vec::new();
        for package in metadata["packages"].as_array()? {
            let id = package["id"].as_str()?;
            if !resolved.contains(id) {
                continue;
            }
            let mut uses: BTreeMap<Use, BTreeSet<String>> = BTreeMap::new();
            for dependency in package["dependencies"].as_array()? {
                let place = match dependency["kind"].as_str() {
                    None => Use::Normal,
                    Some("build") => Use::Build,
                    Some(_) => Use::Tests,
                };
                uses.entry(place).or_default().insert(dependency["name"].as_str()?.to_owned());
            }
            packages.push(Package {
                name: package["name"].as_str()?.to_owned(),
                version: package["version"].as_str()?.to_owned(),
                licence: package["license"].as_str().map(str::to_owned),
                floor: package["metadata"]["floor"].as_str().map(str::to_owned),
                ours: members.contains(id),
                uses,
            });
        }
        Some(Graph { packages })
    }

    pub(super) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.ours)
    }
}
