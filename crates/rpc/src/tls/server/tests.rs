//! A connection from its handshake to its end, over real sockets.

use std::time::Duration;

use parking_lot::Mutex;
use pki::{Authority, Role};
use proto::health::v1::health_service_client::HealthServiceClient;
use proto::health::v1::health_service_server::{HealthService, HealthServiceServer};
use proto::health::v1::{CheckRequest, CheckResponse};
use proto::operator::v1::GetStatusRequest;
use proto::operator::v1::operator_service_client::OperatorServiceClient;
use telemetry::metrics::Metrics;
use telemetry::{Cx, Ring};
use tokio::sync::Semaphore;
use tonic::service::Routes;
use world::os::OsHost;

use super::*;
use crate::tls::TlsPeers;
use crate::{Limits, Peers, Target, link_of};

/// A service that remembers the connection of its last call, and answers as soon as it may.
#[derive(Clone)]
struct Remembers {
    link: Arc<Mutex<Option<Link>>>,
    may_answer: Arc<Semaphore>,
}

#[tonic::async_trait]
impl HealthService for Remembers {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        *self.link.lock() = link_of(&request);
        let _permit = self.may_answer.acquire().await.unwrap();
        Ok(tonic::Response::new(CheckResponse::default()))
    }
}

/// Two processes on this machine.
struct Two {
    world: World,
    ring: Arc<telemetry::Ring>,
    authority: Authority,
    server: Server,
    remembers: Remembers,
    target: Target,
}

impl Two {
    async fn new() -> Two {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let authority = Authority::create(&world, "c.mainstay").unwrap();
        let ring = Ring::new(&world, "s");
        let remembers = Remembers { link: Arc::default(), may_answer: Arc::new(Semaphore::new(1)) };
        let routes = Routes::new(HealthServiceServer::new(remembers.clone()));
        let server = Server::new(&ring, &Metrics::default(), Limits::default(), routes);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let target = Target { role: Role::Scheduler, name: "s".into(), endpoint: listener.address().to_string() };
        let issued = authority.issue(&world, &who(Role::Scheduler, "s")).unwrap();
        let credentials = Credentials::new(&issued, &authority.certificate_pem).unwrap();
        listener.serve(&world, server.clone(), &credentials).unwrap();
        Two { world, ring, authority, server, remembers, target }
    }

    fn client(&self, issued: &pki::Issued) -> Arc<TlsPeers> {
        let own = Credentials::new(issued, &self.authority.certificate_pem).unwrap();
        TlsPeers::new(&self.world, who(Role::Operator, "admin"), &own).unwrap()
    }

    /// Waits until a connection has ended.
    async fn ended(&self, link: &Link, within: Duration) {
        let ended = async {
            while link.heard().is_some() {
                self.world.sleep(Duration::from_millis(10)).await;
            }
        };
        self.world.timeout(within, ended).await.unwrap();
    }

    fn admin(&self) -> Arc<TlsPeers> {
        self.client(&self.authority.issue(&self.world, &who(Role::Operator, "admin")).unwrap())
    }

    async fn call(&self, peers: &TlsPeers) -> Result<Link, tonic::Status> {
        let cx = Cx::root(&self.ring, None, self.world.now() + Duration::from_secs(5));
        HealthServiceClient::new(peers.channel(&self.target, &cx)).check(CheckRequest {}).await?;
        Ok(self.remembers.link.lock().clone().unwrap())
    }
}

fn who(role: Role, name: &str) -> Identity {
    Identity { cell: "c.mainstay".into(), role, name: name.into() }
}

