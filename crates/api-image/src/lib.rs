//! The image API: Glance v2 as its clients use it, over the cloud floor's `images`.
//!
//! - [`versions`] and [`schemas`]: what clients read first. `wire`: an image as JSON, and its attributes from JSON.
//! - [`records`]: create, show, update, delete, tags, withhold. [`list`]: filters, order, pages.
//! - [`patch`]: JSON patch, in both forms that clients send. [`data`]: bytes in and out. [`members`]: sharing.
//!
//! The newest version that is announced is 2.9. Import exists as far as a client may ask for its methods: there are none.
//!
//! Deliberately absent: several stores, locations, tasks, caching, metadata definitions. Their paths answer 404.

pub mod data;
mod fault;
pub mod list;
pub mod members;
pub mod patch;
pub mod records;
pub mod schemas;
pub mod versions;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::{Dialect, Routes};
use images::{Images, Project, Viewer};

/// All routes of the family. They stand behind `/image`.
pub fn routes() -> Routes<Arc<Images>> {
    Routes::new(Dialect::Glance)
        .get("/", versions::root)
        .get("/versions", versions::versions)
        .get("/v2", versions::versions)
        .get("/v2/", versions::versions)
        .get("/v2/info/import", versions::import_methods)
        .get("/v2/schemas/{name}", schemas::show)
        .get("/v2/images", list::list)
        .post("/v2/images", records::create)
        .get("/v2/images/{id}", records::show)
        .patch("/v2/images/{id}", patch::update)
        .delete("/v2/images/{id}", records::delete)
        .get("/v2/images/{id}/file", data::download)
        .put("/v2/images/{id}/file", data::upload)
        .put("/v2/images/{id}/tags/{tag}", records::add_tag)
        .delete("/v2/images/{id}/tags/{tag}", records::remove_tag)
        .post("/v2/images/{id}/actions/deactivate", records::deactivate)
        .post("/v2/images/{id}/actions/reactivate", records::reactivate)
        .get("/v2/images/{id}/tasks", records::tasks)
        .get("/v2/images/{id}/members", members::list)
        .post("/v2/images/{id}/members", members::add)
        .get("/v2/images/{id}/members/{member}", members::show)
        .put("/v2/images/{id}/members/{member}", members::answer)
        .delete("/v2/images/{id}/members/{member}", members::remove)
}

/// The caller as the rules of images see one.
fn viewer(caller: &api::Caller) -> Viewer {
    Viewer {
        project: caller.project.as_ref().map(|scope| Project::new(scope.id.as_str())),
        admin: caller.is_admin(),
        writes: caller.is_admin() || caller.has_role("member"),
    }
}
