//! What may come into the house from others: under which licences, once each, and with one cryptography.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Package};
use super::{Exception, except, licence};

/// Licences that ask for no more than their text being kept.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates under another licence.
const OTHERWISE_LICENSED: &[Exception] = &[];

/// Crates of which two versions are built, because two that we use ask for different ones.
const TWICE: &[Exception] = &[
    ("base64", "tonic and pem are one version apart"),
    ("block-buffer", ARGON2),
    ("cpufeatures", ARGON2),
    ("crypto-common", ARGON2),
    ("digest", ARGON2),
    ("foldhash", "comes with hashbrown"),
    ("getrandom", "ring asks for the one before last; small, and both call the kernel"),
    ("hashbrown", "protox uses petgraph, which is behind; only while building"),
    ("itertools", "prost-build is behind prost-derive; only while building"),
    ("rand_core", ARGON2),
    ("syn", "authors of derive macros are moving from one to the next; only while building"),
    ("synstructure", "comes with syn"),
];

const ARGON2: &str = "argon2's last release is of the generation of these crates before the one that md-5 and rand use";

/// A second implementation of what there is already; one provider of cryptography is enough to keep safe.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "rustls runs on ring here"),
    ("aws-lc-sys", "rustls runs on ring here"),
    ("boring", "rustls is the TLS of this house"),
    ("native-tls", "rustls is the TLS of this house"),
    ("openssl", "rustls is the TLS of this house"),
    ("openssl-sys", "rustls is the TLS of this house"),
    ("reqwest", "hyper is there already"),
];

pub(super) fn check(graph: &Graph) -> Vec<String> {
    let mut complaints = except("licences", OTHERWISE_LICENSED, graph.packages.iter().filter_map(unlicensed));
    complaints.extend(except("duplicates", TWICE, duplicates(graph)));
    for package in &graph.packages {
        if let Some((_, why)) = BANNED.iter().find(|(name, _)| *name == package.name) {
            let users = graph.packages.iter().filter(|user| user.needs(&package.name));
            let users: Vec<&str> = users.map(|user| user.name.as_str()).collect();
            complaints.push(format!("{} (for {}) is not welcome: {why}", package.name, users.join(", ")));
        }
    }
    complaints
}

fn unlicensed(package: &Package) -> Option<(String, String)> {
    let Some(stated) = &package.licence else {
        return Some((package.name.clone(), format!("{} {}: states no licence", package.name, package.version)));
    };
    let fine = licence::allowed(stated, |name| LICENCES.contains(&name));
    (!fine).then(|| (package.name.clone(), format!("{} {}: licence {stated}", package.name, package.version)))
}

fn duplicates(graph: &Graph) -> Vec<(String, String)> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &graph.packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let twice = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    twice
        .map(|(name, versions)| {
            let versions: Vec<&str> = versions.into_iter().collect();
            (name.to_owned(), format!("{name} is built in several versions: {}", versions.join(", ")))
        })
        .collect()
}
