//! What identity keeps: small records, each with a table of its own, and the keys that make names unique.
//!
//! The stored form is protobuf; the only conversions between it and these types are in this module's files.

pub mod access;
pub mod catalog;
pub mod people;
pub mod secret;

pub use access::{Actor, Grant, Implication, Membership, Role, Target};
pub use catalog::{Endpoint, Interface, Region, Service};
pub use people::{Domain, Group, Project, User};
pub use secret::{ApplicationCredential, RevokedToken, TokenKey};

use proto::identity::state::v1 as stored;
use store::{Key, Record};

/// The kinds of names that are unique, each within its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOf {
    /// Among all domains.
    Domain,
    /// Within a domain.
    Project,
    /// Within a domain.
    User,
    /// Within a domain.
    Group,
    /// Within a domain, or among the roles that are everybody's.
    Role,
    /// For a user.
    ApplicationCredential,
}

impl NameOf {
    const fn table(self) -> &'static str {
        match self {
            NameOf::Domain => "domain-name/",
            NameOf::Project => "project-name/",
            NameOf::User => "user-name/",
            NameOf::Group => "group-name/",
            NameOf::Role => "role-name/",
            NameOf::ApplicationCredential => "application-credential-name/",
        }
    }

    /// The key that holds whose name `name` is in `scope`.
    pub fn key(self, scope: &str, name: &str) -> Key {
        Key::from(format!("{}{scope}/{name}", self.table()))
    }
}

/// The value behind a name's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameClaim {
    /// The name, for people who read the store.
    pub name: String,
    /// Whose it is.
    pub id: String,
}

impl Record for NameClaim {
    // All kinds of names have the same value; their keys come from [`NameOf::key`] and never from here.
    const TABLE: &'static str = "name/";
    type Stored = stored::NameClaim;

    fn id(&self) -> String {
        self.name.clone()
    }
    fn to_stored(&self) -> stored::NameClaim {
        stored::NameClaim { name: self.name.clone(), id: self.id.clone() }
    }
    fn from_stored(stored: stored::NameClaim) -> Result<NameClaim, String> {
        Ok(NameClaim { name: stored.name, id: stored.id })
    }
}

/// The record that is rewritten whenever a right may have been taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Why.
    pub reason: String,
}

impl Epoch {
    /// Its one key.
    pub fn key_of_all() -> Key {
        Epoch::key_of(&"rights")
    }
}

impl Record for Epoch {
    const TABLE: &'static str = "identity-epoch/";
    type Stored = stored::Epoch;

    fn id(&self) -> String {
        "rights".to_owned()
    }
    fn to_stored(&self) -> stored::Epoch {
        stored::Epoch { reason: self.reason.clone() }
    }
    fn from_stored(stored: stored::Epoch) -> Result<Epoch, String> {
        Ok(Epoch { reason: stored.reason })
    }
}

/// An id out of a stored text.
fn id<T: std::str::FromStr<Err = crate::BadName>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: crate::BadName| error.to_string())
}

/// An id that may be missing, which is stored as an empty text.
fn optional<T: std::str::FromStr<Err = crate::BadName>>(text: &str) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { id(text).map(Some) }
}

fn text_of<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(String::new, T::to_string)
}
