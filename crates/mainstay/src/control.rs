//! Starts control roles in this process: `mainstay serve`, and the control half of `mainstay dev`.

mod seed;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::{Platform, Site};
use config::{Place, Settings, Source, keys};
use coordinator::{Coordinator, Options};
use identity::{Identity, Passwords};
use images::Images;
use liveness::core::Wanted;
use liveness::{ConfigDocument, Instance};
use names::Listing;
use networks::Networks;
use pki::Role;
use rpc::tls::{Listener, TcpProber, TlsPeers};
use rpc::{Health, Peers, Server, Target};
use scheduler::Scheduler;
use servers::nodes::{Attendance, NodesContext, ServersContext};
use servers::{Servers, workflow};
use store::{KeyRange, Record, Store, View};
use telemetry::Ring;
use telemetry::export::Outbox;
use telemetry::metrics::Metrics;
use tokio::net::TcpListener;
use tonic::service::Routes;
use world::World;
use world::os::OsHost;

use crate::args::{Serve, Watched};
use crate::home::{Home, REGION};
use crate::logs::Logs;
use crate::membership::{self, Joining, Membership};
use crate::observe::Observer;
use crate::operator::{Operator, RELEASE};
use crate::{metrics, otlp, renew};

/// How long a process that leaves waits for the calls that it has in progress.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(2);
/// Threads that hash passwords.
const PASSWORD_THREADS: usize = 2;

/// What is to run in this process.
pub struct Plan {
    pub home: Home,
    pub roles: BTreeSet<Role>,
    pub name: String,
    pub rpc_listen: SocketAddr,
    /// Liveness instances, beside the one that this process may be.
    pub bootstrap: Vec<Target>,
    pub zone: String,
    /// Where names are answered over DNS.
    pub dns_listen: Vec<SocketAddr>,
    pub watched: Watched,
    pub logs: Logs,
}

impl Plan {
    fn has(&self, role: Role) -> bool {
        self.roles.contains(&role) || self.roles.contains(&Role::Control)
    }

    /// Where this process is, for what is configured.
    fn place(&self) -> Place {
        Place {
            zone: (!self.zone.is_empty()).then(|| self.zone.clone()),
            roles: self.roles.iter().copied().chain(self.parts()).collect(),
            node: None,
        }
    }

    /// The roles that this process plays: one that has them all names them one by one.
    fn parts(&self) -> impl Iterator<Item = Role> {
        Role::PARTS.into_iter().filter(|role| self.has(*role))
    }
}

/// What runs.
pub struct Running {
    /// Where this process answers the others.
    pub rpc: Target,
    /// The public API, if it is served here.
    pub api: Option<String>,
    world: World,
    server: Server,
    membership: Membership,
    view: Arc<View>,
    engine: Option<store::engine::Engine>,
    stop: Arc<tokio::sync::Notify>,
    api_ended: Option<tokio::sync::oneshot::Receiver<()>>,
    outbox: Option<Outbox>,
}

impl Running {
    /// Completes when the cell knows as many nodes: from then on servers can be placed on them.
    pub async fn knows_nodes(&self, count: usize) {
        loop {
            let seen = self.view.revision();
            let nodes = KeyRange::prefix(placement::Node::TABLE.as_bytes());
            let known = self.view.read(|reader| reader.range(nodes.clone()).count()).await;
            if known.is_ok_and(|known| known >= count) {
                return;
            }
            self.view.advanced(seen).await;
        }
    }

    /// Tells the others, lets running requests finish, then closes the store, then hands out the last spans.
    pub async fn stop(self) {
        self.membership.stop_serving(&self.world).await;
        self.server.leave();
        self.stop.notify_one();
        if let Some(ended) = self.api_ended {
            let _gone_is_ended_too = ended.await;
        }
        let _what_does_not_end_is_cut_off = self.world.timeout(DRAIN_WAIT_MAX, self.server.drained()).await;
        self.membership.leave().await;
        if let Some(engine) = self.engine {
            engine.close().await;
        }
        if let Some(outbox) = self.outbox {
            outbox.flush(otlp::FLUSH_WAIT_MAX).await;
        }
    }
}

