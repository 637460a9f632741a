//! The books balance, read by somebody who had no part in it: what the ledger checks at every commit must also hold of the
//! state that a new process would read.

use super::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    audit::balance(scene.reader).iter().map(ToString::to_string).collect()
}
