//! Where the bytes of images lie: one directory, one file for each SHA-256.
//!
//! `incoming/` holds what is being received, `blobs/` what is whole and durable; a file moves from one to the other in
//! one step. Everything goes through `object_store` with syncing on, so that the move is on disk when it returns.
//!
//! The directory belongs to one image service. What it finds in `incoming/` at its start is its own earlier run's, and is
//! removed. Which blobs are wanted is not known here.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::{GetOptions, GetRange, GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use crate::image::Sha256;

/// Bytes that are gathered before they are written; with the write that is under way, the memory of one upload.
const PART_BYTES: usize = 1 << 20;

/// Bytes that are read at once.
const READ_BYTES: u64 = 256 << 10;

const INCOMING: &str = "incoming";
const WHOLE: &str = "blobs";

/// A blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("no blob {hash}")]
    Missing {
        /// Its name.
        hash: Sha256,
    },
    /// The range lies outside.
    #[error("the blob has {size_bytes} bytes; the range asked for lies outside")]
    Range {
        /// The blob's size.
        size_bytes: u64,
    },
    /// No space is left for it.
    #[error("no space is left for images")]
    Full,
    /// The directory of the images failed.
    #[error("the image directory failed")]
    Failed(#[source] object_store::Error),
}

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> BlobError {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            match inner.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => return BlobError::Full,
                Some(_) | None => cause = inner.source(),
            }
        }
        BlobError::Failed(error)
    }
}

/// A blob that is being read.
pub struct Blob {
    /// The size of the whole blob.
    pub size_bytes: u64,
    /// What is read of it.
    pub range: Range<u64>,
    /// The bytes of the range. It goes on to the end even if the blob is removed meanwhile.
    pub bytes: BoxStream<'static, Result<Bytes, BlobError>>,
}

/// The directory.
#[derive(Debug)]
pub struct Blobs {
    files: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// Opens or makes the directory, and removes what an earlier run was receiving.
    ///
    /// Blocks on the disk: for the start of a process.
    pub fn open(root: &Path) -> io::Result<Blobs> {
        match std::fs::remove_dir_all(root.join(INCOMING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for dir in [root.join(INCOMING), root.join(WHOLE)] {
            std::fs::create_dir_all(dir)?;
        }
        // The names just made must survive a power cut before anything below them is promised to.
        for dir in [Some(root), root.parent()].into_iter().flatten().filter(|dir| !dir.as_os_str().is_empty()) {
            File::open(dir)?.sync_all()?;
        }
        let files = LocalFileSystem::new_with_prefix(root).map_err(io::Error::other)?.with_fsync(true);
        Ok(Blobs { files: Arc::new(files) })
    }

    /// The same in `files`, which must keep what a directory keeps: what was written is durable when the call returns, and
    /// a rename happens in one step or not at all.
    pub async fn over(files: Arc<dyn ObjectStore>) -> Result<Blobs, BlobError> {
        let left: Vec<_> = files.list(Some(&object_store::path::Path::from(INCOMING))).try_collect().await?;
        for meta in left {
            files.delete(&meta.location).await?;
        }
        Ok(Blobs { files })
    }

    /// Begins to receive a blob under a name that no one else uses.
    pub async fn receive(&self, token: &str) -> Result<Receiver, BlobError> {
        let path = incoming(token);
        let upload = self.files.put_multipart(&path).await.map_err(BlobError::from)?;
        Ok(Receiver { upload, path, gathered: BytesMut::new(), total_bytes: 0 })
    }

    /// Bytes of what was received: for the check. `range` lies inside it.
    pub async fn read_received(&self, received: &Received, range: Range<u64>) -> Result<Bytes, BlobError> {
        self.files.get_range(&received.path, range).await.map_err(BlobError::from)
    }

    /// Gives what was received its name. It is durable when this returns. A blob of that name is replaced by its equal.
    pub async fn publish(&self, received: &Received, hash: Sha256) -> Result<(), BlobError> {
        self.files.rename(&received.path, &whole(hash)).await.map_err(BlobError::from)
    }

    /// Throws away what was received.
    pub async fn discard(&self, received: &Received) {
        if let Err(error) = self.files.delete(&received.path).await {
            tracing::warn!(error = %error, path = %received.path, "an upload's leftover stays until the next start");
        }
    }

    /// Removes a blob. Readers that have it open read on.
    pub async fn remove(&self, hash: Sha256) -> Result<(), BlobError> {
        match self.files.delete(&whole(hash)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::Failed(error)),
        }
    }

    /// All blobs and their sizes. Files with other names are nobody's and left alone.
    pub async fn list(&self) -> Result<Vec<(Sha256, u64)>, BlobError> {
        let found = self.files.list(Some(&object_store::path::Path::from(WHOLE)));
        found
            .try_filter_map(async |meta| {
                let hash = meta.location.filename().and_then(|name| name.parse().ok());
                Ok(hash.map(|hash| (hash, meta.size)))
            })
            .try_collect()
            .await
            .map_err(BlobError::from)
    }

    /// Opens a blob: all of it, or a range (cut at its end).
    pub async fn read(&self, hash: Sha256, range: Option<Range<u64>>) -> Result<Blob, BlobError> {
        let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
        let found = match self.files.get_opts(&whole(hash), options).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(BlobError::Missing { hash }),
            Err(error) => {
                // The one other reason that a caller can do something about is a range behind the end.
                return Err(match (range, self.files.head(&whole(hash)).await) {
                    (Some(range), Ok(meta)) if range.start >= meta.size || range.is_empty() => {
                        BlobError::Range { size_bytes: meta.size }
                    }
                    (_, Ok(_) | Err(_)) => BlobError::Failed(error),
                });
            }
        };
        let (size_bytes, range) = (found.meta.size, found.range.clone());
        let bytes = match found.payload {
            GetResultPayload::File(file, path) => read_file(file, path, range.clone()),
            GetResultPayload::Stream(bytes) => bytes.map_err(BlobError::from).boxed(),
        };
        Ok(Blob { size_bytes, range, bytes })
    }
}

