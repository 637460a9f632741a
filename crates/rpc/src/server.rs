//! The called side: what stands in front of every service.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use config::Permits;
use http::{HeaderMap, Request, Response};
use pki::Identity;
use telemetry::metrics::{Counter, Gauge, Histogram, Metrics};
use telemetry::{Cx, Ring};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower_service::Service;
use world::BoxFuture;

use crate::channel::Wire;
use crate::error::{Error, Verdict, elsewhere};
use crate::held::{end_with, hold_until_end};
use crate::leaving::{Leaving, Stage};
use crate::{authz, headers};

/// How long connections may take to end when everything on them has been answered.
const HANG_UP_MAX: Duration = Duration::from_secs(2);
/// The deadline of a call that names none.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// The verified identity of the peer that sent a request; in the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(pub Identity);

/// What a server takes on at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls in progress; more are refused at once with *not now*.
    pub calls: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { calls: 4096 }
    }
}

/// Services behind one guard. Cloning shares the guard.
#[derive(Clone)]
pub struct Server {
    /// What a process answers also while it is starting.
    first: Routes,
    /// Everything, once it has started.
    routes: Arc<OnceLock<Routes>>,
    ring: Arc<Ring>,
    permits: Permits,
    metrics: Arc<Measures>,
    leaving: Leaving,
    stamp: Arc<OnceLock<Stamp>>,
}

/// Adds headers to the head of every answer.
type Stamp = Box<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// What is counted.
struct Measures {
    calls: Histogram,
    refused: Counter,
    open: Gauge,
}

impl Measures {
    fn new(metrics: &Metrics) -> Measures {
        let labels = &["method", "verdict"];
        Measures {
            calls: metrics.histogram("mainstay_rpc_served_seconds", labels, "Calls served, by method and verdict."),
            refused: metrics.counter("mainstay_rpc_refused_total", &["reason"], "Calls refused before they began."),
            open: metrics.gauge("mainstay_rpc_in_flight", "Calls being served."),
        }
    }
}

impl Server {
    /// `routes` behind the guard.
    pub fn new(ring: &Arc<Ring>, metrics: &Metrics, limits: Limits, routes: Routes) -> Server {
        let server = Server::starting(ring, metrics, limits, Routes::default());
        server.started(routes);
        server
    }

    /// A server of a process that is starting: it answers what `first` has, and refuses the rest for now.
    pub fn starting(ring: &Arc<Ring>, metrics: &Metrics, limits: Limits, first: Routes) -> Server {
        let permits = Permits::new(limits.calls);
        let metrics = Arc::new(Measures::new(metrics));
        Server {
            first,
            routes: Arc::default(),
            ring: Arc::clone(ring),
            permits,
            metrics,
            leaving: Leaving::new(),
            stamp: Arc::default(),
        }
    }

    /// From now on `stamp` adds headers to the head of every answer, refusals too: what every caller should learn by the
    /// way. The first stamp stays.
    pub fn stamp(&self, stamp: impl Fn(&mut HeaderMap) + Send + Sync + 'static) {
        let _first_wins = self.stamp.set(Box::new(stamp));
    }

    /// No new calls from now on, but for those of this very process: they are answered *not now*, in a way that tells
    /// callers to go elsewhere at once. Connections are ended when their calls have ended. What is under way goes on.
    ///
    /// Tell the others first that this process does not serve any more, and wait until they have heard it.
    pub fn leave(&self) {
        self.leaving.go_to(Stage::Left);
    }

    /// Completes when a process that has left may end: every call that was under way has been answered to its last byte.
    /// Nothing is listened to any more then, and answers that never end by themselves, such as watches, have been ended.
    pub async fn drained(&self) {
        self.leaving.calls().none().await;
        self.leaving.go_to(Stage::Closed);
        // An answer has left this process when its connection has ended. Who does not hang up is not waited for.
        let _all_or_most = self.ring.world().timeout(HANG_UP_MAX, self.leaving.connections().none()).await;
    }

    /// What a listener asks about leaving.
    pub(crate) fn leaving(&self) -> &Leaving {
        &self.leaving
    }

    /// The bound on calls in progress, which may be moved at any time.
    pub fn calls(&self) -> &Permits {
        &self.permits
    }

    /// The process has started: from now on `routes` are served, which have what was served before as well.
    pub fn started(&self, routes: Routes) {
        // Called once, by the one place that starts a process.
        let _first_wins = self.routes.set(routes);
    }

    /// A wire that calls these services as `caller` without leaving the process.
    pub fn local(&self, caller: Identity) -> Arc<dyn Wire> {
        Arc::new(Local { server: self.clone(), caller })
    }

