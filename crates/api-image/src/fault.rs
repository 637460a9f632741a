//! Every error of the cloud floor meets its status here.

use api::Fault;
use http::StatusCode;
use images::{BlobError, ChangeError, ImageError, ImageId, IngestError, UpdateError};

/// The image that a path names. What is no id names nothing.
pub(crate) fn image_id(text: &str) -> Result<ImageId, Fault> {
    text.parse().map_err(|_| no_image(text))
}

fn no_image(id: &str) -> Fault {
    Fault::not_found(format!("No image found with ID {id}"))
}

pub(crate) fn image(id: ImageId) -> impl Fn(ImageError) -> Fault {
    move |error| match error {
        ImageError::NotFound => no_image(&id.to_string()),
        ImageError::Exists => Fault::conflict(format!("Image ID {id} already exists!")),
        ImageError::Protected => Fault::forbidden(format!("Image {id} is protected and cannot be deleted.")),
        ImageError::Change(error) => change(error),
        ImageError::Damaged(error) => Fault::internal(error),
        ImageError::Unavailable { reason } => Fault::unavailable(reason),
    }
}

pub(crate) fn update(id: ImageId) -> impl Fn(UpdateError<Fault>) -> Fault {
    move |error| match error {
        UpdateError::Wish(fault) => fault,
        UpdateError::Image(error) => image(id)(error),
    }
}

pub(crate) fn change(error: ChangeError) -> Fault {
    let message = error.to_string();
    match error {
        ChangeError::Forbidden
        | ChangeError::AdminOnly { .. }
        | ChangeError::HasData { .. }
        | ChangeError::Status { .. }
        | ChangeError::NotShared { .. } => Fault::forbidden(message),
        ChangeError::TooMany { .. } => Fault::too_large(message),
        ChangeError::Invalid { .. } => Fault::bad_request(message),
        ChangeError::Missing { .. } => Fault::not_found(message),
        ChangeError::MemberTwice { .. } => Fault::conflict(message),
    }
}

pub(crate) fn ingest(id: ImageId) -> impl Fn(IngestError) -> Fault {
    move |error| {
        let message = error.to_string();
        match error {
            IngestError::Image(error) => image(id)(error),
            IngestError::NotQueued { .. } => Fault::conflict(message),
            IngestError::FormatMissing { .. }
            | IngestError::Length { .. }
            | IngestError::Broken { .. }
            | IngestError::Refused(_) => Fault::bad_request(message),
            IngestError::Busy { .. } => Fault::unavailable(message),
            IngestError::TooLarge { .. } => Fault::too_large(message),
            IngestError::Idle { .. } | IngestError::Slow { .. } => Fault::new(StatusCode::REQUEST_TIMEOUT, message),
            IngestError::Blob(error) => blob(error),
            IngestError::Gone => Fault::new(StatusCode::GONE, message),
        }
    }
}

pub(crate) fn blob(error: BlobError) -> Fault {
    match error {
        BlobError::Range { size_bytes } => {
            let fault = Fault::new(StatusCode::RANGE_NOT_SATISFIABLE, error.to_string());
            match http::HeaderValue::from_str(&format!("bytes */{size_bytes}")) {
                Ok(value) => fault.header(http::header::CONTENT_RANGE, value),
                Err(_) => fault,
            }
        }
        BlobError::Full => Fault::too_large(
            "There is not enough space left for this image. Tell the operator, or upload a smaller one.",
        ),
        BlobError::Missing { hash } => Fault::internal(format_args!("the blob {hash} of an image is missing")),
        BlobError::Failed(source) => Fault::internal(format_args!("the image directory failed: {source}")),
    }
}
