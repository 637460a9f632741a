//! The compute API, as Nova's clients speak it (v2.1 with microversions).
//!
//! Thin: a handler decodes, asks who is calling, has one function of the cloud floor decide, and encodes. [`discovery`]
//! goes to `/compute`, [`routes`] to `/compute/v2.1`.
//!
//! Images are shown to clients of the versions that had them ([`images_proxy`]). Deliberately absent: proxies for other
//! services (volumes, networks), which newer microversions removed and answer with 404 here in all of them. Actions that the cell cannot do yet answer 501: never a success that is none.

mod aggregates;
mod body;
mod common;
mod extensions;
mod fault;
mod flavors;
mod groups;
mod hypervisors;
mod images_proxy;
mod keypairs;
mod metadata;
mod quotas;
mod servers;
mod services;
mod usage;
mod versions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::servers::Servers;
use api::{Dialect, Microversion, Routes};
use identity::Identity;
use images::Images;
use names::Directory;
use networks::Networks;
use store::View;
use telemetry::Ring;
use world::World;

/// The oldest version, spoken with clients that name none.
pub const VERSION_MIN: Microversion = Microversion(2, 1);
/// The newest version whose meaning is kept for everything that is served here.
pub const VERSION_MAX: Microversion = Microversion(2, 96);

/// What all handlers are given. Share it in an [`Arc`].
pub struct Compute {
    /// Servers and what they refer to.
    pub servers: Servers,
    /// Images, for snapshots.
    pub images: Arc<Images>,
    /// Networks, for addresses.
    pub networks: Networks,
    /// Who belongs to which project, for quotas and usage.
    pub identity: Arc<Identity>,
    /// The view that all of them read.
    pub view: Arc<View>,
    /// The world of this process.
    pub world: World,
    /// Where spans go.
    pub ring: Arc<Ring>,
    /// How other processes are reached.
    pub peers: Arc<dyn rpc::Peers>,
    /// Where coordinators are found.
    pub coordinator: rpc::Target,
    /// Who is there.
    pub directory: Arc<Directory>,
}

/// The versions, without a token: for `/compute`.
pub fn discovery() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova).get("/", versions::all)
}

/// The API: for `/compute/v2.1`.
pub fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .microversions("compute", VERSION_MIN, VERSION_MAX)
        .get("/", versions::v2_1)
        .merge(servers::routes())
        .merge(flavors::routes())
        .merge(keypairs::routes())
        .merge(groups::routes())
        .merge(aggregates::routes())
        .merge(hypervisors::routes())
        .merge(services::routes())
        .merge(quotas::routes())
        .merge(usage::routes())
        .merge(extensions::routes())
        .merge(images_proxy::routes())
}
