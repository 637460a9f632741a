//! Image content between this node and the image service.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use agent_core::ImageId;
use async_trait::async_trait;
use bytes::Bytes;
use driver::{DriverError, ImageRef, ImageSource};
use futures_util::future::{Either, select};
use proto::image::v1::blobs_service_client::BlobsServiceClient;
use proto::image::v1::{FetchRequest, UploadRequest};
use rpc::{Channel, Peers, Target, Verdict};
use telemetry::{Cx, Ring};
use tokio::sync::oneshot;

use crate::files::{Files, Pieces};

/// A transfer that takes longer is given up: whatever was wrong, it is tried anew.
const TRANSFER_MAX: Duration = Duration::from_secs(3600);

/// Moves image content for one node.
pub struct Blobs {
    ring: Arc<Ring>,
    peers: Arc<dyn Peers>,
    targets: Vec<Target>,
    files: Arc<dyn Files>,
}

/// [`Blobs`] within a trace.
pub(crate) struct Within<'a> {
    blobs: &'a Blobs,
    cx: Cx,
}

impl Blobs {
    /// Content of `files` from and to `targets`, the first that answers.
    pub fn new(ring: &Arc<Ring>, peers: &Arc<dyn Peers>, targets: &[Target], files: &Arc<dyn Files>) -> Blobs {
        let (ring, peers, files) = (Arc::clone(ring), Arc::clone(peers), Arc::clone(files));
        Blobs { ring, peers, targets: targets.to_vec(), files }
    }

    /// The same, seen in the trace of `cx`.
    pub(crate) fn within(&self, cx: Option<&Cx>) -> Within<'_> {
        Within { blobs: self, cx: self.long(cx) }
    }

    /// The trace of `cx` with a deadline of its own: who waits for an order need not wait for an image.
    fn long(&self, cx: Option<&Cx>) -> Cx {
        let deadline = self.ring.world().now() + TRANSFER_MAX;
        match cx {
            Some(cx) => Cx::continued(&self.ring, cx.trace(), cx.span_id(), cx.request().cloned(), deadline),
            None => Cx::root(&self.ring, None, deadline),
        }
    }

    fn client(&self, target: &Target, cx: &Cx) -> BlobsServiceClient<Channel> {
        BlobsServiceClient::new(self.peers.channel(target, cx))
    }

    /// Uploads the file at `path` as the content of `image`.
    pub(crate) async fn upload(&self, cx: Option<&Cx>, image: ImageId, path: &Path) -> Result<(), DriverError> {
        let (cx, mut span) = self.long(cx).span("agent.upload");
        let mut last = DriverError::Failed("no image service is known to this node".into());
        for target in &self.targets {
            match span.note(self.upload_to(target, &cx, image, path).await) {
                Ok(()) => return Ok(()),
                Err(error @ DriverError::Refused(_)) => return Err(error),
                Err(error @ DriverError::Failed(_)) => last = error,
            }
        }
        Err(last)
    }

    async fn upload_to(&self, target: &Target, cx: &Cx, image: ImageId, path: &Path) -> Result<(), DriverError> {
        let pieces = self.files.read(path).map_err(|error| unreadable(&error))?;
        let (broken, breakage) = oneshot::channel();
        let first = UploadRequest { image: Bytes::copy_from_slice(image.as_uuid().as_bytes()), data: Bytes::new() };
        let rest = futures_util::stream::unfold((pieces, Some(broken)), next_piece);
        let requests = futures_util::StreamExt::chain(futures_util::stream::iter([first]), rest);
        let mut client = self.client(target, cx);
        let call = pin!(client.upload(requests));
        let breakage = pin!(async {
            match breakage.await {
                Ok(error) => error,
                // The file was read to its end.
                Err(_) => std::future::pending().await,
            }
        });
        match select(call, breakage).await {
            Either::Left((Ok(_), _)) => Ok(()),
            Either::Left((Err(status), _)) => Err(refusal("the image service did not take the snapshot", status)),
            Either::Right((error, _)) => Err(unreadable(&error)),
        }
    }
}

type Reading = (Pieces, Option<oneshot::Sender<std::io::Error>>);

/// The next piece of an upload. Where the file cannot be read the stream stands still: its end would say that the
/// content is whole.
async fn next_piece((mut pieces, broken): Reading) -> Option<(UploadRequest, Reading)> {
    match pieces.recv().await {
        None => None,
        Some(Ok(data)) => Some((UploadRequest { image: Bytes::new(), data }, (pieces, broken))),
        Some(Err(error)) => {
            if let Some(broken) = broken {
                let _call_ended = broken.send(error);
            }
            std::future::pending().await
        }
    }
}

fn unreadable(error: &std::io::Error) -> DriverError {
    DriverError::Failed(format!("the exported disk cannot be read: {error}"))
}

fn refusal(what: &str, status: tonic::Status) -> DriverError {
    let error = rpc::Error::from(status);
    let text = format!("{what}: {}", error.reason);
    match error.verdict {
        Verdict::No => DriverError::Refused(text),
        Verdict::NotNow | Verdict::Unknown => DriverError::Failed(text),
    }
}

#[async_trait]
impl ImageSource for Within<'_> {
    async fn fetch(&self, image: &ImageRef, into: &Path) -> Result<(), DriverError> {
        let (cx, mut span) = self.cx.span("agent.fetch");
        let mut last = DriverError::Failed("no image service is known to this node".into());
        for target in &self.blobs.targets {
            match span.note(self.fetch_from(target, &cx, image, into).await) {
                Ok(()) => return Ok(()),
                // The next may have room for nothing either, but may have the image.
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Within<'_> {
    async fn fetch_from(&self, target: &Target, cx: &Cx, image: &ImageRef, into: &Path) -> Result<(), DriverError> {
        let lost = |status| refusal(&format!("image {} could not be fetched", image.sha256), status);
        let request = FetchRequest { sha256: image.sha256.clone() };
        let mut stream = self.blobs.client(target, cx).fetch(request).await.map_err(lost)?.into_inner();
        let (pieces, written) = self.blobs.files.write(into).map_err(|error| unwritable(&error))?;
        let mut bytes = 0;
        while let Some(piece) = stream.message().await.map_err(lost)? {
            bytes += piece.data.len() as u64;
            if bytes > image.size_bytes || pieces.send(piece.data).await.is_err() {
                break;
            }
        }
        drop(pieces);
        match written.await {
            Ok(Ok(())) if bytes == image.size_bytes => Ok(()),
            Ok(Ok(())) => Err(DriverError::Refused(format!(
                "image {} is corrupt: the image service sent {bytes} bytes or more, and it has {}",
                image.sha256, image.size_bytes
            ))),
            Ok(Err(error)) => Err(unwritable(&error)),
            Err(_) => Err(DriverError::Failed("the image cache's writer has ended".into())),
        }
    }
}

fn unwritable(error: &std::io::Error) -> DriverError {
    if error.kind() == std::io::ErrorKind::StorageFull {
        DriverError::Refused("no space left on the node's disk for the image".into())
    } else {
        DriverError::Failed(format!("the image cache cannot be written: {error}"))
    }
}
