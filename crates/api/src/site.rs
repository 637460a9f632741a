//! All families side by side under one address, in one tree of routes.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::family::{Family, Wrapped};
use crate::fault::Dialect;
use crate::platform::Platform;
use crate::routes::{Route, Routes, no_such_route};

/// Families on their way to becoming one router.
pub struct Site {
    platform: Arc<Platform>,
    router: Router,
    routes: Vec<Route>,
    families: Vec<(String, Family)>,
}

impl Site {
    /// An empty site.
    pub fn new(platform: &Platform) -> Site {
        Site { platform: Arc::new(platform.clone()), router: Router::new(), routes: Vec::new(), families: Vec::new() }
    }

    /// Puts `routes` behind `prefix`, such as `/compute/v2.1`. Unknown paths behind it are refused in its dialect.
    ///
    /// # Panics
    /// If a route is there twice: that is a defect which the first start shows.
    #[must_use]
    pub fn nest<S: Clone + Send + Sync + 'static>(mut self, prefix: &str, routes: Routes<S>, state: S) -> Site {
        self.families.push((prefix.to_owned(), routes.family(&self.platform)));
        let (router, table) = routes.mount(prefix, state, &self.platform);
        self.router = self.router.merge(router);
        self.routes.extend(table);
        self
    }

    /// The router, and the table of all routes.
    pub fn build(self) -> (Router, Vec<Route>) {
        let plain = Routes::<()>::new(Dialect::Keystone).family(&self.platform);
        let wrap = |family: &Family| family.layer(any(no_such_route));
        let mut families: Vec<_> =
            self.families.iter().map(|(prefix, family)| (prefix.clone(), wrap(family))).collect();
        families.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let elsewhere = Elsewhere { families: families.into(), plain: wrap(&plain) };
        (self.router.fallback_service(elsewhere), self.routes)
    }
}

/// Answers what no route matches, in the dialect of the family whose prefix is longest.
#[derive(Clone)]
struct Elsewhere {
    families: Arc<[(String, Wrapped<MethodRouter>)]>,
    plain: Wrapped<MethodRouter>,
}

impl Service<Request> for Elsewhere {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let path = request.uri().path();
        let behind =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let family = self.families.iter().find(|(prefix, _)| behind(prefix)).map_or(&self.plain, |(_, family)| family);
        family.clone().call(request)
    }
}
