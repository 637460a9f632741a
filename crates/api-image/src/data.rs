//! The bytes of an image, in and out, never whole in memory.

use std::ops::Range;
use std::sync::Arc;

use api::{Caller, Fault, Path};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use images::{Blob, Content, Images};

use crate::{fault, viewer};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const OCTETS: &str = "application/octet-stream";

/// `PUT /v2/images/{id}/file`.
pub async fn upload(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Fault> {
    let id = fault::image_id(&id)?;
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if said.is_none_or(|said| !said.trim().eq_ignore_ascii_case(OCTETS)) {
        return Err(Fault::bad_media_type(format!("The data of an image is sent as {OCTETS}.")));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let taken = images.ingest(&viewer(&caller), id, announced, body.into_data_stream()).await;
    taken.map_err(fault::ingest(id))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v2/images/{id}/file`.
pub async fn download(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (id, viewer) = (fault::image_id(&id)?, viewer(&caller));
    let image = images.get(&viewer, id).await.map_err(fault::image(id))?;
    if !viewer.may_download(&image) {
        return Err(Fault::forbidden("The requested image has been deactivated. Image data download is forbidden."));
    }
    let Some(content) = image.content() else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    };
    let range = headers.get(header::RANGE).map(|value| wanted(value, content.size_bytes)).transpose()?.flatten();
    let partial = range.is_some();
    let blob = images.open_blob(content.sha256, range).await.map_err(fault::blob)?;
    Ok(answer(blob, content, partial))
}

fn answer(blob: Blob, content: &Content, partial: bool) -> Response {
    let length = blob.range.end - blob.range.start;
    let place = format!("bytes {}-{}/{}", blob.range.start, blob.range.end.saturating_sub(1), blob.size_bytes);
    let mut response = Response::new(Body::from_stream(blob.bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if partial {
        if let Ok(place) = HeaderValue::from_str(&place) {
            headers.insert(header::CONTENT_RANGE, place);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    } else if let Ok(md5) = HeaderValue::from_str(&hex::encode(content.md5)) {
        // Hexadecimal, as this API has always sent it, not as the header's own definition has it.
        headers.insert(CONTENT_MD5, md5);
    }
    response
}

/// The one range that is asked for. Other units are ignored, as HTTP says; several ranges at once are not served.
fn wanted(value: &HeaderValue, size_bytes: u64) -> Result<Option<Range<u64>>, Fault> {
    let outside = || fault::blob(images::BlobError::Range { size_bytes });
    let Some(ranges) = value.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Ok(None);
    };
    let Some((first, last)) = ranges.split_once('-') else { return Err(outside()) };
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| outside());
    let range = match (first.trim(), last.trim()) {
        ("", last) => size_bytes.saturating_sub(number(last)?)..size_bytes,
        (first, "") => number(first)?..size_bytes,
        (first, last) => number(first)?..number(last)?.saturating_add(1).min(size_bytes),
    };
    if range.is_empty() { Err(outside()) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &'static str, expected: Result<Option<Range<u64>>, u16>) {
        let found = wanted(&HeaderValue::from_static(text), 100).map_err(|fault| fault.status.as_u16());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn ranges_are_read() {
        check("bytes=0-9", Ok(Some(0..10)));
        check("bytes=90-", Ok(Some(90..100)));
        check("bytes=-10", Ok(Some(90..100)));
        check("bytes=50-5000", Ok(Some(50..100)));
        check("bytes=0-18446744073709551615", Ok(Some(0..100)));
        check("bytes=100-", Err(416));
        check("bytes=9-0", Err(416));
        check("bytes=-0", Err(416));
        check("bytes=0-1,5-6", Err(416));
        check("bytes=x", Err(416));
        check("lines=1-2", Ok(None));
    }
}