/// The range of an open file. `object_store` would do the same in pieces of 8 KiB, at a quarter of the speed.
fn read_file(file: File, path: PathBuf, range: Range<u64>) -> BoxStream<'static, Result<Bytes, BlobError>> {
    let failed = move |source: io::Error| {
        BlobError::Failed(object_store::Error::Generic {
            store: "image directory",
            source: format!("{}: {source}", path.display()).into(),
        })
    };
    let pieces = futures_util::stream::try_unfold((Arc::new(file), range), async |(file, mut range)| {
        if range.is_empty() {
            return Ok(None);
        }
        let (at, bytes) = (range.start, (range.end - range.start).min(READ_BYTES));
        range.start += bytes;
        let piece = read_at(Arc::clone(&file), at, bytes).await?;
        Ok(Some((piece, (file, range))))
    });
    pieces.map_err(failed).boxed()
}

/// Beside the runtime's tasks where there is a runtime; in place in a simulation, which has none.
async fn read_at(file: Arc<File>, at: u64, bytes: u64) -> io::Result<Bytes> {
    let read = move || {
        // At most READ_BYTES.
        let mut piece = vec![0; bytes as usize];
        file.read_exact_at(&mut piece, at)?;
        Ok(Bytes::from(piece))
    };
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error))),
        Err(_) => read(),
    }
}

fn incoming(token: &str) -> object_store::path::Path {
    object_store::path::Path::from(format!("{INCOMING}/{token}"))
}

fn whole(hash: Sha256) -> object_store::path::Path {
    object_store::path::Path::from(format!("{WHOLE}/{hash}"))
}

/// A blob that is being received. Dropping it throws it away.
pub struct Receiver {
    upload: Box<dyn MultipartUpload>,
    path: object_store::path::Path,
    gathered: BytesMut,
    total_bytes: u64,
}

/// A blob that was received and is durable, but has no name yet.
#[derive(Debug)]
pub struct Received {
    path: object_store::path::Path,
    /// Its size.
    pub size_bytes: u64,
}

impl Receiver {
    /// Takes the next bytes; returns when there is room for more.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.gathered.len()));
            self.gathered.extend_from_slice(now);
            bytes = later;
            if self.gathered.len() == PART_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// No more bytes follow. Returns when all are durable.
    pub async fn finish(mut self) -> Result<Received, BlobError> {
        self.flush().await?;
        self.upload.complete().await.map_err(BlobError::from)?;
        Ok(Received { path: self.path, size_bytes: self.total_bytes })
    }

    async fn flush(&mut self) -> Result<(), BlobError> {
        let part = std::mem::replace(&mut self.gathered, BytesMut::with_capacity(PART_BYTES)).freeze();
        self.total_bytes += part.len() as u64;
        self.upload.put_part(PutPayload::from_bytes(part)).await.map_err(BlobError::from)
    }
}
