//! The one layer around each family: request id, version negotiation, faults in the family's dialect, a guard against
//! panics, and what the observer wants to know.
//!
//! It is one service with one boxed future, not a tower of layers: every request passes here.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use crate::fault::{Carried, Dialect, Fault};
use crate::microversion::{Microversion, Negotiation};
use crate::platform::Platform;
use crate::request::{RequestCx, check_head};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");
const COMPUTE_REQUEST_ID: HeaderName = HeaderName::from_static("x-compute-request-id");

/// What one family has of its own.
#[derive(Clone)]
pub(crate) struct Family {
    pub(crate) dialect: Dialect,
    pub(crate) negotiation: Option<Negotiation>,
    pub(crate) platform: Arc<Platform>,
    pub(crate) large_bodies: Arc<Semaphore>,
}

impl<S> Layer<S> for Family {
    type Service = Wrapped<S>;
    fn layer(&self, inner: S) -> Wrapped<S> {
        Wrapped { family: Arc::new(self.clone()), inner }
    }
}

/// A service inside of its family's layer.
#[derive(Clone)]
pub(crate) struct Wrapped<S> {
    family: Arc<Family>,
    inner: S,
}

impl<S> Service<Request> for Wrapped<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let family = Arc::clone(&self.family);
        // The clone stays behind for the next request: `self.inner` is the one that was polled ready.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move { Ok(family.answer(request, inner).await) })
    }
}

impl Family {
    async fn answer<S>(&self, mut request: Request, mut inner: S) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible> + Send,
        S::Future: Send,
    {
        let negotiated = check_head(request.uri(), request.headers()).and_then(|()| match &self.negotiation {
            Some(negotiation) => negotiation.negotiate(self.dialect, request.headers()),
            None => Ok(Microversion(0, 0)),
        });
        let version = match (&negotiated, &self.negotiation) {
            (Ok(version), _) => *version,
            (Err(_), Some(negotiation)) => negotiation.min,
            (Err(_), None) => Microversion(0, 0),
        };
        let cx = RequestCx::new(self, version, request.headers());
        request.extensions_mut().insert(cx.clone());
        let with_body = request.version() < Version::HTTP_2 && has_body(request.headers());
        let method = request.method().clone();
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let route = matched.as_ref().map_or("", MatchedPath::as_str);
        let handled = async {
            match negotiated {
                Ok(_) => inner.call(request).await,
                Err(fault) => Ok(axum::response::IntoResponse::into_response(fault)),
            }
        };
        let response = match AssertUnwindSafe(handled).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => {
                let said = panic.downcast_ref::<&str>().copied();
                let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("nothing");
                let fault = Fault::internal(format_args!("{} {method} {route} panicked: {said}", cx.request_id));
                axum::response::IntoResponse::into_response(fault)
            }
        };
        let mut response = self.finish(&cx, version, response);
        if with_body && !cx.body_read.load(Ordering::Relaxed) {
            // Nobody reads what is left of the body: who would send another request behind it is told so.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let took = self.platform.world.now().since(cx.received);
        self.platform.observer.on_end(&cx, &method, route, response.status(), took);
        response
    }

    fn finish(&self, cx: &RequestCx, version: Microversion, mut response: Response) -> Response {
        if let Some(Carried(fault)) = response.extensions_mut().remove::<Carried>() {
            let head = std::mem::take(response.headers_mut());
            response = fault.render(self.dialect, cx, head);
        }
        let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        self.name_request(cx, headers);
        if let Some(negotiation) = &self.negotiation
            && !(unauthorized && self.dialect == Dialect::Nova)
        {
            negotiation.announce(version, headers);
        }
        response
    }

    fn name_request(&self, cx: &RequestCx, headers: &mut HeaderMap) {
        let Ok(id) = HeaderValue::from_str(&cx.request_id) else { return };
        if self.dialect == Dialect::Nova {
            headers.insert(COMPUTE_REQUEST_ID, id.clone());
        }
        headers.insert(REQUEST_ID, id);
    }
}

/// Whether something follows a request's head.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}
