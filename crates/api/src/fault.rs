//! Errors, and the dialects that they are written in.
//!
//! A [`Fault`] says what went wrong in the abstract; it becomes a body only in the layer around its family, which knows
//! the [`Dialect`] and the request's id. So shared code (extractors, stores) fails alike everywhere.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::microversion::Microversion;
use crate::request::RequestCx;

/// How an API family writes its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error": {"code", "message", "title"}}`
    Keystone,
    /// `{"itemNotFound": {"code", "message"}}`
    Nova,
    /// `{"NeutronError": {"type", "message", "detail"}}`
    Neutron,
    /// A small HTML page.
    Glance,
    /// `{"errors": [{"status", "title", "detail", "request_id"}]}`
    Placement,
}

/// An error answer: [`Details`] behind one pointer, so that results which may fail stay small.
#[derive(Clone, Debug)]
pub struct Fault(Box<Details>);

/// What a [`Fault`] derefs to.
#[derive(Clone, Debug)]
pub struct Details {
    /// The status.
    pub status: StatusCode,
    /// The dialect's own word for it (Nova's wrapper, Neutron's type, Placement's code); empty: derived from the status.
    pub kind: Cow<'static, str>,
    /// What happened and what to do, for people.
    pub message: String,
    /// Headers of the answer beyond the usual ones.
    pub headers: HeaderMap,
    /// More members for the innermost object of the body.
    pub extra: Vec<(&'static str, Value)>,
    /// A quota stands behind it: Nova and Neutron disagree about its status.
    over_quota: bool,
}

impl Deref for Fault {
    type Target = Details;
    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Fault {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl Fault {
    /// A fault with this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Fault {
        Fault(Box::new(Details {
            status,
            kind: Cow::Borrowed(""),
            message: message.into(),
            headers: HeaderMap::new(),
            extra: Vec::new(),
            over_quota: false,
        }))
    }

    /// With the dialect's own word for it.
    #[must_use]
    pub fn kind(mut self, kind: &'static str) -> Fault {
        self.kind = Cow::Borrowed(kind);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Fault {
        self.headers.insert(name, value);
        self
    }

    /// With one more member in the body.
    #[must_use]
    pub fn member(mut self, name: &'static str, value: Value) -> Fault {
        self.extra.push((name, value));
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, message)
    }
    /// 401. The layer adds where to get a token.
    pub fn unauthorized(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::UNAUTHORIZED, message)
    }
    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::FORBIDDEN, message)
    }
    /// 404.
    pub fn not_found(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::NOT_FOUND, message)
    }
    /// 409.
    pub fn conflict(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::CONFLICT, message)
    }
    /// 413.
    pub fn too_large(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }
    /// 415.
    pub fn bad_media_type(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }
    /// A quota is used up: 403, but 409 where Neutron is spoken.
    pub fn over_quota(message: impl Into<String>) -> Fault {
        let mut fault = Fault::new(StatusCode::FORBIDDEN, message);
        fault.over_quota = true;
        fault
    }
    /// 503: nothing happened, it may be sent again.
    pub fn unavailable(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, message).header(RETRY_AFTER, HeaderValue::from_static("1"))
    }
    /// 501.
    pub fn not_implemented(message: impl Into<String>) -> Fault {
        Fault::new(StatusCode::NOT_IMPLEMENTED, message)
    }
    /// 500. The reason goes to the log; the caller learns only that it is our fault, and the request's id.
    pub fn internal(reason: impl std::fmt::Display) -> Fault {
        tracing::error!(%reason, "a request failed for a reason of our own");
        Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The service failed for a reason of its own. Tell its operator the id of this request.",
        )
    }

    /// The answer in `dialect`. `head` holds headers that were set already.
    pub(crate) fn render(mut self, dialect: Dialect, cx: &RequestCx, mut head: HeaderMap) -> Response {
        let status = if self.over_quota && dialect == Dialect::Neutron { StatusCode::CONFLICT } else { self.status };
        let (content_type, body) = match dialect {
            Dialect::Glance if status != StatusCode::UNAUTHORIZED => ("text/html; charset=UTF-8", self.html(status)),
            Dialect::Keystone | Dialect::Nova | Dialect::Neutron | Dialect::Glance | Dialect::Placement => {
                ("application/json", self.json(dialect, status, cx).to_string())
            }
        };
        if status == StatusCode::UNAUTHORIZED {
            let place = format!("Keystone uri=\"{}/identity/v3\"", cx.platform.public_url);
            if let Ok(value) = HeaderValue::from_str(&place) {
                head.insert(WWW_AUTHENTICATE, value);
            }
        }
        head.extend(std::mem::take(&mut self.headers));
        head.remove(CONTENT_LENGTH);
        head.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = head;
        response
    }

    fn json(&self, dialect: Dialect, status: StatusCode, cx: &RequestCx) -> Value {
        let code = status.as_u16();
        let title = title(status);
        let mut inner = match dialect {
            Dialect::Nova if status != StatusCode::UNAUTHORIZED => json!({ "code": code, "message": self.message }),
            Dialect::Neutron if status != StatusCode::UNAUTHORIZED => {
                json!({ "type": self.kind_or(neutron_type(status)), "message": self.message, "detail": "" })
            }
            Dialect::Placement if status != StatusCode::UNAUTHORIZED => {
                let mut error = json!({
                    "status": code, "title": title, "detail": self.message, "request_id": cx.request_id,
                });
                if cx.microversion.at_least(1, 23) {
                    error["code"] = Value::from(self.kind_or("placement.undefined_code"));
                }
                error
            }
            Dialect::Keystone | Dialect::Nova | Dialect::Neutron | Dialect::Glance | Dialect::Placement => {
                json!({ "code": code, "title": title, "message": self.message })
            }
        };
        for (name, value) in &self.extra {
            inner[*name] = value.clone();
        }
        match dialect {
            Dialect::Nova if status != StatusCode::UNAUTHORIZED => json!({ self.kind_or(nova_wrapper(status)): inner }),
            Dialect::Neutron if status != StatusCode::UNAUTHORIZED => json!({ "NeutronError": inner }),
            Dialect::Placement if status != StatusCode::UNAUTHORIZED => json!({ "errors": [inner] }),
            Dialect::Keystone | Dialect::Nova | Dialect::Neutron | Dialect::Glance | Dialect::Placement => {
                json!({ "error": inner })
            }
        }
    }

    fn kind_or<'a>(&'a self, default: &'a str) -> &'a str {
        if self.kind.is_empty() { default } else { &self.kind }
    }

    fn html(&self, status: StatusCode) -> String {
        let line = format!("{} {}", status.as_u16(), title(status));
        let message = self.message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        format!(
            "<html>\n <head>\n  <title>{line}</title>\n </head>\n <body>\n  <h1>{line}</h1>\n  {message}<br /><br />\n </body>\n</html>\n"
        )
    }
}

