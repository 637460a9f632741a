//! On the nodes there is exactly what the records say, once, and as they say.
//!
//! A guest without a server costs its owner data or somebody capacity; a server without its guest is a lie; a server on
//! two nodes destroys its disk.

use std::collections::BTreeMap;

use driver::{GuestId, Observed};
use servers::{Server, VmState};

use super::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut where_is: BTreeMap<GuestId, Vec<(&str, Observed)>> = BTreeMap::new();
    for (node, guests) in &scene.guests {
        for (guest, observed) in guests {
            where_is.entry(*guest).or_default().push((node, *observed));
        }
    }
    for (guest, places) in &where_is {
        let name = scene.servers.get(guest).map_or("no server", |server| server.name.as_str());
        if places.len() > 1 {
            complaints.push(format!("{name} ({guest}) is on several nodes: {places:?}"));
        }
        if !scene.servers.contains_key(guest) {
            complaints.push(format!("the guest {guest} is left: {places:?}"));
        }
    }
    for (guest, server) in &scene.servers {
        let there = where_is.get(guest).and_then(|places| places.first()).copied();
        if let Some(complaint) = differs(server, there) {
            complaints.push(complaint);
        }
    }
    complaints
}

fn differs(server: &Server, there: Option<(&str, Observed)>) -> Option<String> {
    let agrees = match (server.state, there) {
        (VmState::Building, _) => true,
        (VmState::Error, None) => server.node.is_none(),
        (VmState::Error, Some((node, _))) => server.node.as_deref() == Some(node),
        (VmState::Active | VmState::Stopped | VmState::Paused, None) => false,
        (state, Some((node, observed))) => {
            let same = match observed {
                Observed::Running(run) => state == VmState::Active && run.0 == server.run,
                Observed::Paused(run) => state == VmState::Paused && run.0 == server.run,
                Observed::Stopped => state == VmState::Stopped,
            };
            same && server.node.as_deref() == Some(node)
        }
    };
    (!agrees).then(|| {
        format!(
            "{} is {} in run {} on {:?}, and there is {there:?}",
            server.name,
            server.vm_state(),
            server.run,
            server.node
        )
    })
}