/// `mainstay serve`.
pub fn run(args: &Serve) -> anyhow::Result<()> {
    let logs = crate::logs::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let world = OsHost::world(tokio::runtime::Handle::current(), &args.home.join("run"));
        let mut home = Home::open_or_create(&world, &args.home, &crate::home::Wish::default())?;
        home.cell.listen = args.listen.unwrap_or(home.cell.listen);
        let plan = Plan {
            bootstrap: membership::bootstrap(&home, &args.found.bootstrap)?,
            home,
            roles: args.roles.iter().copied().collect(),
            name: args.name.clone(),
            rpc_listen: args.rpc_listen,
            zone: args.zone.clone(),
            dns_listen: args.dns_listen.clone(),
            watched: args.watched.clone(),
            logs,
        };
        let running = start(&world, plan).await?;
        println!("ready {}={}", running.rpc, running.rpc.endpoint);
        crate::dev::wait_for_end().await?;
        running.stop().await;
        Ok(())
    })
}

/// What the roles of one process share.
struct Process {
    world: World,
    plan: Plan,
    ring: Arc<Ring>,
    metrics: Metrics,
    membership: Membership,
    view: Arc<View>,
    networks: Networks,
    settings: Arc<Settings>,
}

impl Process {
    fn has(&self, role: Role) -> bool {
        self.plan.has(role)
    }

    /// The coordinators that are there.
    fn owners(&self) -> servers::Owners {
        let directory = Arc::clone(&self.membership.directory);
        let own = self.has(Role::Coordinator).then(|| self.plan.name.clone());
        Arc::new(move || {
            let listed = directory.of(Role::Coordinator);
            let there = listed.iter().filter(|listing| listing.takes_calls()).map(|listing| listing.who.name.clone());
            there.chain(own.clone()).collect()
        })
    }
}

