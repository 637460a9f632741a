//! Instances and sessions over real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use names::{Directory, Listing, Speaks, Status};
use parking_lot::Mutex;
use pki::{Authority, Identity, Role};
use rpc::tls::{Credentials, Listener, TcpProber, TlsPeers};
use rpc::{Limits, Peers, Server, Target};
use telemetry::Ring;
use telemetry::metrics::Metrics;
use tonic::service::Routes;
use world::World;
use world::os::OsHost;

use crate::core::{Settings, Wanted};
use crate::{ConfigDocument, Instance, Offer, Options, Session};

const SOON: Duration = Duration::from_secs(10);

struct Lab {
    world: World,
    authority: Authority,
}

/// A process: a runtime of its own, which is dropped to kill it.
struct Life<T> {
    thing: T,
    runtime: Option<tokio::runtime::Runtime>,
}

impl<T> Drop for Life<T> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn life<T: Send + 'static, F: Future<Output = T> + Send + 'static>(begin: impl FnOnce(World) -> F) -> Life<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = OsHost::world(runtime.handle().clone(), std::path::Path::new("/nonexistent"));
    let (begun, thing) = std::sync::mpsc::channel();
    let beginning = begin(world.clone());
    world.spawn("begin", async move { begun.send(beginning.await).unwrap() });
    Life { thing: thing.recv().unwrap(), runtime: Some(runtime) }
}

impl Lab {
    fn new() -> Lab {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let authority = Authority::create(&world, "c.mainstay").unwrap();
        Lab { world, authority }
    }

    fn who(role: Role, name: &str) -> Identity {
        Identity { cell: "c.mainstay".into(), role, name: name.into() }
    }

    fn credentials(&self, who: &Identity) -> Credentials {
        let issued = self.authority.issue(&self.world, who).unwrap();
        Credentials::new(&issued, &self.authority.certificate_pem).unwrap()
    }

    /// An instance that follows those at `others`, and where it answers.
    fn instance(&self, name: &str, at: &str, others: &[Target]) -> Life<(Arc<Instance>, Target)> {
        let who = Lab::who(Role::Liveness, name);
        let credentials = self.credentials(&who);
        let (name, at, others) = (name.to_owned(), at.to_owned(), others.to_vec());
        life(|world| async move {
            let ring = Ring::new(&world, who.to_string());
            let listener = Listener::bind(at.parse().unwrap()).await.unwrap();
            let target = Target { role: Role::Liveness, name, endpoint: listener.address().to_string() };
            let peers = TlsPeers::new(&world, who.clone(), &credentials).unwrap();
            let prober = Arc::new(TcpProber::new(&world));
            let options = Options {
                own: who,
                settings: Settings::default(),
                peers,
                prober,
                ring: Arc::clone(&ring),
                bootstrap: others,
            };
            let instance = Instance::start(&world, options);
            let routes = Routes::new(instance.service());
            let server = Server::new(&ring, &Metrics::default(), Limits::default(), routes.prepare());
            listener.serve(&world, server, &credentials).unwrap();
            (instance, target)
        })
    }

    /// A process of an agent: it listens, and has a session.
    fn agent(&self, name: &str, bootstrap: &[Target]) -> Life<Process> {
        self.process(Lab::who(Role::Agent, name), &[Role::Agent], bootstrap)
    }

