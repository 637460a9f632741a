//! Starts control roles in this process: `mainstay serve`, and the control half of `mainstay dev`.

mod base;
mod public;
mod seed;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use config::{Place, Settings, Source, keys};
use coordinator::{Coordinator, Options};
use images::Images;
use liveness::{ConfigDocument, Instance};
use networks::Networks;
use pki::Role;
use rpc::Target;
use scheduler::Scheduler;
use servers::nodes::{Attendance, NodesContext, ServersContext};
use servers::workflow;
use store::{KeyRange, Record, Store, View};
use tonic::service::Routes;
use world::World;
use world::os::OsHost;

use crate::args::{Serve, Watched};
use crate::home::Home;
use crate::logs::Logs;
use crate::membership::{self, Membership};
use crate::operator::Operator;
use crate::{metrics, otlp};

use base::Base;
pub use base::bound_calls;

/// How long a process that leaves waits for the calls that it has in progress.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(2);

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
    base: Base,
    /// The public API, if it is served here.
    pub api: Option<String>,
    view: Option<Arc<View>>,
    engine: Option<store::engine::Engine>,
    stop: Arc<tokio::sync::Notify>,
    api_ended: Option<tokio::sync::oneshot::Receiver<()>>,
}

impl Running {
    /// Where this process answers the others.
    pub fn rpc(&self) -> &Target {
        &self.base.target
    }

    /// Completes when the cell knows as many nodes: from then on servers can be placed on them.
    pub async fn knows_nodes(&self, count: usize) {
        let Some(view) = &self.view else { return };
        loop {
            let seen = view.revision();
            let nodes = KeyRange::prefix(placement::Node::TABLE.as_bytes());
            let known = view.read(|reader| reader.range(nodes.clone()).count()).await;
            if known.is_ok_and(|known| known >= count) {
                return;
            }
            view.advanced(seen).await;
        }
    }

    /// Tells the others, lets running requests finish, then closes the store, then hands out the last spans.
    pub async fn stop(self) {
        let Base { world, server, membership, outbox, .. } = self.base;
        membership.stop_serving(&world).await;
        server.leave();
        self.stop.notify_one();
        if let Some(ended) = self.api_ended {
            let _gone_is_ended_too = ended.await;
        }
        let _what_does_not_end_is_cut_off = world.timeout(DRAIN_WAIT_MAX, server.drained()).await;
        membership.leave().await;
        if let Some(engine) = self.engine {
            engine.close().await;
        }
        if let Some(outbox) = outbox {
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
        println!("ready {}={}", running.rpc(), running.rpc().endpoint);
        crate::dev::wait_for_end().await?;
        running.stop().await;
        Ok(())
    })
}

/// What the roles share that work on what is in the store.
struct Process {
    base: Base,
    view: Arc<View>,
    networks: Networks,
}

impl Process {
    /// The coordinators that are there.
    fn owners(&self) -> servers::Owners {
        let Base { membership, plan, .. } = &self.base;
        let directory = Arc::clone(&membership.directory);
        let own = plan.has(Role::Coordinator).then(|| plan.name.clone());
        Arc::new(move || {
            let known = directory.owners(Role::Coordinator);
            // Its own listing may not have come back to it yet.
            let own = own.iter().filter(|own| !known.contains(own)).cloned().collect::<Vec<_>>();
            known.into_iter().chain(own).collect()
        })
    }
}

/// Starts everything that `plan` says. The roles of one process call each other without a socket.
pub async fn start(world: &World, plan: Plan) -> anyhow::Result<Running> {
    let base = Base::start(world, plan).await?;
    if ON_THE_STORE.iter().any(|role| base.plan.has(*role)) {
        return start_on_the_store(base).await;
    }
    base.server.started(base.routes.clone().prepare());
    base.announce(None)?;
    Ok(Running { base, api: None, view: None, engine: None, stop: Arc::default(), api_ended: None })
}

/// Roles that work on what is in the store.
const ON_THE_STORE: [Role; 4] = [Role::Store, Role::Api, Role::Coordinator, Role::Scheduler];