/// Starts everything that `plan` says. The roles of one process call each other without a socket.
pub async fn start(world: &World, plan: Plan) -> anyhow::Result<Running> {
    let role = match plan.roles.iter().collect::<Vec<_>>().as_slice() {
        [one] => **one,
        _ => Role::Control,
    };
    let credentials = plan.home.credentials(world, role, &plan.name)?;
    keep_fresh(world, &plan, role, &credentials);
    let own = plan.home.identity(role, &plan.name);
    let ring = Ring::new(world, own.to_string());
    let metrics = Metrics::default();
    ring.measure(&metrics);
    let outbox = otlp::start(world, &metrics, &plan.watched)?;
    outbox.iter().for_each(|outbox| ring.export(outbox.clone()));
    let tls = TlsPeers::new(world, own.clone(), &credentials)?;

    // Who asks how it is, or who is there, gets an answer before there is anything else to answer.
    let health = Health::new(world, RELEASE, plan.parts().map(|role| role.to_string()).collect());
    let metrics_at = metrics::serve(world, &metrics, plan.watched.metrics_listen).await?;
    health.metrics_at(metrics_at.to_string());
    let settings = Settings::new(plan.place());
    plan.logs.follow(world, &settings);
    let instance = plan.has(Role::Liveness).then(|| start_instance(world, &plan, &own, &tls, &ring, &settings));
    let first = || {
        let routes = Routes::new(health.service()).add_service(telemetry::service::service(&ring));
        instance.iter().fold(routes, |routes, instance| routes.add_service(instance.service()))
    };
    let server = Server::starting(&ring, &metrics, rpc::Limits::default(), first());
    bound_calls(world, &settings, &server);
    let listener = Listener::bind(plan.rpc_listen).await?;
    let address = listener.address();
    listener.serve(world, server.clone(), &credentials)?;
    let mut routes = first();
    if instance.is_some() {
        tls.serve_here(Role::Liveness, &server);
    }
    let membership = membership::join(Joining {
        world,
        ring: &ring,
        own,
        roles: plan.parts().collect(),
        address,
        zone: plan.zone.clone(),
        machine: membership::machine(),
        tls: &tls,
        bootstrap: plan.bootstrap.clone(),
        watch: Wanted::All,
        settings: &settings,
    });
    membership::stamp(&server, &settings);
    if instance.is_none() {
        membership.found().await?;
    }

    if plan.has(Role::Names) {
        start_dns(world, &plan, &membership, &settings).await?;
    }

    let holds_store = plan.has(Role::Store);
    let (store, engine): (Arc<dyn Store>, _) = if holds_store {
        let path = plan.home.path("store/cell.db");
        let observer = metrics::StoreWrites::new(world, &metrics);
        let engine = store_embedded::open_with(&path, broken, observer, store_embedded::Settings::default())
            .context("cannot open the store")?;
        (Arc::new(engine.clone()), Some(engine))
    } else {
        let peers = Arc::clone(&membership.peers);
        (Arc::new(store_remote::RemoteStore::new(peers, Target::any(Role::Store), &ring)), None)
    };
    let view = View::open(world, Arc::clone(&store), indexes()).await.context("cannot read the store")?;
    settings.take(view.peek(config::source::document));
    if holds_store {
        publish(world, &view, instance.as_ref(), &membership);
    }
    metrics::count_view(&metrics, &view);
    let shown = Arc::clone(&view);
    health.views_loaded(move || shown.revision().as_u64());
    let networks = Networks::new(world, Arc::clone(&view));
    let process = Process { world: world.clone(), plan, ring, metrics, membership, view, networks, settings };

    if holds_store {
        routes = routes.add_service(store_remote::service(&process.world, Arc::clone(&store)));
    }
    if process.has(Role::Scheduler) {
        let scheduler = Scheduler::start(world, Arc::clone(&store), &process.membership.directory);
        routes = routes.add_service(scheduler::service(&scheduler));
    }
    let attendance = Attendance::new();
    if process.has(Role::Coordinator) {
        routes = add_node_services(&process, &attendance, routes);
    }
    let images = if process.has(Role::Api) {
        let limits = images::Limits::default();
        let opened = Images::open(world, Arc::clone(&process.view), &process.plan.home.path("images"), limits).await;
        let images = opened.context("cannot open the image service")?;
        routes = routes.add_service(servers::blobs::service(&images, &process.view));
        Some(images)
    } else {
        None
    };
    let operator =
        Operator::new(&process.view, &process.ring, &process.membership, &attendance, &process.plan, &health);
    if process.has(Role::Coordinator) {
        routes = routes.add_service(operator.service());
    }

    server.started(routes.prepare());
    for served in Role::ALL.into_iter().filter(|served| process.has(*served)) {
        tls.serve_here(served, &server);
    }
    if process.has(Role::Coordinator) {
        // Works are taken over only now that this process can reach the roles that it runs itself.
        let coordinator = start_coordinator(&process, &attendance)?;
        metrics::count_works(&process.metrics, &process.view, &coordinator);
        let named = Arc::clone(&coordinator);
        process.world.spawn("name of the coordinator", async move {
            named.lost_its_name().await;
            nameless();
        });
        operator.set_coordinator(coordinator);
    }
    let stop = Arc::new(tokio::sync::Notify::new());
    let (api, api_ended) = match images {
        Some(images) => {
            let (url, ended) = start_api(&process, images, Arc::clone(&stop)).await?;
            (Some(url), Some(ended))
        }
        None => (None, None),
    };
    let rpc = Target { role, name: process.plan.name.clone(), endpoint: address.to_string() };
    process.plan.home.note_process(&rpc)?;
    health.serving();
    let metrics_at = Some((Listing::METRICS, metrics_at.to_string()));
    let https = api.as_deref().and_then(|url| url.strip_prefix("https://")).map(|at| (Listing::HTTPS, at.to_owned()));
    process.membership.serving(metrics_at.into_iter().chain(https));
    let Process { world, view, membership, .. } = process;
    Ok(Running { rpc, api, world, server, membership, view, engine, stop, api_ended, outbox })
}

/// The liveness instance of this process.
fn start_instance(
    world: &World,
    plan: &Plan,
    own: &pki::Identity,
    tls: &Arc<TlsPeers>,
    ring: &Arc<Ring>,
    settings: &Arc<Settings>,
) -> Arc<Instance> {
    let options = liveness::Options {
        own: own.clone(),
        settings: liveness::core::Settings::default(),
        peers: Arc::clone(tls) as Arc<dyn Peers>,
        prober: Arc::new(TcpProber::new(world)),
        ring: Arc::clone(ring),
        bootstrap: plan.bootstrap.clone(),
    };
    let instance = Instance::start(world, options);
    let patient = Arc::clone(&instance);
    settings.follow(world, move |settings| {
        let grace = settings.get(&keys::LIVENESS_GRACE);
        patient.set(liveness::core::Settings { grace, ..patient.settings() });
    });
    instance
}

