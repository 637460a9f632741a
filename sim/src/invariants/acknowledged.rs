//! What a client was told came true: an accepted server is there in a final state, an accepted deletion has happened, and
//! of what was refused there is nothing.
//!
//! This is what a tenant relies on, and what losing an acknowledged commit breaks.

use std::collections::BTreeMap;

use servers::{Server, VmState};

use super::Scene;
use crate::churn::Asked;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let by_name: BTreeMap<&str, &Server> =
        scene.servers.values().map(|server| (server.name.as_str(), server)).collect();
    let mut complaints = Vec::new();
    if by_name.len() != scene.servers.len() {
        complaints.push("one request has made several servers".to_owned());
    }
    for (name, known) in &scene.oracle.servers {
        let server = by_name.get(name.as_str());
        match (server, known.create, known.delete) {
            (None, Asked::Yes, Asked::No) => complaints.push(format!("{name} was accepted and is not there")),
            (Some(_), Asked::No, _) => complaints.push(format!("{name} was refused and is there")),
            (Some(_), _, Asked::Yes) => complaints.push(format!("{name} was to be deleted and is there")),
            (Some(_) | None, _, _) => {}
        }
    }
    for (name, server) in by_name {
        if !scene.oracle.servers.contains_key(name) {
            complaints.push(format!("nobody has asked for {name}"));
        }
        match server.state {
            VmState::Building => complaints.push(format!("{name} is being built for ever")),
            VmState::Error if server.fault.is_none() => complaints.push(format!("{name} is in error without a reason")),
            VmState::Active | VmState::Stopped | VmState::Paused | VmState::Error => {}
        }
    }
    complaints
}