    /// Answers one request; the peer's identity is in its extensions.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let mut response = self.pass(request).await;
        if let Some(stamp) = self.stamp.get() {
            stamp(response.headers_mut());
        }
        response
    }

    async fn pass(&self, mut request: Request<Body>) -> Response<Body> {
        let method = request.uri().path().to_owned();
        let told = headers::read(request.headers());
        let world = self.ring.world();
        let deadline = world.now() + told.timeout.unwrap_or(DEFAULT_DEADLINE);
        let request_id = told.request.map(Into::into);
        let mut cx = match told.trace {
            Some((trace, parent)) => Cx::continued(&self.ring, trace, parent, request_id, deadline),
            None => Cx::root(&self.ring, request_id, deadline),
        };
        if let Some(subject) = told.subject {
            cx = cx.about(&subject);
        }
        if let Some(work) = told.work {
            cx = cx.within(&work);
        }
        if let Err(refusal) = permitted(&request, &method) {
            self.metrics.refused.count(&["not allowed"]);
            return refusal.into_http();
        }
        let under_way = (!authz::is_endless(&method)).then(|| self.leaving.calls().begin());
        if self.leaving.has_left() && request.extensions().get::<Inside>().is_none() && !is_early(&method) {
            self.metrics.refused.count(&["leaving"]);
            return elsewhere("leaving", "this process is leaving").into_http();
        }
        let Some(permit) = self.permits.try_acquire() else {
            self.metrics.refused.count(&["too many calls"]);
            return Status::from(Error::not_now("this process has as many calls in progress as it takes")).into_http();
        };
        let Some(mut routes) = self.routes_for(&method) else {
            self.metrics.refused.count(&["starting"]);
            return elsewhere("starting", "this process is starting").into_http();
        };
        let open = self.metrics.open.hold();
        let (inside, mut span) = cx.span(authz_name(&method));
        request.extensions_mut().insert(inside);
        let start = world.now();
        let response = match world.timeout_at(deadline, routes.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => Status::from(Error::unknown("the deadline passed while the call was served")).into_http(),
        };
        let failed = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
        if let Some(status) = &failed {
            span.failed(&status.message());
        }
        let verdict = failed.as_ref().map_or("ok", |status| Verdict::from(status).as_str());
        self.metrics.calls.record(&[authz_name(&method), verdict], world.now().since(start));
        drop((permit, open));
        match under_way {
            Some(under_way) => response.map(|body| hold_until_end(body, under_way)),
            None => {
                let closed = self.leaving.clone().reached(Stage::Closed);
                let end = Box::pin(async move {
                    closed.await;
                    elsewhere("leaving", "this process has left")
                });
                response.map(|body| end_with(body, end))
            }
        }
    }

    /// Who answers `method`: while the process is starting, only what says how it is.
    fn routes_for(&self, method: &str) -> Option<Routes> {
        match self.routes.get() {
            Some(routes) => Some(routes.clone()),
            None => is_early(method).then(|| self.first.clone()),
        }
    }
}

/// Services that a process has also while it starts and while it leaves.
const EARLY: [&str; 3] = [
    "/mainstay.health.v1.HealthService/",
    "/mainstay.telemetry.v1.TelemetryService/",
    "/mainstay.liveness.v1.LivenessService/",
];

fn is_early(method: &str) -> bool {
    EARLY.iter().any(|service| method.starts_with(service))
}

fn permitted(request: &Request<Body>, method: &str) -> Result<(), Status> {
    let Some(Peer(identity)) = request.extensions().get::<Peer>() else {
        return Err(Status::unauthenticated("the peer has no identity"));
    };
    if authz::may(identity.role, method) {
        Ok(())
    } else {
        Err(Status::permission_denied(format!("{identity} may not call {method}")))
    }
}

/// The method as the table has it: a name that lives as long as the program, and one of few.
fn authz_name(method: &str) -> &'static str {
    authz::TABLE.iter().find(|rule| rule.method == method).map_or("unknown method", |rule| rule.method)
}

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.answer(request).await) })
    }
}

/// Marks a call of the process itself.
#[derive(Clone, Copy)]
struct Inside;

struct Local {
    server: Server,
    caller: Identity,
}

impl Wire for Local {
    fn send(&self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let server = self.server.clone();
        request.extensions_mut().insert(Peer(self.caller.clone()));
        request.extensions_mut().insert(Inside);
        Box::pin(async move { Ok(server.answer(request).await) })
    }
}

/// The context of a call that is being served. Its span is the call.
///
/// # Errors
/// If the request did not come through a [`Server`]: a defect of this process.
pub fn cx_of<T>(request: &tonic::Request<T>) -> Result<Cx, Status> {
    request.extensions().get::<Cx>().cloned().ok_or_else(|| Status::internal("a service was mounted without its guard"))
}

/// The identity of the caller.
///
/// # Errors
/// As [`cx_of`].
pub fn peer_of<T>(request: &tonic::Request<T>) -> Result<Identity, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.map(|peer| peer.0).ok_or_else(|| Status::internal("a service was mounted without its guard"))
}
