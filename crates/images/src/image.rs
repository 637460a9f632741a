//! An image, as everything but the store and the wire sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use world::Wall;

ids::uuid_id! {
    /// An image.
    pub struct ImageId;
}

/// The id of a project, as identity names it. This crate compares it and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project(String);

impl Project {
    /// The project with this id.
    pub fn new(id: impl Into<String>) -> Project {
        Project(id.into())
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a blob, which is its name everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

/// A text that should be a SHA-256 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is written as 64 hexadecimal digits")]
pub struct BadHash;

impl FromStr for Sha256 {
    type Err = BadHash;
    fn from_str(text: &str) -> Result<Sha256, BadHash> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| BadHash)?;
        Ok(Sha256(hash))
    }
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// For people; need not be unique.
    pub name: Option<String>,
    /// Who owns it.
    pub owner: Project,
    /// Where it stands in its life.
    pub status: Status,
    /// Who may see it.
    pub visibility: Visibility,
    /// What its bytes are; must be said before they are uploaded.
    pub disk_format: Option<DiskFormat>,
    /// What is around the bytes; must be said before they are uploaded.
    pub container_format: Option<ContainerFormat>,
    /// A server needs at least this root disk.
    pub min_disk_gib: u32,
    /// A server needs at least this much memory.
    pub min_ram_mib: u32,
    /// Tags.
    pub tags: BTreeSet<String>,
    /// Custom properties.
    pub properties: BTreeMap<String, String>,
    /// Whether deletion is refused.
    pub protected: bool,
    /// Whether lists leave it out unless asked.
    pub hidden: bool,
    /// When it was created.
    pub created: Wall,
    /// When it was last changed.
    pub updated: Wall,
    /// Projects that it is shared with.
    pub members: BTreeMap<Project, Member>,
}

impl Image {
    /// Its bytes, if it has any: active or deactivated.
    pub fn content(&self) -> Option<&Content> {
        match &self.status {
            Status::Queued | Status::Saving(_) => None,
            Status::Active(content) | Status::Deactivated(content) => Some(content),
        }
    }
}

/// Where an image stands in its life, with what is known from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// A record without bytes.
    Queued,
    /// An upload is running.
    Saving(Upload),
    /// Its blob is durable; servers may use it.
    Active(Content),
    /// As active, but withheld from all but administrators.
    Deactivated(Content),
}

impl Status {
    /// The word that the API uses.
    pub fn name(&self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Saving(_) => "saving",
            Status::Active(_) => "active",
            Status::Deactivated(_) => "deactivated",
        }
    }
}

/// A running upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Drawn for this upload: only its holder may finish it.
    pub token: String,
    /// The run of the image service that receives it: an upload of an earlier run is dead.
    pub run: String,
}

/// The bytes of an image, as measured while they were received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Their number.
    pub size_bytes: u64,
    /// The size of the disk that a guest sees.
    pub virtual_bytes: u64,
    /// The name of the blob.
    pub sha256: Sha256,
    /// For clients.
    pub sha512: [u8; 64],
    /// For old clients.
    pub md5: [u8; 16],
}

/// A project that an image is shared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its own answer.
    pub status: MemberStatus,
    /// When it was added.
    pub created: Wall,
    /// When its answer changed last.
    pub updated: Wall,
}

/// An enum whose values have names on the wire: the names once, both directions from them.
macro_rules! named {
    ($(#[$doc:meta])* pub enum $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type { $($(#[$variant_doc])* $variant),+ }

        impl $type {
            /// All of them.
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            /// The word that the API uses.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }

            /// From the word that the API uses.
            pub fn from_name(name: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

named! {
    /// Who may see an image.
    pub enum Visibility {
        /// The owner only.
        Private = "private",
        /// The owner and the members.
        Shared = "shared",
        /// Everyone who asks for it.
        Community = "community",
        /// Everyone, in every list.
        Public = "public",
    }
}

named! {
    /// What the bytes of an image are.
    pub enum DiskFormat {
        /// The disk's bytes themselves.
        Raw = "raw",
        /// QEMU's copy-on-write format.
        Qcow2 = "qcow2",
    }
}

named! {
    /// What is around the bytes of an image.
    pub enum ContainerFormat {
        /// Nothing.
        Bare = "bare",
    }
}

named! {
    /// What a project answered to the offer of an image.
    pub enum MemberStatus {
        /// No answer yet.
        Pending = "pending",
        /// The image is in its lists.
        Accepted = "accepted",
        /// It does not want the image in its lists.
        Rejected = "rejected",
    }
}
