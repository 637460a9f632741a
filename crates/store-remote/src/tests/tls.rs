//! The remote store as processes use it: over TCP with mutual TLS, up to the death of the process that holds it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pki::{Authority, Identity, Role};
use rpc::tls::{Credentials, Listener, TlsPeers};
use rpc::{Limits, Server, Target};
use store::conformance::{self, Subject};
use store::{CommitError, KeyRange, Revision, Store, WatchError, memory};
use telemetry::Ring;
use telemetry::metrics::Metrics;
use tonic::service::Routes;
use world::World;

use super::{create, world};
use crate::{RemoteStore, service};

fn identity(role: Role, name: &str) -> Identity {
    Identity { cell: "c1.mainstay".into(), role, name: name.into() }
}

/// Serves `store` with a world of its own, so that it can die by itself; returns how to reach it.
async fn serve(world: &World, authority: &Authority, store: Arc<dyn Store>) -> Target {
    let holder = identity(Role::Store, "holder");
    let own = authority.issue(world, &holder).unwrap();
    let credentials = Credentials::new(&own, &authority.certificate_pem).unwrap();
    let ring = Ring::new(world, "holder");
    let server = Server::new(&ring, &Metrics::default(), Limits::default(), Routes::new(service(world, store)));
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address();
    listener.serve(world, server, &credentials).unwrap();
    Target { role: Role::Store, name: holder.name, endpoint: address.to_string() }
}

fn reach(world: &World, authority: &Authority, target: Target) -> RemoteStore {
    let caller = identity(Role::Coordinator, "caller");
    let own = authority.issue(world, &caller).unwrap();
    let credentials = Credentials::new(&own, &authority.certificate_pem).unwrap();
    let peers = TlsPeers::new(world, caller, &credentials).unwrap();
    RemoteStore::new(peers, target, &Ring::new(world, "caller"))
}

struct OverTls {
    authority: Authority,
}

#[async_trait]
impl Subject for OverTls {
    fn world(&self) -> World {
        world()
    }

    async fn open_empty(&self) -> Arc<dyn Store> {
        let store = Arc::new(memory::open(&world()));
        let target = serve(&world(), &self.authority, store).await;
        Arc::new(reach(&world(), &self.authority, target))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_over_mutual_tls() {
    let authority = Authority::create(&world(), "c1.mainstay").unwrap();
    conformance::run(&OverTls { authority }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_holder_dies_watches_end_and_commits_say_so() {
    let authority = Authority::create(&world(), "c1.mainstay").unwrap();
    let holder = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let its_world = world::os::OsHost::world(holder.handle().clone(), std::path::Path::new("/nonexistent"));
    let target = {
        let _inside = holder.enter();
        serve(&its_world, &authority, Arc::new(memory::open(&its_world))).await
    };
    let store = reach(&world(), &authority, target);
    let first = store.commit(create("a")).await.unwrap();
    let mut watch = store.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    assert_eq!(watch.next().await.unwrap()[0].revision, first);

    holder.shutdown_background();
    let ended = world().timeout(Duration::from_secs(20), watch.next()).await.expect("the end is noticed");
    assert!(matches!(ended, Err(WatchError::Closed { .. })), "{ended:?}");
    let later = world().timeout(Duration::from_secs(20), store.commit(create("b"))).await.expect("the end is noticed");
    assert!(matches!(later, Err(CommitError::NotNow { .. } | CommitError::Unknown { .. })), "{later:?}");
    store.head().await.expect_err("nobody can answer");
}
