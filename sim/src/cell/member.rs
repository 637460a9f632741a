//! A process among the others, as the binary puts it together: its session, the names of others, and how it calls them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use liveness::core::{Settings, Wanted};
use liveness::{Instance, Offer, Options, Session};
use names::{Balanced, Directory, Here, Listing};
use pki::{Identity, Role};
use rpc::{Peers, Target};
use telemetry::Ring;
use world::World;

use super::Cell;
use crate::exec::Process;

/// Processes are seldom asked whether they are there, since a run lasts for days; that is simulated by itself.
const ASK_EVERY: Duration = Duration::from_secs(6 * 3600);

/// What a process has joined.
pub(super) struct Member {
    pub(super) session: Arc<Session>,
    pub(super) directory: Arc<Directory>,
    pub(super) peers: Arc<dyn Peers>,
}

/// The liveness instance of `own`.
pub(super) fn instance(
    cell: &Cell,
    process: Process,
    world: &World,
    ring: &Arc<Ring>,
    own: &Identity,
) -> Arc<Instance> {
    let options = Options {
        own: own.clone(),
        settings: Settings { ask_every: ASK_EVERY, ..Settings::default() },
        peers: cell.net.peers(process, own.clone()),
        prober: cell.net.prober(&own.name),
        ring: Arc::clone(ring),
        bootstrap: cell.size.control.bootstrap(),
    };
    Instance::start(world, options)
}

/// Begins to attend.
pub(super) fn join(
    cell: &Cell,
    process: Process,
    world: &World,
    ring: &Arc<Ring>,
    own: Identity,
    roles: BTreeSet<Role>,
    watch: Wanted,
) -> Member {
    let raw = cell.net.peers(process, own.clone());
    let local = roles.contains(&Role::Liveness);
    let mut listing = Listing::new(own.clone(), roles.clone(), own.name.clone());
    listing.serving = false;
    let offer = Offer {
        listing,
        watch: Some(watch),
        local: local.then(|| Target { role: Role::Liveness, name: own.name.clone(), endpoint: String::new() }),
        bootstrap: cell.size.control.bootstrap(),
        peers: Arc::clone(&raw),
        prober: cell.net.prober(&own.name),
        ring: Arc::clone(ring),
        configured: Box::new(|_| {}),
    };
    let session = Session::start(world, offer);
    let directory = Arc::clone(session.directory());
    let here = Here { who: own, roles, zone: String::new() };
    let peers: Arc<dyn Peers> = Balanced::new(raw, &directory, here);
    Member { session, directory, peers }
}

impl Member {
    /// From now on others may call this process.
    pub(super) fn serving(&self) {
        self.session.tell(|listing| listing.serving = true);
    }
}