/// Answers names over DNS, where that was asked for.
async fn start_dns(
    world: &World,
    plan: &Plan,
    membership: &Membership,
    settings: &Arc<Settings>,
) -> anyhow::Result<()> {
    for address in &plan.dns_listen {
        let listener = dns::Listener::bind(*address).await?;
        let directory = Arc::clone(&membership.directory);
        let settings = Arc::clone(settings);
        let ttl = move || settings.get(&keys::DNS_TTL);
        listener.serve(world, &plan.home.cell.name, directory, ttl).context("cannot answer names over DNS")?;
    }
    Ok(())
}

/// Hands everybody what is configured, from the process that holds the store.
fn publish(world: &World, view: &Arc<View>, instance: Option<&Arc<Instance>>, membership: &Membership) {
    let (instance, session, mut source) = (instance.cloned(), Arc::clone(&membership.session), Source::new(view));
    world.spawn("configuration source", async move {
        loop {
            let document = source.next().await;
            let told = ConfigDocument { revision: document.revision, document: config::wire::encode(&document) };
            match &instance {
                Some(instance) => instance.publish(told),
                None => session.publish(told),
            }
        }
    });
}

/// The calls that `server` takes on are as many as is configured.
pub fn bound_calls(world: &World, settings: &Arc<Settings>, server: &Server) {
    let calls = server.calls().clone();
    settings.follow(world, move |settings| calls.resize(count(settings.get(&keys::CALLS_MAX))));
}

/// As many as can be counted here.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Renews this process's certificate while it runs.
fn keep_fresh(world: &World, plan: &Plan, role: Role, credentials: &rpc::tls::Credentials) {
    let (own, home, name) = (world.clone(), plan.home.clone(), plan.name.clone());
    renew::keep_fresh(world, format!("{role}/{name}"), credentials, move || {
        home.issued(&own, role, &name, Duration::ZERO)
    });
}

fn indexes() -> Vec<store::Index> {
    let all = [identity::indexes(), images::indexes(), networks::indexes(), servers::indexes()];
    all.into_iter().flatten().collect()
}

/// The state of the disk is unknown: only opening the store again can tell what was written.
fn broken(reason: String) {
    eprintln!("mainstay: the store failed ({reason}); the process ends, start it again");
    std::process::exit(70);
}

/// Another process of this name has started, so that this one was taken for dead.
fn nameless() {
    eprintln!(
        "mainstay: another process with the name of this coordinator has started, and its works are that one's now; this \
         process ends. If it is started again it takes the name back: run one process under each --name"
    );
    std::process::exit(70);
}

fn add_node_services(process: &Process, attendance: &Arc<Attendance>, routes: Routes) -> Routes {
    let context = NodesContext {
        world: process.world.clone(),
        view: Arc::clone(&process.view),
        attendance: Arc::clone(attendance),
        coordinator: process.plan.name.clone(),
        settings: Arc::clone(&process.settings),
    };
    servers::nodes::follow(&context);
    let told = ServersContext {
        view: Arc::clone(&process.view),
        attendance: Arc::clone(attendance),
        peers: Arc::clone(&process.membership.peers),
    };
    routes.add_service(servers::nodes::service(&context)).add_service(servers::nodes::servers_service(&told))
}

fn start_coordinator(process: &Process, attendance: &Arc<Attendance>) -> anyhow::Result<Arc<Coordinator>> {
    let context = workflow::Context {
        attendance: Arc::clone(attendance),
        scheduler: Target::any(Role::Scheduler),
        picks: process.networks.picks().clone(),
    };
    let works_max = |settings: &Settings| count(settings.get(&keys::WORKS_MAX));
    let options = Options { owner: process.plan.name.clone(), concurrent: works_max(&process.settings) };
    let workflows = workflow::all(&context);
    let Process { view, ring, membership: Membership { peers, .. }, settings, .. } = process;
    let coordinator = Coordinator::start(view, ring, peers, workflows, options);
    let works = coordinator.works().clone();
    settings.follow(&process.world, move |settings| works.resize(works_max(settings)));
    servers::push::start(view, ring, peers, attendance);
    Ok(coordinator)
}

