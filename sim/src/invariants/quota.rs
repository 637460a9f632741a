//! What a project is charged for is what it has.
//!
//! Quota is claimed when a request is accepted and returned when its server goes; whatever is returned twice or never
//! would be noticed only much later, by a tenant.

use networks::quota::Resource;
use placement::quota::used_key;

use super::Scene;
use crate::cell::PROJECT;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    let servers = || scene.servers.values();
    let cores = servers().map(|server| u64::from(server.flavor.vcpus)).sum();
    let ram = servers().map(|server| server.flavor.ram_mib).sum();
    for (resource, sum) in [("instances", servers().count() as u64), ("cores", cores), ("ram", ram)] {
        scene.compare(&used_key(PROJECT, resource), sum, "servers", &mut complaints);
    }
    let project = PROJECT.parse().expect("a plain word is an id");
    let rules = scene.groups.iter().map(|group| group.rules.len() as u64).sum();
    let counted = [
        (Resource::Port, scene.ports.len() as u64),
        (Resource::Network, scene.networks.len() as u64),
        (Resource::Subnet, scene.subnets.len() as u64),
        (Resource::SecurityGroup, scene.groups.len() as u64),
        (Resource::SecurityRule, rules),
    ];
    for (resource, sum) in counted {
        scene.compare(&resource.use_key(&project), sum, "records", &mut complaints);
    }
    complaints
}
