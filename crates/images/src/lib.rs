//! Images: records of what servers boot from, and the blobs behind them.
//!
//! An image begins as a record without bytes (`queued`). One upload at a time may give it bytes (`saving`); they are
//! measured and checked while nobody can see them, put in place under their SHA-256, made durable, and only then does a
//! commit make the image `active`. So a crash leaves an image without bytes or a blob without image, never the reverse;
//! the next start returns the first to `queued` and removes the second.
//!
//! - [`image`]: the record and its parts. [`rules`]: who may see and change what, as pure functions.
//! - [`mod@format`]: whether bytes are what they are said to be, as a pure walk.
//! - [`service`]: [`Images`], the operations; [`ingest`]: how bytes come in; [`blobs`]: where they lie.
//!
//! Deliberately absent: HTTP, and nodes. Whoever serves blobs to nodes calls [`Images::open_blob`].

pub mod blobs;
pub mod format;
pub mod image;
pub mod ingest;
mod record;
pub mod rules;
pub mod service;

pub use blobs::{Blob, BlobError, Blobs};
pub use format::Refusal;
pub use image::{
    ContainerFormat, Content, DiskFormat, Image, ImageId, Member, MemberStatus, Project, Sha256, Status, Upload,
    Visibility,
};
pub use ingest::IngestError;
pub use rules::{Change, ChangeError, Viewer};
pub use service::{ImageError, Images, Limits, OpenError, UpdateError, indexes};
