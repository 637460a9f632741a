//! Keystone's version 3 API over the crate `identity`: what openstackclient, openstacksdk and keystoneauth use of it.
//!
//! Handlers decode, authorize ([`policy`]), call identity once, and encode ([`shape`]). [`discovery`] goes to
//! `/identity`, [`routes`] to `/identity/v3`.
//!
//! Deliberately absent: trusts, federation, OAuth, access rules, EC2 credentials, domain configuration, limits, and
//! inherited assignments: their paths answer 404, and what a body asks for of them is refused by name.

mod assignments;
mod auth;
mod catalog;
mod credentials;
mod domains;
mod grants;
mod groups;
mod list;
mod policy;
mod projects;
mod roles;
mod shape;
mod users;
mod versions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::{Dialect, Routes};
use axum::extract::State;
use identity::Identity;

/// What all handlers are given.
pub(crate) type Cloud = State<Arc<Identity>>;

/// The versions, without a token: for `/identity`.
pub fn discovery() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone).get("/", versions::all)
}

/// The API: for `/identity/v3`.
pub fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .get("/", versions::v3)
        .merge(auth::routes())
        .merge(domains::routes())
        .merge(projects::routes())
        .merge(users::routes())
        .merge(groups::routes())
        .merge(roles::routes())
        .merge(grants::routes())
        .merge(assignments::routes())
        .merge(credentials::routes())
        .merge(catalog::routes())
}
