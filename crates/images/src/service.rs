//! [`Images`]: the operations on images.
//!
//! Reads are answered by the process's view. Every change reads the record, decides, and commits against the revision
//! that it read; who loses a race reads and decides again.
//!
//! One image service owns one directory of blobs, so there is one in a cell as long as blobs lie on a local disk.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use store::{CommitError, DecodeError, Index, ReadError, Record, Txn, View};
use tokio::sync::{Mutex, Semaphore};
use world::World;

use crate::blobs::{Blob, BlobError, Blobs};
use crate::image::{Image, ImageId, Project, Sha256, Status, Visibility};
use crate::record;
use crate::rules::{self, Change, ChangeError, Viewer};

/// The index from a blob's hash to the images that name it.
const BY_BLOB: &str = "image-by-blob";
/// Rounds of reading and deciding before a change gives up: more than one needs only a race on the same image.
const ROUNDS_MAX: usize = 16;
/// How often one transaction is sent while its outcome is unknown.
const SENDS_MAX: usize = 8;

/// The indexes that a view needs for this crate.
pub fn indexes() -> Vec<Index> {
    vec![Index::new(BY_BLOB, Image::TABLE, |_, bytes| record::blob_terms(bytes))]
}

/// What one image service takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one image.
    pub upload_bytes_max: u64,
    /// Uploads at the same time; each needs about 2 MiB of memory.
    pub uploads_max: usize,
    /// How long an upload may pause.
    pub upload_idle_max: Duration,
    /// How long an upload may take: who sends a byte now and then keeps others from uploading.
    pub upload_span_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            upload_bytes_max: 64 << 30,
            uploads_max: 16,
            upload_idle_max: Duration::from_secs(60),
            upload_span_max: Duration::from_secs(4 * 3600),
        }
    }
}