#[tokio::test]
async fn an_idle_connection_tells_when_its_host_was_last_heard_until_it_ends() {
    let two = Two::new().await;
    let peers = two.admin();
    let link = two.call(&peers).await.unwrap();
    // Nothing is sent by any process: the kernels ask and answer alone.
    let mut told = Vec::new();
    for _ in 0..60 {
        two.world.sleep(Duration::from_millis(50)).await;
        told.push(link.heard().unwrap());
    }
    assert!(told.iter().all(|ago| *ago < Duration::from_millis(1300)), "{told:?}");
    assert!(told.windows(2).any(|pair| pair[1] < pair[0]), "{told:?}");
    drop(peers);
    two.ended(&link, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_connection_does_not_outlive_the_certificate_that_it_was_verified_by() {
    let two = Two::new().await;
    let caller = who(Role::Operator, "admin");
    let issued = two.authority.issue_for(&two.world, &caller, Duration::from_secs(2)).unwrap();
    let credentials = Credentials::new(&issued, &two.authority.certificate_pem).unwrap();
    let peers = TlsPeers::new(&two.world, caller.clone(), &credentials).unwrap();
    let link = two.call(&peers).await.unwrap();
    two.ended(&link, Duration::from_secs(4)).await;
    two.call(&peers).await.unwrap_err();
    // A newer one is shown by whoever connects next.
    credentials.replace(&two.authority.issue(&two.world, &caller).unwrap()).unwrap();
    two.call(&peers).await.unwrap();
}

#[tokio::test]
async fn who_knows_only_an_address_reaches_a_process_of_that_role_and_no_other() {
    let two = Two::new().await;
    let peers = two.admin();
    let call = async |role| {
        let cx = Cx::root(&two.ring, None, two.world.now() + Duration::from_secs(5));
        let target = Target { endpoint: two.target.endpoint.clone(), ..Target::any(role) };
        HealthServiceClient::new(peers.channel(&target, &cx)).check(CheckRequest {}).await.map_err(crate::Error::from)
    };
    call(Role::Scheduler).await.unwrap();
    let refused = call(Role::Coordinator).await.unwrap_err();
    assert_eq!(refused.verdict, crate::Verdict::NotNow, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_takes_nothing_new_and_fails_nothing_that_is_under_way() {
    let two = Arc::new(Two::new().await);
    let peers = two.admin();
    let held = two.remembers.may_answer.acquire().await.unwrap();
    let (under_way, caller) = (Arc::clone(&two), Arc::clone(&peers));
    let (tell, told) = tokio::sync::oneshot::channel();
    two.world.spawn("a call", async move { drop(tell.send(under_way.call(&caller).await)) });
    let link = loop {
        match two.remembers.link.lock().clone() {
            Some(link) => break link,
            None => std::thread::yield_now(),
        }
    };
    two.server.leave();
    let soon = Duration::from_millis(100);
    assert!(two.world.timeout(soon, two.server.drained()).await.is_err(), "a call is under way");

    // Whoever comes now, over the old connection or another, is told to go elsewhere.
    for peers in [&peers, &two.admin()] {
        let cx = Cx::root(&two.ring, None, two.world.now() + Duration::from_secs(5));
        let mut operator = OperatorServiceClient::new(peers.channel(&two.target, &cx));
        let refused = operator.get_status(GetStatusRequest {}).await.unwrap_err();
        assert!(crate::may_go_elsewhere(refused.metadata().as_ref()), "{refused:?}");
        assert_eq!(crate::Error::from(refused).verdict, crate::Verdict::NotNow);
    }
    drop(held);
    told.await.unwrap().unwrap();
    two.world.timeout(Duration::from_secs(2), two.server.drained()).await.unwrap();
    two.ended(&link, Duration::from_secs(2)).await;
}

#[tokio::test]
async fn every_answer_tells_what_the_server_stamps_on_it() {
    let two = Two::new().await;
    two.server.stamp(|headers| drop(headers.insert("mainstay-config", http::HeaderValue::from(7))));
    let seen: Arc<Mutex<Vec<http::HeaderValue>>> = Arc::default();
    let told = Arc::clone(&seen);
    let see: crate::See = Arc::new(move |headers| told.lock().extend(headers.get("mainstay-config").cloned()));
    let peers = crate::Seen::new(two.admin(), see);
    let cx = Cx::root(&two.ring, None, two.world.now() + Duration::from_secs(5));
    HealthServiceClient::new(peers.channel(&two.target, &cx)).check(CheckRequest {}).await.unwrap();
    // A refusal tells as much as an answer.
    OperatorServiceClient::new(peers.channel(&two.target, &cx)).get_status(GetStatusRequest {}).await.unwrap_err();
    assert_eq!(*seen.lock(), ["7", "7"]);
}
