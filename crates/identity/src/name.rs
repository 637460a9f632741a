//! Ids of identity's things: short texts, one type for each kind.
//!
//! Most are 32 hexadecimal digits; some are words, such as the domain `default`. They become parts of keys in the
//! store, so they hold no `/` and are short.

use std::fmt;

use world::World;

/// The most bytes that an id has.
pub const ID_BYTES_MAX: usize = 64;

/// A text cannot be an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: 1 to 64 letters, digits, '-', '_' or '.' are expected")]
pub struct BadName(pub String);

fn check(text: &str) -> Result<(), BadName> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
        Ok(())
    } else {
        Err(BadName(text.chars().take(ID_BYTES_MAX).collect()))
    }
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// A new id, drawn from `world`.
            pub fn random(world: &World) -> $name {
                $name(ids::random_uuid(world).simple().to_string())
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<$name, BadName> {
                check(text)?;
                Ok($name(text.to_owned()))
            }
        }
    };
}

name_id! {
    /// A domain: the namespace of users, groups and projects.
    DomainId
}
name_id! {
    /// A project: what owns servers, networks and images.
    ProjectId
}
name_id! {
    /// A user.
    UserId
}
name_id! {
    /// A group of users.
    GroupId
}
name_id! {
    /// A role.
    RoleId
}
