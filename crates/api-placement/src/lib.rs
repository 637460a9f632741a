//! The placement API as far as it reads: who has what to give, and who holds it.
//!
//! Deliberately absent: every way to change something. Claims belong to the works that made them; a second writer would
//! break the books.

mod versions;

use std::sync::Arc;

use api::{Dialect, Microversion, Routes};
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
}
