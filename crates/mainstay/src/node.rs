//! Runs the agents of one or more nodes in this process: `mainstay agent`.
//!
//! Each node has its own identity, its own certificate and its own listener; all share the process's log.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::{Journal, Node};
use anyhow::{Context, bail};
use config::{Place, Settings};
use driver::Driver;
use driver_fake::FakeMachine;
use driver_qemu::{Networking, QemuDriver, Share, Tools};
use liveness::core::Wanted;
use pki::Role;
use rpc::tls::{Listener, TlsPeers};
use rpc::{Health, Server, Target};
use telemetry::Ring;
use telemetry::export::Outbox;
use telemetry::metrics::Metrics;
use tokio::io::AsyncReadExt;
use tonic::service::Routes;
use world::World;
use world::os::OsHost;

use crate::args::{Agent, DriverKind, Part};
use crate::home::{Home, make_dir};
use crate::logs::Logs;
use crate::membership::{self, Joining, Membership};
use crate::operator::RELEASE;
use crate::{beside, control, metrics, otlp, renew};

/// How long to wait for an agent process of the same nodes to end.
const PREDECESSOR_WAIT_MAX: Duration = Duration::from_secs(10);
const PREDECESSOR_PAUSE: Duration = Duration::from_millis(20);

/// `mainstay agent`.
pub fn run(args: &Agent) -> anyhow::Result<()> {
    let logs = crate::logs::start();
    let home = Home::open(&args.home)?;
    let dir = home.path("agents").join(args.nodes.first().context("no node is named")?);
    make_dir(&dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let world = OsHost::world(tokio::runtime::Handle::current(), &dir);
        let _lock = lock(&world, &dir).await?;
        beside::settle(&home, &dir)?;
        let Running { journal, outbox, members } = start(&world, &home, args, &dir, logs).await?;
        println!("ready {} nodes", args.nodes.len());
        let input = async {
            if args.until_input_ends {
                let mut rest = Vec::new();
                let _ends_either_way = tokio::io::stdin().read_to_end(&mut rest).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = input => {}
            ended = crate::dev::wait_for_end() => ended?,
            // What lies behind the failure in the log is unknown: only opening it again can tell.
            error = journal.failed() => bail!("the agent's log failed ({error}); the process ends, start it again"),
        }
        futures_util::future::join_all(members.iter().map(Membership::leave)).await;
        if let Some(outbox) = outbox {
            outbox.flush(otlp::FLUSH_WAIT_MAX).await;
        }
        anyhow::Ok(())
    })?;
    // Whatever is under way is in the log: there is nothing to wait for.
    runtime.shutdown_background();
    Ok(())
}

/// Holds the directory for this process: two agents of one node would undo each other's work.
async fn lock(world: &World, dir: &Path) -> anyhow::Result<std::fs::File> {
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    let give_up = world.now() + PREDECESSOR_WAIT_MAX;
    loop {
        match rustix::fs::flock(file.as_fd(), rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(_) if world.now() < give_up => world.sleep(PREDECESSOR_PAUSE).await,
            Err(error) => {
                bail!("another agent process holds {} ({error}); end it first", dir.display());
            }
        }
    }
}

/// Which boot of the machine this is, and whether what ran in an earlier one is started again.
struct Boot {
    id: String,
    resumes: bool,
}

/// What the nodes of one process share.
struct Process<'a> {
    world: &'a World,
    home: &'a Home,
    args: &'a Agent,
    dir: &'a Path,
    boot: Boot,
    journal: Arc<Journal>,
    ring: Arc<Ring>,
    metrics: Metrics,
    health: Health,
    settings: Arc<Settings>,
    bootstrap: Vec<Target>,
}

/// What runs.
struct Running {
    journal: Arc<Journal>,
    outbox: Option<Outbox>,
    members: Vec<Membership>,
}