    fn process(&self, who: Identity, roles: &[Role], bootstrap: &[Target]) -> Life<Process> {
        let credentials = self.credentials(&who);
        let (roles, bootstrap) = (roles.iter().copied().collect::<BTreeSet<_>>(), bootstrap.to_vec());
        life(|world| async move {
            let ring = Ring::new(&world, who.to_string());
            let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let listing = Listing {
                who: who.clone(),
                session: 0,
                roles,
                endpoints: BTreeMap::from([(Listing::RPC.into(), socket.local_addr().unwrap().to_string())]),
                zone: "z".into(),
                machine: format!("machine of {}", who.name),
                release: "1".into(),
                speaks: Speaks::NOW,
                load: 0,
                serving: true,
                config: 0,
                status: Status::Alive,
            };
            let configured = Arc::new(Mutex::new(0));
            let told = Arc::clone(&configured);
            let peers: Arc<dyn Peers> = TlsPeers::new(&world, who, &credentials).unwrap();
            let offer = Offer {
                listing,
                watch: Some(Wanted::All),
                local: None,
                bootstrap,
                peers,
                prober: Arc::new(TcpProber::new(&world)),
                ring,
                configured: Box::new(move |config| *told.lock() = config.revision),
            };
            Process { session: Session::start(&world, offer), _socket: socket, configured }
        })
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool + Send + Sync) {
        let world = self.world.clone();
        let held = async {
            while !holds() {
                world.sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(self.world.timeout(SOON, held).await.is_ok(), "in vain: {what}");
    }
}

struct Process {
    session: Arc<Session>,
    _socket: tokio::net::TcpListener,
    configured: Arc<Mutex<u64>>,
}

fn status(directory: &Directory, role: Role, name: &str) -> Option<Status> {
    directory.get(role, name).map(|listing| listing.status.clone())
}

/// How an instance sees the agent `name`.
fn seen(instance: &Instance, name: &str) -> Option<Status> {
    let all = instance.all();
    all.iter().find(|listing| listing.who.name == name).map(|listing| listing.status.clone())
}

async fn wait(within: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the test's own patience")]
    tokio::time::sleep(within).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_its_instance_and_nobody_sees_its_process_gone() {
    let lab = Lab::new();
    let one = lab.instance("one", "127.0.0.1:0", &[]);
    let two = lab.instance("two", "127.0.0.1:0", std::slice::from_ref(&one.thing.1));
    let address = one.thing.1.clone();
    // `one` learns of `two` only from the sessions; here nobody tells it, so it is told at the start.
    let nameless = Target { name: "one".into(), ..address.clone() };
    let agent = lab.agent("n1", &[nameless, two.thing.1.clone()]);
    let session = Arc::clone(&agent.thing.session);
    session.ready(SOON).await.unwrap();
    session.standing().await;
    lab.until("both know the agent", || seen(&two.thing.0, "n1").is_some()).await;
    let (number, with) = session.stands().unwrap();
    assert_eq!(number, 1);
    assert_eq!(with.endpoint, address.endpoint);

    let watched = Arc::clone(&two.thing.0);
    let seen_gone = Arc::new(Mutex::new(Vec::new()));
    let (log, stop) = (Arc::clone(&seen_gone), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let watching = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            match seen(&watched, "n1") {
                Some(Status::Alive) => {}
                other => log.lock().push(other),
            }
            std::thread::yield_now();
        }
    });
    drop(one);
    lab.until("it is resumed at the other", || {
        session.stands().is_some_and(|(_, with)| with.endpoint != address.endpoint)
    })
    .await;
    assert_eq!(session.stands().unwrap().0, 1, "it is the same session");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    watching.join().unwrap();
    assert_eq!(*seen_gone.lock(), Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_seen_at_once_and_a_leave_is_no_death() {
    let lab = Lab::new();
    let one = lab.instance("one", "127.0.0.1:0", &[]);
    let at = [one.thing.1.clone()];
    let observer = lab.process(Lab::who(Role::Control, "main"), &Role::PARTS, &at);
    let (dying, leaving) = (lab.agent("n1", &at), lab.agent("n2", &at));
    let directory = Arc::clone(observer.thing.session.directory());
    let of = |name: &str| status(&directory, Role::Agent, name);
    lab.until("both are there", || of("n1").is_some() && of("n2").is_some()).await;
    leaving.thing.session.leave(SOON).await;
    lab.until("it has left", || matches!(of("n2"), Some(Status::Left { .. }))).await;
    drop(dying);
    lab.until("it is dead", || matches!(of("n1"), Some(Status::Dead { .. }))).await;
    drop(leaving);
    wait(Duration::from_millis(100)).await;
    assert!(matches!(of("n2"), Some(Status::Left { .. })));
    // The next of the name is another session.
    let next = lab.agent("n1", &at);
    next.thing.session.standing().await;
    assert_eq!(next.thing.session.stands().unwrap().0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_use_is_not_given_to_another_until_it_is_free() {
    let lab = Lab::new();
    let one = lab.instance("one", "127.0.0.1:0", &[]);
    let at = [one.thing.1.clone()];
    let first = lab.agent("n1", &at);
    first.thing.session.standing().await;
    let claimant = lab.agent("n1", &at);
    claimant.thing.session.ready(SOON).await.unwrap();
    wait(Duration::from_millis(300)).await;
    assert_eq!(claimant.thing.session.stands(), None, "it hears of others, and has no session");
    assert!(first.thing.session.stands().is_some());
    drop(first);
    claimant.thing.session.standing().await;
    // Nobody plays what its certificate is not for.
    let liar = lab.process(Lab::who(Role::Agent, "n9"), &[Role::Store], &at);
    let refused = liar.thing.session.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(refused.contains(&at[0].endpoint) && refused.contains("may not play store"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_and_configuration_reach_everybody_through_any_instance() {
    let lab = Lab::new();
    let one = lab.instance("one", "127.0.0.1:0", &[]);
    let two = lab.instance("two", "127.0.0.1:0", std::slice::from_ref(&one.thing.1));
    let agents =
        [lab.agent("n1", std::slice::from_ref(&one.thing.1)), lab.agent("n2", std::slice::from_ref(&two.thing.1))];
    for agent in &agents {
        agent.thing.session.standing().await;
    }
    one.thing.0.publish(ConfigDocument { revision: 7, document: Default::default() });
    one.thing.0.publish(ConfigDocument { revision: 6, document: Default::default() });
    lab.until("both have it", || agents.iter().all(|agent| *agent.thing.configured.lock() == 7)).await;
    agents[0].thing.session.tell(|listing| listing.config = 7);
    agents[0].thing.session.told().await;
    let observer = lab.process(Lab::who(Role::Control, "main"), &Role::PARTS, std::slice::from_ref(&two.thing.1));
    let directory = observer.thing.session.directory();
    lab.until("others know", || directory.get(Role::Agent, "n1").is_some_and(|known| known.config == 7)).await;
    let told = agents[1].thing.session.directory();
    assert_eq!(told.get(Role::Agent, "n1"), None, "a node hears of no other node");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_no_good_address_says_what_each_said() {
    let lab = Lab::new();
    let one = lab.instance("one", "127.0.0.1:0", &[]);
    let wrong = Target { role: Role::Liveness, name: "one".into(), endpoint: "127.0.0.1:1".into() };
    let lost = lab.agent("n1", std::slice::from_ref(&wrong));
    let said = lost.thing.session.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(said.contains("127.0.0.1:1: ") && said.contains("refused"), "{said}");
    let found = lab.agent("n2", &[wrong, one.thing.1.clone()]);
    found.thing.session.ready(SOON).await.unwrap();
}
