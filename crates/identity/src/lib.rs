//! Who may do what: domains, projects, users, groups, roles and their assignments, and the tokens that speak of them.
//!
//! Think of a handful of small records in the store and of signed tokens that any process can verify from its own view
//! of those records, without asking anyone.
//!
//! - [`caller`]: what a verified token says; all that the rest of the product sees of identity.
//! - [`name`]: the types of ids.
//!
//! Deliberately absent: HTTP, JSON, and policy of other services: they ask [`Caller`] for roles and scope and decide.

pub mod caller;
pub mod name;

pub use caller::{AuthError, Caller, NoProject, NotPermitted, ProjectScope, Scope};
pub use name::{BadName, DomainId, GroupId, ProjectId, RoleId, UserId};
