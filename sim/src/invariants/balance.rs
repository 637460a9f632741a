//! The books balance, read by somebody who had no part in it, and each node has what they say and nothing else.
//!
//! What the ledger checks at every commit must also hold of the state that a new process would read. What is left on a
//! node, a tap or a network as much as a guest, nobody would ever look for again.

use super::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut complaints: Vec<String> = audit::balance(scene.reader).iter().map(ToString::to_string).collect();
    for node in scene.guests.keys() {
        match audit::compare(scene.reader, node, &scene.machine.stock(node)) {
            Ok(compared) => {
                complaints.extend(compared.findings.iter().map(ToString::to_string));
                complaints.extend(compared.under_way);
            }
            Err(error) => complaints.push(format!("{node} cannot be compared: {error}")),
        }
    }
    complaints
}
