//! What is known of one request from its first byte on.

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;
use world::Mono;

use crate::family::Family;
use crate::fault::{Dialect, Fault};
use crate::microversion::Microversion;
use crate::platform::Platform;

/// How long a request may take if it does not stream a body: what it starts must be answered or refused within.
pub const REQUEST_SPAN_MAX: Duration = Duration::from_secs(60);

/// The most bytes of a request's head: its URI and all its headers. More is answered with 431.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of a request's URI. More is answered with 414.
pub const URI_BYTES_MAX: usize = 16 * 1024;

/// Refuses a head that is too large. What reads heads off the wire rounds its buffers up, so it lets pass more than this.
pub(crate) fn check_head(uri: &http::Uri, headers: &HeaderMap) -> Result<(), Fault> {
    let uri_bytes = uri.path().len() + uri.query().map_or(0, str::len);
    if uri_bytes > URI_BYTES_MAX {
        return Err(Fault::new(StatusCode::URI_TOO_LONG, format!("The URI is longer than {URI_BYTES_MAX} bytes.")));
    }
    // A colon, a blank and the end of the line stand around each.
    let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if uri_bytes + header_bytes > HEAD_BYTES_MAX {
        return Err(Fault::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("The headers are larger than {HEAD_BYTES_MAX} bytes."),
        ));
    }
    Ok(())
}

/// The facts of one request. Cloning is cheap.
#[derive(Clone)]
pub struct RequestCx(Arc<Facts>);

/// What a [`RequestCx`] derefs to.
pub struct Facts {
    /// `req-` and a UUID: drawn here, sent back in `x-openstack-request-id`, carried to everything that follows.
    pub request_id: String,
    /// The id that the caller gave to the larger thing that this request is part of.
    pub global_request_id: Option<String>,
    /// The trace and the span that the caller says it is in, by W3C Trace Context: its word only.
    pub client_trace: Option<(u128, u64)>,
    /// When the request's head had been read.
    pub received: Mono,
    /// When the answer is worth nothing any more.
    pub deadline: Mono,
    /// How this request's family writes.
    pub dialect: Dialect,
    /// The version of the API that was negotiated; families without microversions say 0.0.
    pub microversion: Microversion,
    /// The platform.
    pub platform: Arc<Platform>,
    /// Whether the whole body was read.
    pub(crate) body_read: AtomicBool,
    /// The bytes that large bodies of the family may still take.
    pub(crate) large_bodies: Arc<Semaphore>,
}

impl Deref for RequestCx {
    type Target = Facts;
    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl RequestCx {
    pub(crate) fn new(family: &Family, microversion: Microversion, headers: &HeaderMap) -> RequestCx {
        let platform = &family.platform;
        let received = platform.world.now();
        RequestCx(Arc::new(Facts {
            request_id: format!("req-{}", ids::random_uuid(&platform.world).hyphenated()),
            global_request_id: request_id_in(headers),
            client_trace: short_text(headers, "traceparent", 128).as_deref().and_then(parse_trace),
            received,
            deadline: received + REQUEST_SPAN_MAX,
            dialect: family.dialect,
            microversion,
            platform: Arc::clone(platform),
            body_read: AtomicBool::new(false),
            large_bodies: Arc::clone(&family.large_bodies),
        }))
    }

    /// The facts that the family's layer left in the request.
    pub(crate) fn of(parts: &Parts) -> Result<RequestCx, Fault> {
        parts.extensions.get::<RequestCx>().cloned().ok_or_else(|| {
            Fault::internal("a handler was reached without its family's layer: register it through Routes")
        })
    }
}

fn short_text(headers: &HeaderMap, name: &str, length_max: usize) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    (text.len() <= length_max).then(|| text.to_owned())
}

/// `00-TRACE-SPAN-FLAGS`; a later version may have more behind it.
fn parse_trace(text: &str) -> Option<(u128, u64)> {
    let mut parts = text.split('-');
    let mut digits = |length: usize| {
        let part = parts.next()?;
        let plain = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (plain && part.len() == length).then_some(part)
    };
    let (version, trace, span, _flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    (trace != 0 && span != 0).then_some((trace, span))
}

/// Only what looks like a request id is taken over, since it ends in logs.
fn request_id_in(headers: &HeaderMap) -> Option<String> {
    let text = short_text(headers, "x-openstack-request-id", 40)?;
    let uuid = text.strip_prefix("req-")?;
    let plain = uuid.len() == 36 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    plain.then_some(text)
}

impl<S: Sync> FromRequestParts<S> for RequestCx {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<RequestCx, Fault> {
        RequestCx::of(parts)
    }
}

impl<S: Sync> FromRequestParts<S> for Microversion {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Microversion, Infallible> {
        Ok(parts.extensions.get::<RequestCx>().map_or(Microversion(0, 0), |cx| cx.microversion))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_s_trace_is_taken_only_if_it_is_one() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let read = Some((0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7));
        assert_eq!(parse_trace(&format!("00-{trace}-{span}-01")), read);
        assert_eq!(parse_trace(&format!("01-{trace}-{span}-01-more")), read);
        for text in [
            String::new(),
            format!("ff-{trace}-{span}-01"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{span}"),
        ] {
            assert_eq!(parse_trace(&text), None, "{text}");
        }
    }
}
