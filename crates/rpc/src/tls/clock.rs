//! Waiting for a time of the wall clock, such as the end of a certificate.

use std::time::Duration;

use world::{Wall, World};

/// The wall clock may be set at any time, so it is looked at now and then, whatever it said before.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Completes when the wall clock shows `when`.
pub(crate) async fn reached(world: &World, when: Wall) {
    loop {
        let left = when.as_micros().saturating_sub(world.wall().as_micros());
        if left == 0 {
            return;
        }
        world.sleep(Duration::from_micros(left).min(LOOK_EVERY)).await;
    }
}
