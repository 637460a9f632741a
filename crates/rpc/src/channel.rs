//! The caller's side.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use pki::Role;
use telemetry::Cx;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;
use world::BoxFuture;

use crate::error::Error;
use crate::headers;

/// Where a call goes: a process by role and name, and where it listens (empty: within this process or simulation).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The role that the peer must have.
    pub role: Role,
    /// The name that the peer must have; empty: any process that plays the role.
    pub name: String,
    /// `address:port`.
    pub endpoint: String,
}

impl Target {
    /// Any process that plays `role`, wherever it is. Who hands out channels must know where that may be.
    pub fn any(role: Role) -> Target {
        Target { role, name: String::new(), endpoint: String::new() }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.name.as_str(), self.endpoint.as_str()) {
            ("", "") => write!(f, "any {}", self.role),
            ("", endpoint) => write!(f, "the {} at {endpoint}", self.role),
            (name, _) => write!(f, "{}/{name}", self.role),
        }
    }
}

/// Carries requests to one peer: a connection, a function call, or a simulated network.
pub trait Wire: Send + Sync {
    /// Does what can be done before anything is sent: connects. Who has several wires to choose from learns here that one
    /// leads nowhere, while the request is still whole.
    fn ready(&self) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Sends `request` and returns the head of the response; the body may follow.
    fn send(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>>;
}

/// Hands out channels.
pub trait Peers: Send + Sync {
    /// A channel to `target`, for calls within `cx`. Never waits: connecting is part of the first call.
    fn channel(&self, target: &Target, cx: &Cx) -> Channel;
}

/// Sees the headers of every answer, whatever it says.
pub type See = Arc<dyn Fn(&HeaderMap) + Send + Sync>;

/// Peers whose answers are seen by somebody, such as one who learns from them that this process is behind. What an agent says
/// by the way is not: it answers for its node, not for the cell, and could keep everybody busy with what never was.
pub struct Seen {
    inner: Arc<dyn Peers>,
    see: See,
}

impl Seen {
    /// `inner`, seen by `see`.
    pub fn new(inner: Arc<dyn Peers>, see: See) -> Arc<Seen> {
        Arc::new(Seen { inner, see })
    }
}

impl Peers for Seen {
    fn channel(&self, target: &Target, cx: &Cx) -> Channel {
        let see = (target.role != Role::Agent).then(|| Arc::clone(&self.see));
        Channel { see, ..self.inner.channel(target, cx) }
    }
}

/// What generated clients are made of.
#[derive(Clone)]
pub struct Channel {
    wire: Arc<dyn Wire>,
    cx: Cx,
    see: Option<See>,
}

impl Channel {
    /// A channel over `wire` for calls within `cx`.
    pub fn new(wire: Arc<dyn Wire>, cx: &Cx) -> Channel {
        Channel { wire, cx: cx.clone(), see: None }
    }

    /// What carries its requests, without the context.
    pub fn wire(&self) -> &Arc<dyn Wire> {
        &self.wire
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let cx = self.cx.clone();
        headers::write(request.headers_mut(), &cx);
        let (wire, see) = (Arc::clone(&self.wire), self.see.clone());
        Box::pin(async move {
            if cx.left().is_zero() {
                return Err(Error::not_now("the deadline had passed before the call was sent").into());
            }
            match cx.world().timeout_at(cx.deadline(), wire.send(request)).await {
                Ok(result) => {
                    if let (Ok(response), Some(see)) = (&result, see) {
                        see(response.headers());
                    }
                    result
                }
                Err(_) => Err(Error::unknown("no answer before the deadline").into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use proto::health::v1::CheckRequest;
    use proto::health::v1::health_service_client::HealthServiceClient;
    use telemetry::Ring;
    use world::os::OsHost;

    use super::*;

    /// Refuses everything, and says something by the way.
    struct Talkative;

    impl Wire for Talkative {
        fn send(&self, _request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
            let mut answer = Status::unavailable("busy").into_http();
            answer.headers_mut().insert("said", http::HeaderValue::from(7));
            Box::pin(std::future::ready(Ok(answer)))
        }
    }

    struct Everywhere;

    impl Peers for Everywhere {
        fn channel(&self, _target: &Target, cx: &Cx) -> Channel {
            Channel::new(Arc::new(Talkative), cx)
        }
    }

    #[tokio::test]
    async fn what_a_node_says_of_the_cell_is_not_seen() {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let cx = Cx::root(&Ring::new(&world, "control/main"), None, world.now() + std::time::Duration::from_secs(5));
        for (role, expected) in [(Role::Store, 1), (Role::Control, 1), (Role::Agent, 0)] {
            let seen = Arc::new(Mutex::new(0));
            let count = Arc::clone(&seen);
            let see: See = Arc::new(move |headers| *count.lock() += usize::from(headers.contains_key("said")));
            let peers = Seen::new(Arc::new(Everywhere), see);
            let mut client = HealthServiceClient::new(peers.channel(&Target::any(role), &cx));
            client.check(CheckRequest {}).await.expect_err("it refuses");
            assert_eq!(*seen.lock(), expected, "{role}");
        }
    }
}