/// OpenStack's clients print the title, so it is the usual phrase.
fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        other => other.canonical_reason().unwrap_or("Error"),
    }
}

fn nova_wrapper(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 408 | 414 | 431 => "badRequest",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "computeFault",
    }
}

fn neutron_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 408 | 414 | 431 => "HTTPBadRequest",
        403 => "PolicyNotAuthorized",
        404 => "HTTPNotFound",
        405 => "HTTPMethodNotAllowed",
        409 => "Conflict",
        413 => "HTTPRequestEntityTooLarge",
        415 => "HTTPUnsupportedMediaType",
        501 => "HTTPNotImplemented",
        503 => "ServiceUnavailable",
        _ => "HTTPInternalServerError",
    }
}

/// Carries the fault to the family's layer, which renders it.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Carried(self));
        response
    }
}

/// A fault on its way through the response's extensions.
#[derive(Clone)]
pub(crate) struct Carried(pub(crate) Fault);

impl From<store::ReadError> for Fault {
    fn from(error: store::ReadError) -> Fault {
        tracing::warn!(%error, "a request could not read the store");
        Fault::unavailable("The service cannot read its store now. Try again in a moment.")
    }
}

impl From<store::DecodeError> for Fault {
    fn from(error: store::DecodeError) -> Fault {
        Fault::internal(error)
    }
}

/// For commits whose conflicts were handled before: what is left is that it cannot be done now, or a defect.
impl From<store::CommitError> for Fault {
    fn from(error: store::CommitError) -> Fault {
        match error {
            store::CommitError::Conflict { .. } => {
                Fault::conflict("Something else changed this at the same moment. Try again.")
            }
            store::CommitError::OverLimit { .. } => Fault::over_quota("A quota or limit would be exceeded."),
            store::CommitError::NotNow { .. } | store::CommitError::Unknown { .. } => {
                tracing::warn!(%error, "a request could not be committed");
                Fault::unavailable("The service cannot write to its store now. Try again in a moment.")
            }
            store::CommitError::Invalid(reason) => Fault::internal(reason),
        }
    }
}

impl From<identity::AuthError> for Fault {
    fn from(error: identity::AuthError) -> Fault {
        match error {
            identity::AuthError::Invalid(_) => {
                Fault::unauthorized("The request you have made requires authentication.")
            }
            identity::AuthError::NotNow(_) => {
                Fault::unavailable("Tokens cannot be verified now. Try again in a moment.")
            }
        }
    }
}

impl From<identity::Error> for Fault {
    fn from(error: identity::Error) -> Fault {
        match error {
            identity::Error::NotFound { .. } => Fault::not_found(error.to_string()),
            identity::Error::Duplicate { .. } => Fault::conflict(error.to_string()),
            identity::Error::Invalid(text) => Fault::bad_request(text),
            identity::Error::Refused(text) => Fault::forbidden(text),
            identity::Error::Busy => Fault::unavailable(error.to_string()),
            identity::Error::Read(error) => error.into(),
            identity::Error::Commit(error) => error.into(),
            identity::Error::Damaged(error) => error.into(),
        }
    }
}

impl From<identity::NoProject> for Fault {
    fn from(error: identity::NoProject) -> Fault {
        Fault::forbidden(error.to_string())
    }
}

impl From<identity::NotPermitted> for Fault {
    fn from(error: identity::NotPermitted) -> Fault {
        Fault::forbidden(error.to_string())
    }
}

/// What the client is told if no version fits.
pub(crate) fn unacceptable_version(dialect: Dialect, wanted: &str, min: Microversion, max: Microversion) -> Fault {
    let message = match dialect {
        Dialect::Placement => format!("Unacceptable version header: {wanted}"),
        Dialect::Keystone | Dialect::Nova | Dialect::Neutron | Dialect::Glance => {
            format!("Version {wanted} is not supported by the API. Minimum is {min} and maximum is {max}.")
        }
    };
    let fault = Fault::new(StatusCode::NOT_ACCEPTABLE, message);
    match dialect {
        Dialect::Placement => fault
            .member("min_version", Value::from(min.to_string()))
            .member("max_version", Value::from(max.to_string())),
        Dialect::Keystone | Dialect::Nova | Dialect::Neutron | Dialect::Glance => fault,
    }
}
