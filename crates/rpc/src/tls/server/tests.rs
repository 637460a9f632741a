use std::time::Duration;

use parking_lot::Mutex;
use pki::{Authority, Role};
use proto::health::v1::health_service_client::HealthServiceClient;
use proto::health::v1::health_service_server::{HealthService, HealthServiceServer};
use proto::health::v1::{CheckRequest, CheckResponse};
use telemetry::metrics::Metrics;
use telemetry::{Cx, Ring};
use tonic::service::Routes;
use world::os::OsHost;

use super::*;
use crate::tls::TlsPeers;
use crate::{Limits, Peers, Target, link_of};

/// A service that remembers the connection of its last call.
#[derive(Clone, Default)]
struct Remembers(Arc<Mutex<Option<Link>>>);

#[tonic::async_trait]
impl HealthService for Remembers {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        *self.0.lock() = link_of(&request);
        Ok(tonic::Response::new(CheckResponse::default()))
    }
}

/// Two processes on this machine.
struct Two {
    world: World,
    ring: Arc<telemetry::Ring>,
    authority: Authority,
    remembers: Remembers,
    target: Target,
}

impl Two {
    async fn new() -> Two {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let authority = Authority::create(&world, "c.mainstay").unwrap();
        let (ring, remembers) = (Ring::new(&world, "s"), Remembers::default());
        let routes = Routes::new(HealthServiceServer::new(remembers.clone()));
        let server = Server::new(&ring, &Metrics::default(), Limits::default(), routes);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let target = Target { role: Role::Scheduler, name: "s".into(), endpoint: listener.address().to_string() };
        let issued = authority.issue(&world, &who(Role::Scheduler, "s")).unwrap();
        let credentials = Credentials::new(&issued, &authority.certificate_pem).unwrap();
        listener.serve(&world, server, &credentials).unwrap();
        Two { world, ring, authority, remembers, target }
    }

    fn client(&self, issued: &pki::Issued) -> Arc<TlsPeers> {
        let own = Credentials::new(issued, &self.authority.certificate_pem).unwrap();
        TlsPeers::new(&self.world, who(Role::Operator, "admin"), &own).unwrap()
    }

    async fn call(&self, peers: &TlsPeers) -> Result<Link, crate::Error> {
        let cx = Cx::root(&self.ring, None, self.world.now() + Duration::from_secs(5));
        HealthServiceClient::new(peers.channel(&self.target, &cx)).check(CheckRequest {}).await?;
        Ok(self.remembers.0.lock().clone().unwrap())
    }
}

fn who(role: Role, name: &str) -> Identity {
    Identity { cell: "c.mainstay".into(), role, name: name.into() }
}

#[tokio::test]
async fn an_idle_connection_tells_when_its_host_was_last_heard_until_it_ends() {
    let two = Two::new().await;
    let peers = two.client(&two.authority.issue(&two.world, &who(Role::Operator, "admin")).unwrap());
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
    let ended = async {
        while link.heard().is_some() {
            two.world.sleep(Duration::from_millis(10)).await;
        }
    };
    two.world.timeout(Duration::from_secs(5), ended).await.unwrap();
}

#[tokio::test]
async fn a_connection_does_not_outlive_the_certificate_that_it_was_verified_by() {
    let two = Two::new().await;
    let caller = who(Role::Operator, "admin");
    let issued = two.authority.issue_for(&two.world, &caller, Duration::from_secs(2)).unwrap();
    let credentials = Credentials::new(&issued, &two.authority.certificate_pem).unwrap();
    let peers = TlsPeers::new(&two.world, caller.clone(), &credentials).unwrap();
    let link = two.call(&peers).await.unwrap();
    let ended = async {
        while link.heard().is_some() {
            two.world.sleep(Duration::from_millis(10)).await;
        }
    };
    two.world.timeout(Duration::from_secs(4), ended).await.unwrap();
    two.call(&peers).await.unwrap_err();
    // A newer one is shown by whoever connects next.
    credentials.replace(&two.authority.issue(&two.world, &caller).unwrap()).unwrap();
    two.call(&peers).await.unwrap();
}

#[tokio::test]
async fn who_knows_only_an_address_reaches_a_process_of_that_role_and_no_other() {
    let two = Two::new().await;
    let peers = two.client(&two.authority.issue(&two.world, &who(Role::Operator, "admin")).unwrap());
    let call = async |role| {
        let cx = Cx::root(&two.ring, None, two.world.now() + Duration::from_secs(5));
        let target = Target { endpoint: two.target.endpoint.clone(), ..Target::any(role) };
        HealthServiceClient::new(peers.channel(&target, &cx)).check(CheckRequest {}).await.map_err(crate::Error::from)
    };
    call(Role::Scheduler).await.unwrap();
    let refused = call(Role::Coordinator).await.unwrap_err();
    assert_eq!(refused.verdict, crate::Verdict::NotNow, "{refused}");
}
