//! The product has no planted bugs: nothing that the binary needs asks for the feature that switches them on.

use anyhow::Context;

use crate::run;

/// The crate of planted bugs, and the line of `cargo tree` that says that they can be switched on.
const PLANTED: &str = "planted";
const SWITCHED: &str = "planted feature \"switches\"";

pub(super) fn check() -> anyhow::Result<Vec<String>> {
    let args = ["tree", "--locked", "-e", "normal,build,features", "-p", "mainstay", "-i", PLANTED];
    let tree = run::output(&mut run::cargo(args)).context("cargo cannot say which features the binary has")?;
    Ok(complaints(&tree))
}

fn complaints(tree: &str) -> Vec<String> {
    let switched = tree.contains(SWITCHED);
    let complaint = "mainstay: a crate that it needs switches planted bugs on; only the simulator may";
    switched.then(|| complaint.to_owned()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::complaints;

    #[test]
    fn a_product_with_switches_is_noticed() {
        assert!(complaints("planted v0.1.0\n└── planted feature \"default\"\n").is_empty());
        assert_eq!(complaints("planted v0.1.0\n├── planted feature \"switches\"\n│   └── store v0.1.0\n").len(), 1);
    }
}