async fn start(world: &World, home: &Home, args: &Agent, dir: &Path, logs: Logs) -> anyhow::Result<Running> {
    let boot_id = std::fs::read_to_string(&args.boot_id_file)
        .with_context(|| format!("cannot read which boot this is from {}", args.boot_id_file.display()))?;
    let boot = Boot { id: boot_id.trim().to_owned(), resumes: args.resume_guests_after_boot };
    let journal = Journal::open(world).await.context("cannot open the agent's log")?;
    let machine = match args.driver {
        DriverKind::Fake => Some(FakeMachine::open(world, &dir.join("fake"), &boot.id)?),
        DriverKind::Qemu if args.nodes.len() > 1 => bail!("a process runs one qemu node"),
        DriverKind::Qemu => None,
    };
    let metrics = Metrics::default();
    metrics::count_logs(&metrics, world);
    let health = Health::new(world, RELEASE, vec![Role::Agent.to_string()]);
    let metrics_at = metrics::serve(world, &metrics, args.watched.metrics_listen).await?;
    health.metrics_at(metrics_at.to_string());
    // One memory for the process: a thousand fake nodes remember no more than one real one.
    let ring = Ring::new(world, format!("agent/{} nodes", args.nodes.len()));
    ring.measure(&metrics);
    let outbox = otlp::start(world, &metrics, &args.watched)?;
    outbox.iter().for_each(|outbox| ring.export(outbox.clone()));
    // Of several nodes in one process none is the one that it serves.
    let node = if args.nodes.len() == 1 { args.nodes.first().cloned() } else { None };
    let settings = Settings::new(Place { zone: None, roles: [Role::Agent].into(), node });
    logs.follow(world, &settings);
    let bootstrap = membership::bootstrap(home, &args.found.bootstrap)?;
    let process = Process { world, home, args, dir, boot, journal, ring, metrics, health, settings, bootstrap };
    let mut members = Vec::new();
    for (index, name) in args.nodes.iter().enumerate() {
        let driver: Arc<dyn Driver> = match &machine {
            Some(machine) => machine.driver(name),
            None => Arc::new(qemu(world, home, dir, process.boot.id.clone(), args.part).await?),
        };
        let listen = if index == 0 { args.rpc_listen } else { SocketAddr::new(args.rpc_listen.ip(), 0) };
        members.push(start_node(&process, name, driver, listen).await?);
    }
    process.health.serving();
    Ok(Running { journal: process.journal, outbox, members })
}

/// The driver for the guests under `dir`.
pub async fn qemu(world: &World, home: &Home, dir: &Path, boot_id: String, part: Part) -> anyhow::Result<QemuDriver> {
    let own = beside::own_name(dir);
    let networking = if rustix::process::geteuid().is_root() {
        Networking::Node(node_net::Config { tag: home.cell.tag.clone(), node: own.clone() })
    } else {
        tracing::warn!("without root: guests get user-mode networking, without security groups, and are not confined");
        Networking::User
    };
    let Part { parts, vcpus, memory_mib, disk_gib } = part;
    let share = Share { name: own, among: Some(home.path("agents")), parts, vcpus, memory_mib, disk_gib };
    let config =
        driver_qemu::Config { state_dir: dir.to_path_buf(), boot_id, tools: Tools::default(), networking, share };
    QemuDriver::open(world.clone(), config).await.map_err(Into::into)
}

async fn start_node(
    process: &Process<'_>,
    name: &str,
    driver: Arc<dyn Driver>,
    listen: SocketAddr,
) -> anyhow::Result<Membership> {
    let Process { world, home, args, dir, boot, journal, metrics, health, settings, .. } = process;
    let credentials = home.credentials(world, Role::Agent, name)?;
    renew::keep_agent_fresh(world, home, name, &credentials);
    let identity = home.identity(Role::Agent, name);
    // Its spans carry its own name, whoever else is in this process.
    let ring = process.ring.beside(identity.to_string());
    let tls = TlsPeers::new(world, identity.clone(), &credentials)?;
    // The address comes first: it is what the node tells others.
    let listener = Listener::bind(listen).await?;
    let membership = membership::join(Joining {
        world,
        ring: &ring,
        own: identity,
        roles: [Role::Agent].into(),
        address: listener.address(),
        zone: String::new(),
        machine: args.machine.clone().unwrap_or_else(|| name.to_owned()),
        tls: &tls,
        bootstrap: process.bootstrap.clone(),
        watch: Wanted::Roles([Role::Coordinator, Role::Api].into()),
        settings,
    });
    let session = Arc::clone(&membership.session);
    let node = Node::start(
        world,
        journal,
        agent::Config {
            name: name.to_owned(),
            endpoint: listener.address().to_string(),
            boot_id: boot.id.clone(),
            resume_after_boot: boot.resumes,
            release: RELEASE.to_owned(),
            driver,
            peers: Arc::clone(&membership.peers),
            directory: Arc::clone(&membership.directory),
            named: Arc::new(move || {
                let session = Arc::clone(&session);
                Box::pin(async move { session.standing().await })
            }),
            images: vec![Target::any(Role::Api)],
            scratch: dir.join("scratch").join(name),
            files: Arc::new(agent::OnDisk),
            ring: Arc::clone(&ring),
        },
    );
    let routes = Routes::new(agent::service(&node))
        .add_service(telemetry::service::service(&ring))
        .add_service(health.service());
    let server = Server::new(&ring, metrics, rpc::Limits::default(), routes.prepare());
    control::bound_calls(world, settings, &server);
    membership::stamp(&server, settings);
    membership::tell_load(world, &membership, &server);
    listener.serve(world, server, &credentials)?;
    membership.serving([]);
    Ok(membership)
}
