//! Calls that go to whoever is there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pki::Authority;
use proto::scheduler::v1::scheduler_service_client::SchedulerServiceClient;
use proto::scheduler::v1::scheduler_service_server::{SchedulerService, SchedulerServiceServer};
use proto::scheduler::v1::{SelectRequest, SelectResponse};
use rpc::tls::{Credentials, Listener, TlsPeers};
use rpc::{Limits, Server, Verdict};
use telemetry::Ring;
use telemetry::metrics::Metrics;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use world::os::OsHost;
use world::{Wall, World};

use super::*;
use crate::directory::{Change, Version};
use crate::listing::Speaks;

const CELL: &str = "c.mainstay";

fn who(role: Role, name: &str) -> Identity {
    Identity { cell: CELL.into(), role, name: name.into() }
}

fn world_on(runtime: &tokio::runtime::Handle) -> World {
    OsHost::world(runtime.clone(), std::path::Path::new("/nonexistent"))
}

/// A process with a runtime of its own, so that its end is as sudden as that of a real one.
struct Process {
    runtime: tokio::runtime::Runtime,
    server: Server,
    served: Served,
    listing: Listing,
}

/// Answers with the address that it serves at, when it may.
#[derive(Clone)]
struct Served {
    endpoint: Arc<str>,
    calls: Arc<AtomicUsize>,
    may_answer: Arc<Semaphore>,
}

#[tonic::async_trait]
impl SchedulerService for Served {
    async fn select(&self, _: tonic::Request<SelectRequest>) -> Result<tonic::Response<SelectResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let _permit = self.may_answer.acquire().await.unwrap();
        tokio::task::yield_now().await;
        Ok(tonic::Response::new(SelectResponse { hosts: vec![self.endpoint.to_string()], ..SelectResponse::default() }))
    }
}

impl Process {
    fn start(authority: &Authority, name: &str, session: u64) -> Process {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (world, me) = (world_on(runtime.handle()), who(Role::Scheduler, name));
        let credentials = Credentials::new(&authority.issue(&world, &me).unwrap(), &authority.certificate_pem).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let endpoint: Arc<str> = listener.address().to_string().into();
            let served = Served { endpoint, calls: Arc::default(), may_answer: Arc::new(Semaphore::new(1000)) };
            let routes = Routes::new(SchedulerServiceServer::new(served.clone()));
            let server = Server::new(&Ring::new(&world, "s"), &Metrics::default(), Limits::default(), routes);
            listener.serve(&world, server.clone(), &credentials).unwrap();
            tell.send((server, served)).unwrap();
        });
        let (server, served) = told.recv().unwrap();
        let listing = Listing {
            who: me,
            session,
            roles: BTreeSet::from([Role::Scheduler]),
            endpoints: BTreeMap::from([(Listing::RPC.into(), served.endpoint.to_string())]),
            zone: String::new(),
            machine: String::new(),
            release: "1".into(),
            speaks: Speaks::NOW,
            load: 0,
            serving: true,
            config: 0,
            status: Known::Alive,
        };
        Process { runtime, server, served, listing }
    }

    fn end(self) {
        self.runtime.shutdown_background();
    }
}

/// A process that calls others, and what it knows of them.
struct Caller {
    world: World,
    ring: Arc<Ring>,
    authority: Authority,
    directory: Arc<Directory>,
    number: AtomicU64,
    peers: Arc<Balanced>,
}

impl Caller {
    fn new() -> Arc<Caller> {
        let world = world_on(&tokio::runtime::Handle::current());
        let authority = Authority::create(&world, CELL).unwrap();
        let me = who(Role::Coordinator, "main");
        let issued = authority.issue(&world, &me).unwrap();
        let credentials = Credentials::new(&issued, &authority.certificate_pem).unwrap();
        let (directory, inner) = (Directory::new(), TlsPeers::new(&world, me.clone(), &credentials).unwrap());
        directory.replace(Version { instance: 1, number: 0 }, []);
        let here = Here { who: me, roles: BTreeSet::from([Role::Coordinator]), zone: String::new() };
        let peers = Balanced::new(inner, &directory, here);
        let ring = Ring::new(&world, "main");
        Arc::new(Caller { world, ring, authority, directory, number: AtomicU64::new(0), peers })
    }

    fn tell(&self, change: Change) {
        let after = self.number.fetch_add(1, Ordering::Relaxed);
        self.directory.apply(after, Version { instance: 1, number: after + 1 }, [change]).unwrap();
    }

    fn put(&self, listing: &Listing) {
        self.tell(Change::Put(Arc::new(listing.clone())));
    }

    /// Who answered.
    async fn call(&self, target: &Target, within: Duration) -> Result<String, Error> {
        let cx = Cx::root(&self.ring, None, self.world.now() + within);
        let answer =
            SchedulerServiceClient::new(self.peers.channel(target, &cx)).select(SelectRequest::default()).await;
        Ok(answer?.into_inner().hosts.remove(0))
    }

    async fn any(&self) -> Result<String, Error> {
        self.call(&Target::any(Role::Scheduler), Duration::from_secs(30)).await
    }

