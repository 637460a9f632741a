//! No work, no journal entry, no waiting work is left, and no server is under way.
//!
//! Work that never ends keeps its claims for ever and blocks its server; a journal without its work is a leak.

use coordinator::record::PREFIX;
use store::KeyRange;

use super::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let keys = scene.reader.range(KeyRange::prefix(PREFIX.as_bytes()));
    let mut complaints: Vec<String> = keys.map(|(key, _)| format!("{key} is left")).collect();
    for server in scene.servers.values() {
        if let Some(task) = server.task {
            complaints.push(format!("{} is {} for ever", server.name, task.as_str()));
        }
    }
    complaints
}
