//! How bytes become an image: claim, receive and measure, check, publish, commit.
//!
//! ```text
//!   queued ──claim──▶ saving(token) ── received and synced ── checked ── blob in place ──commit──▶ active
//!      ▲                  │ refused, broken off, too large, idle
//!      └──────────────────┘
//! ```
//! The claim is a compare-and-swap, so of two uploads one wins. Only the holder of the token finishes; an image that was
//! deleted meanwhile takes its blob with it. The work runs in a task of its own: a client that goes away breaks its
//! stream, and the task puts everything back.
//!
//! Killed at any point: `saving` of an earlier run becomes `queued` at the next start, and a blob that no record names is
//! removed then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use md5::Digest;

use crate::blobs::{BlobError, Received};
use crate::format::{Check, Facts, Refusal, Step};
use crate::image::{Content, DiskFormat, Image, ImageId, Sha256, Status, Upload};
use crate::rules::{ChangeError, Viewer};
use crate::service::{ImageError, Images};

/// Attempts to put an image back to `queued`, and the wait between them: the store may be busy for a moment.
const RELEASE_ATTEMPTS: u32 = 10;
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

/// Why an upload gave the image no bytes.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The image cannot be found, changed, or reached now.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It has bytes, or somebody else is uploading them.
    #[error("the image is {status}: only a queued image takes data")]
    NotQueued {
        /// What it is.
        status: &'static str,
    },
    /// Its format must be said first.
    #[error("the image has no {what} yet: set it before uploading data")]
    FormatMissing {
        /// What is missing.
        what: &'static str,
    },
    /// More uploads than this process takes at once.
    #[error("{max} uploads are running already: try again soon")]
    Busy {
        /// How many it takes.
        max: usize,
    },
    /// More bytes than allowed.
    #[error("the image is larger than {max_bytes} bytes, which is the most that is taken here")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// Other bytes than announced.
    #[error("{expected} bytes were announced, {received} came")]
    Length {
        /// What was announced.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// The sender broke off.
    #[error("the upload broke off: {reason}")]
    Broken {
        /// What the stream said.
        reason: String,
    },
    /// Nothing came for too long.
    #[error("nothing came for {} seconds", after.as_secs())]
    Idle {
        /// How long.
        after: Duration,
    },
    /// It came too slowly.
    #[error("the data did not arrive within {} minutes", within.as_secs() / 60)]
    Slow {
        /// The time that an upload has.
        within: Duration,
    },
    /// The bytes are not what they are said to be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nowhere to put them.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The image was deleted, or the upload was taken for dead.
    #[error("the image was deleted while its data was coming in")]
    Gone,
}

/// The bytes of an upload.
pub type Body = BoxStream<'static, Result<Bytes, String>>;

struct Claim {
    id: ImageId,
    token: String,
    format: DiskFormat,
}

impl Images {
    /// Gives a queued image its bytes. `announced`: how many there should be, if the sender said so.
    ///
    /// Returns when the image is active and durable. If the caller goes away, the upload ends by itself.
    pub async fn ingest<E: std::fmt::Display>(
        self: &Arc<Self>,
        viewer: &Viewer,
        id: ImageId,
        announced: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<Image, IngestError> {
        let max = self.limits.uploads_max;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| IngestError::Busy { max })?;
        if let Some(bytes) = announced
            && bytes > self.limits.upload_bytes_max
        {
            return Err(IngestError::TooLarge { max_bytes: self.limits.upload_bytes_max });
        }
        let claim = self.claim(viewer, id).await?;
        let body: Body = body.map(|item| item.map_err(|error| error.to_string())).boxed();
        let (reply, answer) = tokio::sync::oneshot::channel();
        let images = Arc::clone(self);
        self.world.spawn("image upload", async move {
            let result = images.upload(&claim, announced, body).await;
            if let Err(error) = &result {
                tracing::info!(image = %claim.id, reason = %error, "upload refused or broken off");
                images.release(&claim).await;
            }
            drop(place);
            // The caller may have gone; the outcome is in the record.
            let _gone = reply.send(result);
        });
        answer.await.unwrap_or_else(|_| Err(IngestError::Broken { reason: "the upload's task ended".into() }))
    }

    async fn claim(&self, viewer: &Viewer, id: ImageId) -> Result<Claim, IngestError> {
        let token = ids::random_uuid(&self.world).simple().to_string();
        let upload = Upload { token: token.clone(), run: self.run.clone() };
        let now = self.world.wall();
        let claimed = self
            .rewrite(viewer, id, |image| {
                viewer.may_change(image).map_err(ImageError::Change)?;
                match image.status {
                    Status::Queued => {}
                    Status::Saving(_) | Status::Active(_) | Status::Deactivated(_) => {
                        return Err(IngestError::NotQueued { status: image.status.name() });
                    }
                }
                if image.container_format.is_none() {
                    return Err(IngestError::FormatMissing { what: "container_format" });
                }
                if image.disk_format.is_none() {
                    return Err(IngestError::FormatMissing { what: "disk_format" });
                }
                Ok(Image { status: Status::Saving(upload.clone()), updated: now, ..image.clone() })
            })
            .await?;
        // The format cannot change while the image is saving.
        let format = claimed.disk_format.ok_or(IngestError::FormatMissing { what: "disk_format" })?;
        Ok(Claim { id, token, format })
    }

