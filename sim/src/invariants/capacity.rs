//! Each provider's counters are the sum of the claims on it, and each claim has a server on that node.
//!
//! A counter that is too high is capacity lost until somebody repairs it; one that is too low overfills a node.

use std::collections::BTreeMap;

use placement::provider::used_key;
use servers::VmState;

use super::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for provider in &scene.providers {
        let mut sums: BTreeMap<&str, u64> = provider.inventories.keys().map(|class| (class.as_str(), 0)).collect();
        for claim in scene.claims.values().filter(|claim| claim.provider == provider.id) {
            for (class, amount) in &claim.resources {
                *sums.entry(class).or_default() += amount;
            }
        }
        for (class, sum) in sums {
            scene.compare(&used_key(provider.id, class), sum, &format!("claims on {}", provider.name), &mut complaints);
        }
    }
    for (guest, claim) in &scene.claims {
        let provider = scene.providers.iter().find(|provider| provider.id == claim.provider);
        let node = provider.map(|provider| provider.name.as_str());
        match scene.servers.get(guest) {
            None => complaints.push(format!("the claim of {guest} on {node:?} has no server")),
            Some(server) if server.node.as_deref() != node => {
                complaints.push(format!("{} is on {:?} and claims {node:?}", server.name, server.node));
            }
            Some(_) => {}
        }
    }
    for (guest, server) in &scene.servers {
        let built = !matches!(server.state, VmState::Building | VmState::Error);
        if built && !scene.claims.contains_key(guest) {
            complaints.push(format!("{} is on {:?} and claims nothing", server.name, server.node));
        }
    }
    complaints
}
