//! No run of a guest was started twice.
//!
//! Two processes over one disk destroy it: the number of a run is raised in the node's log before each start, so a start
//! that is repeated with the same number is a defect of the agent.

use super::Scene;

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let twice = scene.machine.ran_twice();
    twice.into_iter().map(|(guest, run)| format!("the run {} of {guest} was started twice", run.0)).collect()
}
