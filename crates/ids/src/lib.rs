//! Typed identifiers.
//!
//! The macro lives here; each declaration lives in the crate that owns the entity, so that a new kind of id rebuilds
//! only its users. OpenStack ids are bare UUIDs on the wire, and stay distinct types inside.

use uuid::Uuid;
use world::World;

/// A random UUID (version 4) drawn from `world`, so that a simulation draws the same ones again.
pub fn random_uuid(world: &World) -> Uuid {
    uuid::Builder::from_random_bytes(world.random()).into_uuid()
}

#[doc(hidden)]
pub use uuid;
#[doc(hidden)]
pub use world;

/// A text that should be an id is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadId(pub String);

impl std::fmt::Display for BadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is not a UUID", self.0)
    }
}

impl std::error::Error for BadId {}

/// Declares a newtype over a UUID: `uuid_id! { /// A server. pub struct ServerId; }`.
///
/// Its text form has hyphens; both forms are read, as OpenStack's clients send either (Keystone's ids have none).
#[macro_export]
macro_rules! uuid_id {
    ($(#[$doc:meta])* pub struct $name:ident;) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($crate::uuid::Uuid);

        impl $name {
            /// A new id, drawn from `world`.
            pub fn random(world: &$crate::world::World) -> Self {
                Self($crate::random_uuid(world))
            }
            /// The id with exactly these bits: for decoders and for ids derived from others.
            pub const fn from_uuid(uuid: $crate::uuid::Uuid) -> Self {
                Self(uuid)
            }
            /// The bits.
            pub const fn as_uuid(&self) -> &$crate::uuid::Uuid {
                &self.0
            }
            /// 32 hexadecimal digits without hyphens, as Keystone writes ids.
            pub fn simple(&self) -> String {
                self.0.simple().to_string()
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.hyphenated())
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::BadId;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match $crate::uuid::Uuid::try_parse(text) {
                    Ok(uuid) if text.len() == 36 || text.len() == 32 => Ok(Self(uuid)),
                    Ok(_) | Err(_) => Err($crate::BadId(text.chars().take(64).collect())),
                }
            }
        }
    };
}
