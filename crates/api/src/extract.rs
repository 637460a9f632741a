//! What handlers take from a request: who is calling, a bounded body, the path, the query.
//!
//! Every failure is a [`Fault`], so it is rendered in the family's dialect.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fault::{Dialect, Fault};
use crate::request::RequestCx;

/// The most bytes of a JSON body. The largest honest one is a server with 64 KiB of user data in base64.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;
/// Bodies up to here are read whatever else goes on: every honest one is smaller.
pub const SMALL_BODY_BYTES_MAX: usize = 128 * 1024;
/// What all larger bodies that are on their way to one family may take together. Who finds no room waits, within the time
/// that it has to send.
pub const LARGE_BODIES_BYTES_MAX: usize = 32 * JSON_BYTES_MAX;
/// How long a client may take to send a JSON body.
pub const JSON_READ_SPAN_MAX: std::time::Duration = std::time::Duration::from_secs(20);
/// The most bytes of a token. Ours have a few hundred.
pub const TOKEN_BYTES_MAX: usize = 4096;

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Who is calling. A request without a good token is answered with 401 before the handler runs.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<identity::Caller>);

impl Deref for Caller {
    type Target = identity::Caller;
    fn deref(&self) -> &identity::Caller {
        &self.0
    }
}

/// The token of a request, if it has one that can be one.
pub fn token_in(headers: &HeaderMap) -> Option<&str> {
    let token = headers.get(TOKEN)?.to_str().ok()?.trim();
    (!token.is_empty() && token.len() <= TOKEN_BYTES_MAX).then_some(token)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, Fault> {
        let cx = RequestCx::of(parts)?;
        let token = token_in(&parts.headers)
            .ok_or_else(|| Fault::unauthorized("The request you have made requires authentication."))?;
        Ok(Caller(cx.platform.auth.authenticate(token).await?))
    }
}

/// A JSON body: taken from a request within bounds, or written into an answer.
#[derive(Clone, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Fault;
    async fn from_request(request: Request, _state: &S) -> Result<Json<T>, Fault> {
        let (parts, body) = request.into_parts();
        let cx = RequestCx::of(&parts)?;
        check_content_type(cx.dialect, &parts.headers)?;
        let bytes = read_body(&cx, &parts.headers, body, JSON_BYTES_MAX).await?;
        parse(&bytes).map(Json)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|_| {
        // The slow way only for those who have to be told where they went wrong.
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Ok(_) => Fault::bad_request("Malformed JSON: something follows the document."),
            Err(error) if error.inner().classify() == serde_json::error::Category::Data => {
                let path = error.path().to_string();
                Fault::bad_request(format!("Invalid input for field/attribute {path}: {}", error.inner()))
            }
            Err(error) => Fault::bad_request(format!("Malformed JSON: {}", error.inner())),
        }
    })
}

fn check_content_type(dialect: Dialect, headers: &HeaderMap) -> Result<(), Fault> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return match dialect {
            Dialect::Placement => Err(Fault::bad_request("content-type header required when sending a request body")),
            Dialect::Keystone | Dialect::Nova | Dialect::Neutron | Dialect::Glance => Ok(()),
        };
    };
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    let json = essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 17 && essence.starts_with("application/") && essence.ends_with("json"));
    if json {
        return Ok(());
    }
    let message = format!("The media type {essence} is not supported, use application/json");
    match dialect {
        Dialect::Keystone => Err(Fault::bad_request(message)),
        Dialect::Nova | Dialect::Neutron | Dialect::Glance | Dialect::Placement => Err(Fault::bad_media_type(message)),
    }
}

/// Reads a whole body of at most `bytes_max`, within [`JSON_READ_SPAN_MAX`].
pub async fn read_body(cx: &RequestCx, headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, Fault> {
    let too_large = || Fault::too_large(format!("The body is larger than {bytes_max} bytes."));
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if announced.is_some_and(|length: u64| length > bytes_max as u64) {
        return Err(too_large());
    }
    let world = &cx.platform.world;
    let bytes = world
        .timeout_at(world.now() + JSON_READ_SPAN_MAX, collect(cx, body, bytes_max))
        .await
        .map_err(|_| Fault::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."))?
        .map_err(|broken| match broken {
            Broken::TooLarge => too_large(),
            Broken::Cut => Fault::bad_request("The body ended early."),
        })?;
    cx.body_read.store(true, Ordering::Relaxed);
    Ok(bytes)
}

enum Broken {
    TooLarge,
    Cut,
}

async fn collect(cx: &RequestCx, mut body: Body, bytes_max: usize) -> Result<Bytes, Broken> {
    let mut room = None;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Broken::Cut)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > bytes_max {
            return Err(Broken::TooLarge);
        }
        if room.is_none() && first.len() + rest.len() + data.len() > SMALL_BODY_BYTES_MAX {
            let wanted = u32::try_from(bytes_max.min(LARGE_BODIES_BYTES_MAX)).unwrap_or(u32::MAX);
            room = Some(cx.large_bodies.acquire_many(wanted).await.expect("the semaphore is never closed"));
            rest.reserve(bytes_max.min(JSON_BYTES_MAX) - rest.len());
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut out = Vec::with_capacity(1024);
        match serde_json::to_writer(&mut out, &self.0) {
            Ok(()) => {
                let mut response = Response::new(Body::from(out));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(error) => {
                Fault::internal(format_args!("an answer could not be written as JSON: {error}")).into_response()
            }
        }
    }
}

/// Parts of the path. One that cannot be what it should be names nothing: 404.
#[derive(Clone, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Fault> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Path(value)),
            Err(_) => Err(Fault::not_found("The resource could not be found.")),
        }
    }
}

/// The query, decoded into `T`. What does not fit is a 400.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Fault> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Query(value)),
            Err(error) => Err(Fault::bad_request(format!("Invalid query: {}", error.body_text()))),
        }
    }
}