    async fn pause(&self, millis: u64) {
        self.world.sleep(Duration::from_millis(millis)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_moves_under_load_and_no_call_fails() {
    let caller = Caller::new();
    let mut old = Process::start(&caller.authority, "s", 1);
    caller.put(&old.listing);
    let (stop, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let calls = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(Semaphore::new(0));
    for _ in 0..200 {
        let (caller, stop, failures) = (Arc::clone(&caller), Arc::clone(&stop), Arc::clone(&failures));
        let (calls, ended, world) = (Arc::clone(&calls), Arc::clone(&ended), caller.world.clone());
        world.spawn("caller", async move {
            while !stop.load(Ordering::Relaxed) {
                calls.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = caller.any().await {
                    failures.lock().push(error);
                }
            }
            ended.add_permits(1);
        });
    }
    for session in 2..8 {
        caller.pause(50).await;
        let silent = Listing { serving: false, ..old.listing.clone() };
        match session % 3 {
            // The successor is there before the old one leaves.
            0 => {}
            // There is nobody for a while, and everybody was told.
            1 => caller.put(&silent),
            // Nobody was told.
            _ => {}
        }
        let make = || Process::start(&caller.authority, "s", session);
        let fresh = if session % 3 == 0 { Some(make()) } else { None };
        fresh.iter().for_each(|fresh| caller.put(&fresh.listing));
        old.server.leave();
        caller.world.timeout(Duration::from_secs(10), old.server.drained()).await.unwrap();
        old.end();
        let fresh = fresh.unwrap_or_else(|| {
            let fresh = make();
            caller.put(&fresh.listing);
            fresh
        });
        let all = async {
            while fresh.served.calls.load(Ordering::Relaxed) < 400 {
                caller.pause(1).await;
            }
        };
        caller.world.timeout(Duration::from_secs(10), all).await.expect("the new one is called");
        old = fresh;
    }
    stop.store(true, Ordering::Relaxed);
    let _all = caller.world.timeout(Duration::from_secs(10), ended.acquire_many(200)).await.unwrap().unwrap();
    let calls = calls.load(Ordering::Relaxed);
    let failures = std::mem::take(&mut *failures.lock());
    assert!(failures.is_empty(), "{} of {calls}: {:?}", failures.len(), failures.first());
    old.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_less_to_do_is_asked_and_who_refuses_is_passed_over() {
    let caller = Caller::new();
    let (one, two) = (Process::start(&caller.authority, "a", 1), Process::start(&caller.authority, "b", 1));
    caller.put(&one.listing);
    // Calls to the one take long.
    let held = one.served.may_answer.acquire_many(1000).await.unwrap();
    for _ in 0..3 {
        let busy = Arc::clone(&caller);
        caller.world.spawn("slow call", async move { drop(busy.any().await) });
    }
    while one.served.calls.load(Ordering::Relaxed) < 3 {
        caller.pause(1).await;
    }
    caller.put(&two.listing);
    for _ in 0..20 {
        assert_eq!(caller.any().await.unwrap(), *two.served.endpoint);
    }
    drop(held);
    // A process by its name, wherever it is.
    let named = Target { name: "a".into(), ..Target::any(Role::Scheduler) };
    assert_eq!(caller.call(&named, Duration::from_secs(5)).await.unwrap(), *one.served.endpoint);
    // It is gone, and nobody has noticed yet.
    let gone = one.served.endpoint.to_string();
    one.end();
    while std::net::TcpStream::connect(&gone).is_ok() {
        caller.pause(1).await;
    }
    for _ in 0..20 {
        assert_eq!(caller.any().await.unwrap(), *two.served.endpoint);
    }
    two.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_somebody_and_says_who_there_was() {
    let caller = Caller::new();
    let short = Duration::from_millis(100);
    let any = Target::any(Role::Scheduler);
    let refused = caller.call(&any, short).await.unwrap_err();
    assert_eq!((refused.verdict, &*refused.reason), (Verdict::NotNow, "nobody is known who is any scheduler"));

    let process = Process::start(&caller.authority, "s", 1);
    let left = Listing { status: Known::Left { since: Wall::from_micros(1) }, ..process.listing.clone() };
    caller.put(&left);
    caller.put(&Listing { who: who(Role::Scheduler, "t"), serving: false, ..process.listing.clone() });
    let refused = caller.call(&any, short).await.unwrap_err();
    let endpoint = &process.served.endpoint;
    let says = format!(
        "nobody who is any scheduler takes calls: scheduler/s at {endpoint} is left: it said that it was leaving; \
         scheduler/t at {endpoint} is alive, not serving"
    );
    assert_eq!(refused, Error::not_now(says));
    // One of that name, which has left: there is nothing to wait for.
    let named = Target { name: "s".into(), ..any };
    let begun = caller.world.now();
    caller.call(&named, Duration::from_secs(30)).await.unwrap_err();
    assert!(caller.world.now().since(begun) < Duration::from_secs(1));

    let (waiting, later) = (caller.any(), async {
        caller.pause(50).await;
        caller.put(&process.listing);
    });
    let (answer, ()) = tokio::join!(waiting, later);
    assert_eq!(answer.unwrap(), **endpoint);
    process.end();
}