    async fn upload(&self, claim: &Claim, announced: Option<u64>, body: Body) -> Result<Image, IngestError> {
        let within = self.limits.upload_span_max;
        let received = self.world.timeout(within, self.receive(claim, body)).await;
        let (received, measured) = received.map_err(|_| IngestError::Slow { within })??;
        let checked = match announced {
            Some(expected) if expected != received.size_bytes => {
                Err(IngestError::Length { expected, received: received.size_bytes })
            }
            Some(_) | None => self.check(claim.format, &received).await,
        };
        match checked {
            Ok(facts) => self.publish(claim, &received, measured.content(&received, facts)).await,
            Err(error) => {
                self.blobs.discard(&received).await;
                Err(error)
            }
        }
    }

    async fn receive(&self, claim: &Claim, mut body: Body) -> Result<(Received, Measured), IngestError> {
        let mut receiver = self.blobs.receive(&claim.token).await?;
        let mut measured = Measured::default();
        let idle = self.limits.upload_idle_max;
        loop {
            let next = self.world.timeout(idle, body.next()).await;
            let bytes = match next.map_err(|_| IngestError::Idle { after: idle })? {
                Some(bytes) => bytes.map_err(|reason| IngestError::Broken { reason })?,
                None => return Ok((receiver.finish().await?, measured)),
            };
            measured.add(&bytes);
            if measured.bytes > self.limits.upload_bytes_max {
                return Err(IngestError::TooLarge { max_bytes: self.limits.upload_bytes_max });
            }
            receiver.write(&bytes).await?;
        }
    }

    async fn check(&self, format: DiskFormat, received: &Received) -> Result<Facts, IngestError> {
        let mut check = Check::new(format, received.size_bytes);
        loop {
            match check.wants()? {
                Step::Accepted(facts) => return Ok(facts),
                Step::Read(range) => check.feed(&self.blobs.read_received(received, range).await?)?,
            }
        }
    }

    async fn publish(&self, claim: &Claim, received: &Received, content: Content) -> Result<Image, IngestError> {
        let hash = content.sha256;
        // Nobody removes a blob between its arrival and the commit that names it.
        let _shelf = self.shelf.lock().await;
        if let Err(error) = self.blobs.publish(received, hash).await {
            self.blobs.discard(received).await;
            return Err(error.into());
        }
        let now = self.world.wall();
        let finished = self
            .rewrite(&Viewer::CLOUD, claim.id, |image| {
                if !holds(image, claim) {
                    return Err(IngestError::Gone);
                }
                Ok(Image { status: Status::Active(content.clone()), updated: now, ..image.clone() })
            })
            .await;
        match finished {
            Ok(image) => {
                tracing::info!(image = %image.id, blob = %hash, bytes = content.size_bytes, "image active");
                Ok(image)
            }
            Err(error) => {
                self.remove_if_unnamed(hash).await;
                let deleted = matches!(error, IngestError::Image(ImageError::NotFound));
                Err(if deleted { IngestError::Gone } else { error })
            }
        }
    }

    /// Puts the image back to `queued`, if this upload still holds it.
    async fn release(&self, claim: &Claim) {
        let now = self.world.wall();
        for _ in 0..RELEASE_ATTEMPTS {
            let released = self
                .rewrite(&Viewer::CLOUD, claim.id, |image| {
                    if !holds(image, claim) {
                        return Err(IngestError::Gone);
                    }
                    Ok(Image { status: Status::Queued, updated: now, ..image.clone() })
                })
                .await;
            match released {
                Err(IngestError::Image(ImageError::Unavailable { .. })) => self.world.sleep(RELEASE_PAUSE).await,
                Ok(_) | Err(_) => return,
            }
        }
        tracing::warn!(image = %claim.id, "the image stays in saving until the next start: the store did not answer");
    }
}

fn holds(image: &Image, claim: &Claim) -> bool {
    match &image.status {
        Status::Saving(upload) => upload.token == claim.token,
        Status::Queued | Status::Active(_) | Status::Deactivated(_) => false,
    }
}

/// Hashes that grow with the bytes.
struct Measured {
    bytes: u64,
    sha256: ring::digest::Context,
    sha512: ring::digest::Context,
    md5: md5::Md5,
}

impl Default for Measured {
    fn default() -> Measured {
        Measured {
            bytes: 0,
            sha256: ring::digest::Context::new(&ring::digest::SHA256),
            sha512: ring::digest::Context::new(&ring::digest::SHA512),
            md5: md5::Md5::new(),
        }
    }
}

impl Measured {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        self.md5.update(bytes);
    }

    fn content(self, received: &Received, facts: Facts) -> Content {
        Content {
            size_bytes: received.size_bytes,
            virtual_bytes: facts.virtual_bytes,
            sha256: Sha256(fixed(&self.sha256.finish())),
            sha512: fixed(&self.sha512.finish()),
            md5: self.md5.finalize().into(),
        }
    }
}

fn fixed<const N: usize>(digest: &ring::digest::Digest) -> [u8; N] {
    digest.as_ref().try_into().expect("each digest is asked for in its own length")
}

impl From<ChangeError> for IngestError {
    fn from(error: ChangeError) -> IngestError {
        IngestError::Image(ImageError::Change(error))
    }
}