async fn start_on_the_store(base: Base) -> anyhow::Result<Running> {
    let Base { world, plan, .. } = &base;
    let holds_store = plan.has(Role::Store);
    let (store, engine): (Arc<dyn Store>, _) = if holds_store {
        let path = plan.home.path("store/cell.db");
        let observer = metrics::StoreWrites::new(world, &base.metrics);
        let engine = store_embedded::open_with(&path, broken, observer, store_embedded::Settings::default())
            .context("cannot open the store")?;
        (Arc::new(engine.clone()), Some(engine))
    } else {
        let peers = Arc::clone(&base.membership.peers);
        (Arc::new(store_remote::RemoteStore::new(peers, Target::any(Role::Store), &base.ring)), None)
    };
    let view = View::open(world, Arc::clone(&store), indexes()).await.context("cannot read the store")?;
    base.settings.take(view.peek(config::source::document));
    if holds_store {
        publish(world, &view, base.instance.as_ref(), &base.membership);
    }
    metrics::count_view(&base.metrics, &view);
    let shown = Arc::clone(&view);
    base.health.views_loaded(move || shown.revision().as_u64());
    let networks = Networks::new(world, Arc::clone(&view));
    let process = Process { base, view, networks };
    let Process { base: Base { world, ring, membership, plan, health, server, .. }, view, .. } = &process;

    let mut routes = process.base.routes.clone();
    if holds_store {
        routes = routes.add_service(store_remote::service(world, Arc::clone(&store)));
    }
    if plan.has(Role::Scheduler) {
        let scheduler = Scheduler::start(world, Arc::clone(&store), &membership.directory);
        routes = routes.add_service(scheduler::service(&scheduler));
    }
    let attendance = Attendance::new();
    if plan.has(Role::Coordinator) {
        routes = add_node_services(&process, &attendance, routes);
    }
    let images = if plan.has(Role::Api) {
        let limits = images::Limits::default();
        let opened = Images::open(world, Arc::clone(view), &plan.home.path("images"), limits).await;
        let images = opened.context("cannot open the image service")?;
        routes = routes.add_service(servers::blobs::service(&images, view));
        Some(images)
    } else {
        None
    };
    let operator = Operator::new(view, ring, membership, &attendance, plan, health);
    if plan.has(Role::Coordinator) {
        routes = routes.add_service(operator.service());
    }

    server.started(routes.prepare());
    process.base.serve_here();
    if plan.has(Role::Coordinator) {
        // Works are taken over only now that this process can reach the roles that it runs itself.
        let coordinator = start_coordinator(&process, &attendance)?;
        metrics::count_works(&process.base.metrics, view, &coordinator);
        let named = Arc::clone(&coordinator);
        world.spawn("name of the coordinator", async move {
            named.lost_its_name().await;
            nameless();
        });
        operator.set_coordinator(coordinator);
    }
    let stop = Arc::new(tokio::sync::Notify::new());
    let (api, api_ended) = match images {
        Some(images) => {
            let (url, ended) = public::start(&process, images, Arc::clone(&stop)).await?;
            (Some(url), Some(ended))
        }
        None => (None, None),
    };
    process.base.announce(api.as_deref())?;
    let Process { base, view, .. } = process;
    Ok(Running { base, api, view: Some(view), engine, stop, api_ended })
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

/// As many as can be counted here.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
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
        world: process.base.world.clone(),
        view: Arc::clone(&process.view),
        attendance: Arc::clone(attendance),
        coordinator: process.base.plan.name.clone(),
        settings: Arc::clone(&process.base.settings),
    };
    servers::nodes::follow(&context);
    let told = ServersContext {
        view: Arc::clone(&process.view),
        attendance: Arc::clone(attendance),
        peers: Arc::clone(&process.base.membership.peers),
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
    let options = Options { owner: process.base.plan.name.clone(), concurrent: works_max(&process.base.settings) };
    let workflows = workflow::all(&context);
    let Process { base: Base { world, ring, membership: Membership { peers, .. }, settings, .. }, view, .. } = process;
    let coordinator = Coordinator::start(view, ring, peers, workflows, options);
    let works = coordinator.works().clone();
    settings.follow(world, move |settings| works.resize(works_max(settings)));
    servers::push::start(view, ring, peers, attendance);
    Ok(coordinator)
}
