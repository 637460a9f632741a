//! Arrows point down. Every crate says on which floor it stands; a crate may use its own floor and those below it.
//!
//! The tools (this crate, tests of whole cells, the simulation, benchmarks) stand beside the house: they may use all
//! of it, and nothing uses them.

use std::collections::BTreeMap;

use super::graph::{Graph, Package};

/// From the bottom up; the order of the variants is the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Floor {
    Ground,
    Cloud,
    Openstack,
    Top,
    Tools,
}

impl Floor {
    fn named(name: &str) -> Option<Floor> {
        Some(match name {
            "ground" => Floor::Ground,
            "cloud" => Floor::Cloud,
            "openstack" => Floor::Openstack,
            "top" => Floor::Top,
            "tools" => Floor::Tools,
            _ => return None,
        })
    }
}

/// Crates of others that only some floors may use: each keeps something out.
const WALLS: &[(&str, &[Floor], &str)] = &[
    ("axum", &[Floor::Openstack, Floor::Top, Floor::Tools], "HTTP stays out of what decides"),
    ("anyhow", &[Floor::Top, Floor::Tools], "callers must tell `no`, `not now` and `unknown outcome` apart"),
    ("clap", &[Floor::Top, Floor::Tools], "only the binary has arguments"),
    ("rusqlite", &[Floor::Ground, Floor::Tools], "the store's engine is behind its port"),
    ("tonic", &[Floor::Ground, Floor::Cloud, Floor::Top, Floor::Tools], "the HTTP APIs call functions, not services"),
];

pub(super) fn check(graph: &Graph) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut floors = BTreeMap::new();
    for package in graph.ours() {
        match package.floor.as_deref().and_then(Floor::named) {
            Some(floor) => {
                floors.insert(package.name.as_str(), floor);
            }
            None => complaints.push(format!(
                "{}: Cargo.toml names no floor ([package.metadata] floor = \"ground\", cloud, openstack, top or tools)",
                package.name
            )),
        }
    }
    for package in graph.ours() {
        let Some(floor) = floors.get(package.name.as_str()) else { continue };
        for name in package.uses.values().flatten() {
            if let Some(other) = floors.get(name.as_str()) {
                complaints.extend(arrow(package, *floor, name, *other));
            }
        }
        for name in package.uses.iter().filter(|(place, _)| **place != super::graph::Use::Tests).flat_map(|(_, n)| n) {
            complaints.extend(wall(package, *floor, name));
        }
    }
    complaints
}

fn arrow(package: &Package, floor: Floor, name: &str, other: Floor) -> Option<String> {
    let up = other > floor || (other == Floor::Tools && floor != Floor::Tools);
    up.then(|| format!("{} ({floor:?}) must not use {name} ({other:?}): arrows point down", package.name))
}

fn wall(package: &Package, floor: Floor, name: &str) -> Option<String> {
    let (_, floors, why) = WALLS.iter().find(|(walled, ..)| *walled == name)?;
    (!floors.contains(&floor)).then(|| format!("{} ({floor:?}) must not use {name}: {why}", package.name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::graph::Use;
    use super::*;

    fn package(name: &str, floor: &str, uses: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            licence: None,
            floor: Some(floor.to_owned()),
            ours: true,
            uses: BTreeMap::from([(Use::Normal, uses.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())]),
        }
    }

    fn complaints(packages: Vec<Package>) -> usize {
        check(&Graph { packages }).len()
    }

    #[test]
    fn arrows_point_down() {
        let house = |uses: &[&str]| {
            vec![
                package("store", "ground", uses),
                package("servers", "cloud", &["store"]),
                package("sim", "tools", &[]),
            ]
        };
        assert_eq!(complaints(house(&[])), 0);
        assert_eq!(complaints(house(&["servers"])), 1);
        assert_eq!(complaints(house(&["sim"])), 1);
        assert_eq!(complaints(vec![package("attic", "loft", &[])]), 1);
    }

    #[test]
    fn a_wall_keeps_something_out() {
        assert_eq!(complaints(vec![package("servers", "cloud", &["axum"])]), 1);
        assert_eq!(complaints(vec![package("api", "openstack", &["axum"])]), 0);
    }
}
