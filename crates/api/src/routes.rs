//! Tables of routes that can be read back: what is registered with axum is also remembered, so that a test can walk
//! every route there is without being told of it.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use http::Method;
use tokio::sync::Semaphore;

use crate::family::Family;
use crate::fault::{Dialect, Fault};
use crate::microversion::{Microversion, Negotiation};
use crate::platform::Platform;

/// One entry of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path with its parameters in braces, from the server's root.
    pub path: String,
    /// How its errors are written.
    pub dialect: Dialect,
}

/// The routes of one API family, with handlers that take the state `S`.
pub struct Routes<S> {
    dialect: Dialect,
    negotiation: Option<Negotiation>,
    entries: Vec<(Method, String, MethodRouter<S>)>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// An empty table.
    pub fn new(dialect: Dialect) -> Routes<S> {
        Routes { dialect, negotiation: None, entries: Vec::new() }
    }

    /// With microversions from `min` to `max`; clients name the service `service` in their header.
    #[must_use]
    pub fn microversions(mut self, service: &'static str, min: Microversion, max: Microversion) -> Routes<S> {
        self.negotiation = Some(Negotiation { service, min, max });
        self
    }

    /// `GET path` (and `HEAD`, which is the same without a body).
    #[must_use]
    pub fn get<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Routes<S> {
        self.with(Method::GET, path, routing::get(handler))
    }
    /// `HEAD path`, where it differs from `GET`.
    #[must_use]
    pub fn head<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Routes<S> {
        self.with(Method::HEAD, path, routing::head(handler))
    }
    /// `POST path`.
    #[must_use]
    pub fn post<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Routes<S> {
        self.with(Method::POST, path, routing::post(handler))
    }
    /// `PUT path`.
    #[must_use]
    pub fn put<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Routes<S> {
        self.with(Method::PUT, path, routing::put(handler))
    }
    /// `PATCH path`.
    #[must_use]
    pub fn patch<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Routes<S> {
        self.with(Method::PATCH, path, routing::patch(handler))
    }
    /// `DELETE path`.
    #[must_use]
    pub fn delete<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Routes<S> {
        self.with(Method::DELETE, path, routing::delete(handler))
    }

    fn with(mut self, method: Method, path: &str, handler: MethodRouter<S>) -> Routes<S> {
        self.entries.push((method, path.to_owned(), handler));
        self
    }

    /// With all routes of `other` as well; its dialect and versions are given up for ours.
    #[must_use]
    pub fn merge(mut self, other: Routes<S>) -> Routes<S> {
        self.entries.extend(other.entries);
        self
    }

    /// A router with all layers, and the table. For one family alone; [`crate::Site`] puts several together.
    ///
    /// # Panics
    /// If a route is there twice: that is a defect which the first start shows.
    pub fn build(self, state: S, platform: &Platform) -> (Router, Vec<Route>) {
        let platform = Arc::new(platform.clone());
        let family = self.family(&platform);
        let (router, routes) = self.mount("", state, &platform);
        let router = router.fallback_service(tower::Layer::layer(&family, axum::routing::any(no_such_route)));
        (router, routes)
    }

    pub(crate) fn family(&self, platform: &Arc<Platform>) -> Family {
        let large_bodies = Arc::new(Semaphore::new(crate::extract::LARGE_BODIES_BYTES_MAX));
        Family { dialect: self.dialect, negotiation: self.negotiation, platform: Arc::clone(platform), large_bodies }
    }

    /// A router in which every path stands behind `prefix`.
    pub(crate) fn mount(self, prefix: &str, state: S, platform: &Arc<Platform>) -> (Router, Vec<Route>) {
        let family = self.family(platform);
        let mut router = Router::new();
        let mut routes = Vec::new();
        for (method, path, handler) in self.entries {
            // The family's root answers with and without a slash at the end.
            let bare = path == "/" && !prefix.is_empty();
            if bare {
                router = router.route(prefix, handler.clone());
            }
            let path = format!("{prefix}{path}");
            router = router.route(&path, handler);
            routes.push(Route { method, path: if bare { prefix.to_owned() } else { path }, dialect: self.dialect });
        }
        let router = router.method_not_allowed_fallback(wrong_method).layer(family).with_state(state);
        (router, routes)
    }
}

pub(crate) async fn no_such_route() -> Fault {
    Fault::not_found("The resource could not be found.")
}

async fn wrong_method() -> Fault {
    Fault::new(http::StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed for this resource.")
}
