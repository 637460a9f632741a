//! Who may do what: domains, projects, users, groups, roles and their assignments, and the tokens that speak of them.
//!
//! Think of a handful of small records in the store, and of signed tokens that any process verifies from its own view of
//! those records, without asking anyone. A token says who, where and until when; rights are always read from the
//! records, so there are no revocation lists to distribute: what a user loses, its tokens lose.
//!
//! - [`Identity`]: the handle; [`ops`]: what can be asked of it; [`bootstrap`]: what a cloud starts with.
//! - [`record`]: what is stored. [`rights`]: what follows from it, pure. [`token`]: tokens as bytes, pure.
//! - [`login`]: getting a token. [`verify`]: from a token to a [`Caller`], all that the rest of the product sees.
//! - [`keys`]: the keys that sign tokens, and their rotation.
//! - [`password`]: argon2id on threads of its own.
//!
//! Deliberately absent: HTTP, JSON, and policy: callers ask [`Caller`] for roles and scope, and decide.

pub mod bootstrap;
mod cache;
pub mod caller;
mod check;
mod error;
mod index;
pub mod keys;
pub mod login;
pub mod name;
pub mod ops;
pub mod password;
pub mod record;
mod remove;
pub mod rights;
mod service;
pub mod token;
pub mod verify;

#[cfg(test)]
mod tests;

pub use bootstrap::BootstrapParams;
pub use caller::{AuthError, Caller, NoProject, NotPermitted, ProjectScope};
pub use error::Error;
pub use index::indexes;
pub use name::{BadName, DomainId, GroupId, ProjectId, RoleId, UserId};
pub use password::Passwords;
pub use service::{HangingOnUser, Identity, TOKEN_SPAN_MAX};
pub use verify::Verified;
