//! Looks, while the storm lasts, for guests that their node's log does not know.
//!
//! Log first, then act: nobody but the agents makes guests here, so whatever a crash leaves on a node must be in its log.
//! At the end it would not be seen any more: an order that is sent again, or an undo, cleans up behind an agent that acted
//! too early.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Storm;

/// Between two looks: shorter than it takes an agent that was started again to be given an order.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Looks until the storm is over.
pub(super) async fn run(storm: Arc<Storm>) {
    let mut told = BTreeSet::new();
    while !storm.is_over() {
        for (name, node) in storm.cell.running_nodes() {
            let strangers = node.notes().into_iter().filter(|note| !note.known);
            for guest in strangers.map(|note| note.guest).filter(|guest| told.insert(*guest)) {
                storm.complain(format!("the guest {guest} is on {name}, and its log does not know it"));
            }
        }
        storm.cell.outside.sleep(LOOK_PAUSE).await;
    }
}
