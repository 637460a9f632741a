//! The placement API as far as it reads: who has what to give, and who holds it.
//!
//! For administrators. Handlers read the view and write what Placement's clients expect; [`versions`] says what is
//! spoken.
//!
//! Deliberately absent: every way to change something, and candidates. Claims belong to the works that made them; a
//! second writer would break the books. Such requests answer 405 where the path is known, 404 elsewhere.

mod catalog;
mod holdings;
mod providers;
mod versions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Microversion, Routes};
use store::View;

/// The oldest version, spoken with clients that name none.
pub const VERSION_MIN: Microversion = Microversion(1, 0);
/// The newest version whose meaning is kept for everything that is served here.
pub const VERSION_MAX: Microversion = Microversion(1, 39);

/// All routes: for `/placement`.
pub fn routes() -> Routes<Arc<View>> {
    Routes::new(Dialect::Placement)
        .microversions("placement", VERSION_MIN, VERSION_MAX)
        .get("/", versions::root)
        .get("/resource_providers", providers::list)
        .get("/resource_providers/{id}", providers::show)
        .get("/resource_providers/{id}/inventories", providers::inventories)
        .get("/resource_providers/{id}/inventories/{class}", providers::inventory)
        .get("/resource_providers/{id}/usages", providers::usages)
        .get("/resource_providers/{id}/allocations", holdings::of_provider)
        .get("/resource_providers/{id}/aggregates", providers::aggregates)
        .get("/resource_providers/{id}/traits", providers::traits)
        .get("/allocations/{consumer}", holdings::of_consumer)
        .get("/usages", holdings::usages)
        .get("/resource_classes", catalog::classes)
        .get("/resource_classes/{name}", catalog::class)
        .get("/traits", catalog::traits)
        .get("/traits/{name}", catalog::named)
}

/// Refuses everybody but administrators.
fn admin(caller: &Caller, rule: &str) -> Result<(), Fault> {
    if caller.is_admin() {
        return Ok(());
    }
    Err(Fault::forbidden(format!("Policy does not allow {rule} to be performed.")))
}

/// Versions before `minor` have no such path.
fn since(version: Microversion, minor: u16) -> Result<(), Fault> {
    if version.at_least(1, minor) { Ok(()) } else { Err(Fault::not_found("The resource could not be found.")) }
}