async fn start_api(
    process: &Process,
    images: Arc<Images>,
    stop: Arc<tokio::sync::Notify>,
) -> anyhow::Result<(String, tokio::sync::oneshot::Receiver<()>)> {
    let Process { world, plan, view, ring, membership, metrics, networks, settings } = process;
    let listen = plan.home.cell.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}: is another cell running? (--listen ADDRESS:PORT chooses another address)")
    })?;
    let address = listener.local_addr()?;
    let public_url = format!("https://{address}");
    let passwords = Passwords::start(PASSWORD_THREADS)?;
    let hanging_on_users = &[servers::keypair::remove_of_user as identity::HangingOnUser];
    let identity = Identity::with(world, Arc::clone(view), passwords, hanging_on_users, settings);
    seed::seed(process, &identity, networks, &images, &public_url).await?;

    let platform = Platform {
        world: world.clone(),
        auth: Arc::clone(&identity) as Arc<dyn api::Authenticator>,
        observer: Observer::new(metrics),
        region: REGION.into(),
        public_url: public_url.clone(),
    };
    let compute = Arc::new(api_compute::Compute {
        servers: Servers::new(view, &process.owners()),
        images: Arc::clone(&images),
        networks: networks.clone(),
        view: Arc::clone(view),
        world: world.clone(),
        ring: Arc::clone(ring),
        peers: Arc::clone(&membership.peers),
        coordinator: Target::any(Role::Coordinator),
        directory: Arc::clone(&membership.directory),
        identity: Arc::clone(&identity),
    });
    let (router, table) = Site::new(&platform)
        .nest("/identity", api_identity::discovery(), Arc::clone(&identity))
        .nest("/identity/v3", api_identity::routes(), identity)
        .nest("/compute", api_compute::discovery(), Arc::clone(&compute))
        .nest("/compute/v2.1", api_compute::routes(), compute)
        .nest("/image", api_image::routes(), images)
        .nest("/network", api_network::routes(), networks.clone())
        .nest("/placement", api_placement::routes(), Arc::clone(view))
        .build();
    plan.home.note_routes(&table)?;
    let tls = public_tls(process, address)?;
    let (ended, api_ended) = tokio::sync::oneshot::channel();
    let (serving, limits) = (world.clone(), limits(world, settings));
    world.spawn("public api", async move {
        api::serve(listener, tls, router, serving, limits, async move { stop.notified().await }).await;
        let _nobody_waits = ended.send(());
    });
    plan.home.write_client_files(&public_url)?;
    Ok((public_url, api_ended))
}

/// How the public API shows itself: with a certificate that is renewed while it runs.
fn public_tls(process: &Process, address: SocketAddr) -> anyhow::Result<tokio_rustls::rustls::ServerConfig> {
    let (world, home) = (process.world.clone(), process.plan.home.clone());
    let issued = move || home.public_certificate(&world, &hosts(address));
    // Its clients show no certificate: nobody is verified.
    let credentials = rpc::tls::Credentials::new(&issued()?, "")?;
    renew::keep_fresh(&process.world, "public API".to_owned(), &credentials, issued);
    Ok(credentials.public_server_config()?)
}

/// What clients of the public API may hold: never so many connections that nothing is left to open files with.
fn limits(world: &World, settings: &Arc<Settings>) -> api::serve::Limits {
    let limits = api::serve::Limits::default();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = limits.connections.clone();
    settings.follow(world, move |settings| {
        connections.resize(count(settings.get(&keys::API_CONNECTIONS_MAX).min(files / 2)));
    });
    limits
}

/// The names and addresses under which clients may reach the public API.
fn hosts(address: SocketAddr) -> Vec<String> {
    let mut hosts = vec![address.ip().to_string()];
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        hosts.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    hosts.sort();
    hosts.dedup();
    hosts
}
