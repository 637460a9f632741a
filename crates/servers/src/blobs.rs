//! Image content for nodes: the gRPC face of the image service.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use images::{BlobError, ImageError, ImageId, Images, IngestError, Sha256, Viewer};
use proto::image::v1 as wire;
use proto::image::v1::blobs_service_server::{BlobsService, BlobsServiceServer};
use store::View;
use tonic::{Request, Response, Status, Streaming};

use crate::workflow;

struct Service {
    images: Arc<Images>,
    view: Arc<View>,
}

/// The service over `images`; `view` tells which node may fetch and upload what.
pub fn service(images: &Arc<Images>, view: &Arc<View>) -> BlobsServiceServer<impl BlobsService + use<>> {
    BlobsServiceServer::new(Service { images: Arc::clone(images), view: Arc::clone(view) })
}

#[async_trait::async_trait]
impl BlobsService for Service {
    type FetchStream = Pin<Box<dyn Stream<Item = Result<wire::FetchResponse, Status>> + Send>>;

    async fn fetch(&self, request: Request<wire::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let node = rpc::peer_of(&request)?.name;
        let hash: Sha256 = request.into_inner().sha256.parse().map_err(|error| Status::from(rpc::Error::no(error)))?;
        let needed = self.view.read(|reader| workflow::needed_on(reader, &hash.to_string(), &node)).await;
        if !needed.map_err(|error| Status::from(rpc::Error::not_now(error)))? {
            return Err(Status::permission_denied(format!(
                "no server that is placed on the node {node} started from {hash}"
            )));
        }
        let blob = self.images.open_blob(hash, None).await.map_err(|error| Status::from(unread(error)))?;
        let pieces = blob.bytes.map(|piece| match piece {
            Ok(data) => Ok(wire::FetchResponse { data }),
            Err(error) => Err(Status::from(rpc::Error::not_now(error))),
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn upload(
        &self,
        request: Request<Streaming<wire::UploadRequest>>,
    ) -> Result<Response<wire::UploadResponse>, Status> {
        let node = rpc::peer_of(&request)?.name;
        let mut pieces = request.into_inner();
        let first = pieces.message().await?.ok_or_else(|| Status::from(rpc::Error::no("an upload without a start")))?;
        let id = ids::uuid::Uuid::from_slice(&first.image).map_err(|error| Status::from(rpc::Error::no(error)))?;
        let id = ImageId::from_uuid(id);
        let awaited = self.view.read(|reader| workflow::awaited_from(reader, id, &node)).await;
        if !awaited.map_err(|error| Status::from(rpc::Error::not_now(error)))? {
            return Err(Status::permission_denied(format!("the image {id} awaits nothing from the node {node}")));
        }
        if let Some(content) = self.images.get(&Viewer::CLOUD, id).await.ok().as_ref().and_then(images::Image::content)
        {
            // Sent again after a lost answer: the image has its content.
            return Ok(Response::new(wire::UploadResponse { sha256: content.sha256.to_string() }));
        }
        let rest = futures_util::stream::unfold(pieces, |mut pieces| async move {
            match pieces.message().await {
                Ok(Some(piece)) => Some((Ok::<Bytes, Status>(piece.data), pieces)),
                Ok(None) => None,
                Err(error) => Some((Err(error), pieces)),
            }
        });
        let body = futures_util::stream::iter([Ok(first.data)]).chain(rest);
        let image = self.images.ingest(&Viewer::CLOUD, id, None, body).await;
        let image = image.map_err(|error| Status::from(refusal(error)))?;
        let sha256 = image.content().map(|content| content.sha256.to_string()).unwrap_or_default();
        Ok(Response::new(wire::UploadResponse { sha256 }))
    }
}

fn unread(error: BlobError) -> rpc::Error {
    match error {
        BlobError::Missing { .. } | BlobError::Range { .. } => rpc::Error::no(error),
        BlobError::Full | BlobError::Failed(_) => rpc::Error::not_now(error),
    }
}

/// A node gives up what is refused, and tries again what is not possible now. Nothing here is unknown: an upload that may
/// have ended well is found out by sending it again.
fn refusal(error: IngestError) -> rpc::Error {
    match error {
        IngestError::Image(ImageError::Unavailable { .. })
        // An earlier sending is still being taken in, or has just been.
        | IngestError::NotQueued { .. }
        | IngestError::Busy { .. }
        | IngestError::Broken { .. }
        | IngestError::Idle { .. }
        | IngestError::Slow { .. }
        | IngestError::Blob(BlobError::Failed(_) | BlobError::Missing { .. }) => rpc::Error::not_now(error),
        IngestError::Image(
            ImageError::NotFound
            | ImageError::Exists
            | ImageError::Protected
            | ImageError::Change(_)
            | ImageError::Damaged(_),
        )
        | IngestError::FormatMissing { .. }
        | IngestError::TooLarge { .. }
        | IngestError::Length { .. }
        | IngestError::Refused(_)
        | IngestError::Blob(BlobError::Full | BlobError::Range { .. })
        | IngestError::Gone => rpc::Error::no(error),
    }
}