/// Why the image service could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory cannot be used.
    #[error("the image directory cannot be opened")]
    Directory(#[from] std::io::Error),
    /// Its blobs cannot be listed or cleaned up.
    #[error("the image directory cannot be read")]
    Blobs(#[from] BlobError),
    /// The store does not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An upload of an earlier run cannot be put back.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Why an operation on an image did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such image, as far as the viewer can tell.
    #[error("no such image")]
    NotFound,
    /// The id is taken.
    #[error("there is an image with this id already")]
    Exists,
    /// It must be unprotected first.
    #[error("the image is protected: clear that before deleting it")]
    Protected,
    /// The rules refuse it.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The record cannot be understood.
    #[error(transparent)]
    Damaged(#[from] DecodeError),
    /// The store does not answer now, or the outcome is unknown.
    #[error("not now: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl From<ReadError> for ImageError {
    fn from(error: ReadError) -> ImageError {
        ImageError::Unavailable { reason: error.reason }
    }
}

/// Why an update did not happen.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// Whoever asked changed its mind when it saw the image.
    #[error("the wish does not fit the image")]
    Wish(E),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// The image service.
pub struct Images {
    pub(crate) world: World,
    pub(crate) view: Arc<View>,
    pub(crate) blobs: Blobs,
    pub(crate) limits: Limits,
    /// Names this run of the process in the uploads that it receives.
    pub(crate) run: String,
    pub(crate) places: Arc<Semaphore>,
    /// Held from a blob's arrival to the commit that names it, and from the last look for its names to its removal.
    pub(crate) shelf: Mutex<()>,
}

impl Images {
    /// Opens the directory of blobs, and settles what an earlier run left: its uploads, and blobs that no image names.
    pub async fn open(world: &World, view: Arc<View>, root: &Path, limits: Limits) -> Result<Arc<Images>, OpenError> {
        Images::open_over(world, view, Blobs::open(root)?, limits).await
    }

    /// The same where the blobs lie in `blobs`.
    pub async fn open_over(
        world: &World,
        view: Arc<View>,
        blobs: Blobs,
        limits: Limits,
    ) -> Result<Arc<Images>, OpenError> {
        let images = Arc::new(Images {
            world: world.clone(),
            view,
            blobs,
            limits,
            run: ids::random_uuid(world).simple().to_string(),
            places: Arc::new(Semaphore::new(limits.uploads_max)),
            shelf: Mutex::new(()),
        });
        let all = images.list(|_| true).await?;
        for image in &all {
            match &image.status {
                Status::Saving(_) => images.requeue(image.id).await?,
                Status::Queued | Status::Active(_) | Status::Deactivated(_) => {}
            }
        }
        images.compare_blobs(&all).await?;
        Ok(images)
    }

    async fn requeue(&self, id: ImageId) -> Result<(), ImageError> {
        tracing::info!(image = %id, "an upload was cut off by the end of the process: the image is queued again");
        let now = self.world.wall();
        let queued = |image: &Image| Ok(Image { status: Status::Queued, updated: now, ..image.clone() });
        self.rewrite::<ImageError>(&Viewer::CLOUD, id, queued).await.map(drop)
    }

    /// Nothing is in flight yet: a blob that no record names was never acknowledged, or its image is deleted.
    async fn compare_blobs(&self, all: &[Image]) -> Result<(), OpenError> {
        let mut blobs: BTreeMap<Sha256, u64> = self.blobs.list().await?.into_iter().collect();
        let mut unnamed: BTreeSet<Sha256> = blobs.keys().copied().collect();
        for image in all {
            let Some(content) = image.content() else { continue };
            unnamed.remove(&content.sha256);
            match blobs.get_mut(&content.sha256) {
                Some(bytes) if *bytes == content.size_bytes => {}
                Some(bytes) => {
                    tracing::error!(image = %image.id, blob = %content.sha256, bytes, expected = content.size_bytes, "the blob of an image has the wrong size: upload the image again")
                }
                None => {
                    tracing::error!(image = %image.id, blob = %content.sha256, "the blob of an image is missing: upload the image again");
                }
            }
        }
        for hash in unnamed {
            tracing::info!(blob = %hash, "removing a blob that no image names");
            self.blobs.remove(hash).await?;
        }
        Ok(())
    }

    /// The images for which `keep` says so, by id. A record that cannot be read is logged and left out.
    pub async fn list(&self, keep: impl Fn(&Image) -> bool) -> Result<Vec<Image>, ReadError> {
        self.view
            .read(|reader| {
                let readable = reader.all::<Image>().filter_map(|found| match found {
                    Ok((image, _)) => Some(image),
                    Err(error) => {
                        tracing::error!(error = %error, "an image record cannot be read");
                        None
                    }
                });
                readable.filter(keep).collect()
            })
            .await
    }

    /// One image.
    pub async fn get(&self, viewer: &Viewer, id: ImageId) -> Result<Image, ImageError> {
        let found = self.view.read(|reader| reader.get::<Image>(&id)).await??;
        found.map(|(image, _)| image).filter(|image| viewer.sees(image)).ok_or(ImageError::NotFound)
    }

    /// Creates a queued image of `owner`, as `changes` make it of an empty one that is shared with nobody. The client may
    /// have chosen its id.
    pub async fn create(
        &self,
        viewer: &Viewer,
        owner: Project,
        id: Option<ImageId>,
        changes: Vec<Change>,
    ) -> Result<Image, ImageError> {
        let now = self.world.wall();
        let empty = Image {
            id: id.unwrap_or_else(|| ImageId::random(&self.world)),
            name: None,
            owner,
            status: Status::Queued,
            visibility: Visibility::Shared,
            disk_format: None,
            container_format: None,
            min_disk_gib: 0,
            min_ram_mib: 0,
            tags: BTreeSet::new(),
            properties: BTreeMap::new(),
            protected: false,
            hidden: false,
            created: now,
            updated: now,
            members: BTreeMap::new(),
        };
        viewer.may_change(&empty)?;
        let image = rules::apply(&empty, viewer, changes, now)?;
        let mut txn = Txn::new();
        txn.create(image.key(), image.encode());
        match self.commit(txn).await? {
            Committed::Done => Ok(image),
            Committed::Lost => match self.stored(image.id).await? {
                // An unknown outcome was sent again and met itself.
                Some((there, _)) if there == image => Ok(image),
                Some(_) | None => Err(ImageError::Exists),
            },
        }
    }

    /// Changes an image as `wish` says when it sees the image; it may be asked more than once.
    pub async fn update<E>(
        &self,
        viewer: &Viewer,
        id: ImageId,
        wish: impl Fn(&Image) -> Result<Vec<Change>, E> + Send,
    ) -> Result<Image, UpdateError<E>> {
        let now = self.world.wall();
        self.rewrite(viewer, id, |image| {
            let changes = wish(image).map_err(UpdateError::Wish)?;
            rules::apply(image, viewer, changes, now).map_err(|error| UpdateError::Image(error.into()))
        })
        .await
    }

    /// Deletes an image; its blob follows if no other image names it. An upload that is running comes to nothing.
    pub async fn delete(self: &Arc<Self>, viewer: &Viewer, id: ImageId) -> Result<(), ImageError> {
        // What an earlier round tried to delete, and could not tell whether it did.
        let mut tried: Option<Image> = None;
        for _ in 0..ROUNDS_MAX {
            let Some((image, revision)) = self.stored(id).await?.filter(|(image, _)| viewer.sees(image)) else {
                let image = tried.ok_or(ImageError::NotFound)?;
                self.drop_blob_of(&image);
                return Ok(());
            };
            viewer.may_change(&image)?;
            if image.protected {
                return Err(ImageError::Protected);
            }
            let mut txn = Txn::new();
            txn.remove(image.key(), revision);
            match self.commit(txn).await? {
                Committed::Done => {
                    self.drop_blob_of(&image);
                    return Ok(());
                }
                Committed::Lost => tried = Some(image),
            }
        }
        Err(ImageError::Unavailable { reason: "the image kept changing".into() })
    }

    /// Removes the blob of a deleted image, unless another one names it. Nobody waits for that.
    fn drop_blob_of(self: &Arc<Self>, image: &Image) {
        let Some(hash) = image.content().map(|content| content.sha256) else { return };
        let images = Arc::clone(self);
        self.world.spawn("image blob removal", async move {
            let _shelf = images.shelf.lock().await;
            images.remove_if_unnamed(hash).await;
        });
    }

    /// The bytes of a blob: all of them, or a range. For downloads and for nodes; who may have them is asked before.
    pub async fn open_blob(&self, hash: Sha256, range: Option<Range<u64>>) -> Result<Blob, BlobError> {
        self.blobs.read(hash, range).await
    }

    /// Removes a blob unless an image names it. The caller holds the shelf.
    pub(crate) async fn remove_if_unnamed(&self, hash: Sha256) {
        let named = self.view.read(|reader| reader.keys_by(BY_BLOB, &hash.to_string()).next().is_some()).await;
        let removed = match named {
            Ok(true) => return,
            Ok(false) => self.blobs.remove(hash).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = removed {
            tracing::warn!(blob = %hash, reason, "a blob that no image names stays until the next start");
        }
    }

    /// Reads, decides, commits; again if somebody else was quicker.
    pub(crate) async fn rewrite<E: From<ImageError>>(
        &self,
        viewer: &Viewer,
        id: ImageId,
        decide: impl Fn(&Image) -> Result<Image, E>,
    ) -> Result<Image, E> {
        let mut tried: Option<Image> = None;
        for _ in 0..ROUNDS_MAX {
            let found = self.stored(id).await?.filter(|(image, _)| viewer.sees(image));
            let (image, revision) = found.ok_or(ImageError::NotFound)?;
            if tried.as_ref() == Some(&image) {
                // An unknown outcome was sent again and met itself.
                return Ok(image);
            }
            let next = decide(&image)?;
            let mut txn = Txn::new();
            txn.replace(image.key(), revision, next.encode());
            match self.commit(txn).await? {
                Committed::Done => return Ok(next),
                Committed::Lost => tried = Some(next),
            }
        }
        Err(E::from(ImageError::Unavailable { reason: "the image kept changing".into() }))
    }

    async fn stored(&self, id: ImageId) -> Result<Option<(Image, store::Revision)>, ImageError> {
        let entry = self.view.store().get(&Image::key_of(&id)).await?;
        Ok(entry.as_ref().map(Image::decode_entry).transpose()?)
    }

    /// Commits; while the outcome is unknown, sends the same again.
    async fn commit(&self, txn: Txn) -> Result<Committed, ImageError> {
        let mut last = String::new();
        for _ in 0..SENDS_MAX {
            match self.view.store().commit(txn.clone()).await {
                Ok(_) => return Ok(Committed::Done),
                Err(CommitError::Conflict { .. }) => return Ok(Committed::Lost),
                Err(CommitError::Unknown { reason }) => last = reason,
                Err(error @ (CommitError::NotNow { .. } | CommitError::OverLimit { .. } | CommitError::Invalid(_))) => {
                    return Err(ImageError::Unavailable { reason: error.to_string() });
                }
            }
        }
        Err(ImageError::Unavailable { reason: last })
    }
}

/// How a commit ended.
enum Committed {
    Done,
    /// A precondition did not hold: somebody was quicker, or an earlier sending of it was.
    Lost,
}
