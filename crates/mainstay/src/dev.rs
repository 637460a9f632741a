//! `mainstay dev`: a whole cell for one machine, in the foreground.
//!
//! All control roles run in this process; agents run in processes of their own, which end with this one (their standard
//! input ends), and are started again if they end before. Guests belong to nobody: they run on.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use driver::Driver;
use pki::Role;
use rpc::Target;
use tokio::signal::unix::{SignalKind, signal};
use world::World;
use world::os::OsHost;

use crate::args::{Dev, DriverKind, Part, Watched};
use crate::control::{self, Plan};
use crate::home::{Home, Wish};

/// Wait before an agent that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// How long a new cell waits for its nodes before it says that it is ready: without them no server finds a host.
const FIRST_NODES_WAIT_MAX: Duration = Duration::from_secs(20);

/// Runs the cell until SIGTERM or SIGINT.
pub fn run(args: &Dev) -> anyhow::Result<()> {
    let logs = crate::logs::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let world = OsHost::world(tokio::runtime::Handle::current(), &args.home.join("run"));
        let wish = Wish {
            listen: args.listen,
            driver: args.driver,
            nodes: args.nodes,
            resume_guests_after_boot: args.resume_guests_after_boot,
        };
        let home = Home::open_or_create(&world, &args.home, &wish)?;
        say_what_is_missing(&home);
        let plan = Plan {
            home: home.clone(),
            roles: [Role::Control].into(),
            name: "main".into(),
            rpc_listen: ([127, 0, 0, 1], 0).into(),
            bootstrap: Vec::new(),
            zone: String::new(),
            dns_listen: args.dns_listen.clone(),
            watched: args.watched.clone(),
            logs,
        };
        let running = control::start(&world, plan).await?;
        start_agents(&world, &home, running.rpc(), args);
        // A new cell has no place for a server before its nodes have come; later they are known from the start.
        let mut ended = std::pin::pin!(wait_for_end());
        tokio::select! {
            ended = &mut ended => {
                running.stop().await;
                return ended;
            }
            came = world.timeout(FIRST_NODES_WAIT_MAX, running.knows_nodes(home.cell.nodes as usize)) => {
                if came.is_err() {
                    tracing::warn!("not all nodes have come yet: `mainstay node list` shows which");
                }
            }
        }
        println!("ready {}", running.api.as_deref().unwrap_or_default());
        ended.await?;
        running.stop().await;
        Ok(())
    })
}

fn say_what_is_missing(home: &Home) {
    let real = match home.cell.driver {
        DriverKind::Qemu => true,
        DriverKind::Fake => false,
    };
    if real && !rustix::process::geteuid().is_root() {
        eprintln!(
            "mainstay: not root, so some things are missing: guests have user-mode networking (they reach out, nobody \
             reaches them, and they reach what listens on this machine), no security groups, no routers, and are \
             confined by QEMU's sandbox only. Run as root for all of it."
        );
    }
}

/// One process for a node that runs real guests, one for all fake nodes.
fn start_agents(world: &World, home: &Home, control: &Target, args: &Dev) {
    let names: Vec<String> = (1..=home.cell.nodes).map(|number| format!("node-{number}")).collect();
    crate::renew::watch_over(world, home, names.clone());
    let processes: Vec<Vec<String>> = match home.cell.driver {
        DriverKind::Qemu => names.into_iter().map(|name| vec![name]).collect(),
        DriverKind::Fake => vec![names],
    };
    for nodes in processes {
        let (home, control, own) = (home.clone(), control.clone(), world.clone());
        let (boot_id_file, watched) = (args.boot_id_file.clone(), args.watched.clone());
        world.spawn("agent process", async move {
            loop {
                match agent_process(&own, &home, &control, &nodes, &boot_id_file, &watched).await {
                    Ok(status) => {
                        tracing::warn!(nodes = nodes.join(","), %status, "an agent process ended; it is started again")
                    }
                    Err(error) => {
                        tracing::error!(nodes = nodes.join(","), %error, "an agent process cannot be started")
                    }
                }
                own.sleep(RESTART_PAUSE).await;
            }
        });
    }
}

async fn agent_process(
    world: &World,
    home: &Home,
    control: &Target,
    nodes: &[String],
    boot_id_file: &Path,
    watched: &Watched,
) -> anyhow::Result<std::process::ExitStatus> {
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let driver = match home.cell.driver {
        DriverKind::Qemu => "qemu",
        DriverKind::Fake => "fake",
    };
    let mut command = tokio::process::Command::new(program);
    command.arg("agent").arg("--home").arg(home.path("")).args(["--driver", driver, "--until-input-ends"]);
    command.arg("--boot-id-file").arg(boot_id_file);
    if home.cell.resume_guests_after_boot {
        command.arg("--resume-guests-after-boot");
    }
    command.arg("--bootstrap").arg(&control.endpoint);
    // A port of its own: the one that was asked for is this process's.
    command.args(["--metrics-listen", "127.0.0.1:0"]);
    if let Some(endpoint) = &watched.otlp_endpoint {
        command.args(["--otlp-endpoint", endpoint]);
    }
    if let Some(authority) = &watched.otlp_ca {
        command.arg("--otlp-ca").arg(authority);
    }
    command.args(["--parts", &parts(home).to_string()]);
    if home.cell.driver == DriverKind::Qemu {
        command.args(["--machine", &crate::membership::machine()]);
    }
    for node in nodes {
        // Issued here, so that no agent process needs the authority's key.
        home.credentials(world, Role::Agent, node)?;
        command.args(["--node", node]);
    }
    // A process group of its own: a terminal's interrupt ends this process, and only through it the agents.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut child = command.spawn()?;
    // Waiting would close it: it stays open for exactly as long as this process lives.
    let _until_this_process_ends = child.stdin.take();
    if let (Some(first), Some(pid)) = (nodes.first(), child.id()) {
        home.note_agent(first, pid)?;
    }
    Ok(child.wait().await?)
}

/// How many nodes share this machine's processors, memory and disk. Fake ones have what they pretend.
fn parts(home: &Home) -> NonZeroU32 {
    match home.cell.driver {
        DriverKind::Qemu => NonZeroU32::new(home.cell.nodes).unwrap_or(NonZeroU32::MIN),
        DriverKind::Fake => NonZeroU32::MIN,
    }
}

/// Returns at SIGTERM or SIGINT.
pub async fn wait_for_end() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Removes what a stopped cell has left on this machine: running guests, their limits, and networks, of all its nodes. Its
/// records and disks stay.
pub fn down(dir: &Path) -> anyhow::Result<()> {
    let home = Home::open(dir)?;
    match home.cell.driver {
        DriverKind::Fake => return Ok(()),
        DriverKind::Qemu => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let world = OsHost::world(tokio::runtime::Handle::current(), &home.path("run"));
        let part = Part { parts: parts(&home), vcpus: None, memory_mib: None, disk_gib: None };
        for entry in std::fs::read_dir(home.path("agents")).context("cannot list the agents")? {
            // What is removed is removed in any boot: only what KVM was found to do hangs on it.
            let driver = crate::node::qemu(&world, &home, &entry?.path(), String::new(), part).await?;
            for found in driver.find().await? {
                driver.ensure_stopped(found.guest, None).await?;
                driver.remove_groups(found.guest).await?;
            }
        }
        anyhow::Ok(())
    })?;
    if rustix::process::geteuid().is_root() {
        node_net::destroy_all(&home.cell.tag).context("cannot remove the networks")?;
    }
    Ok(())
}
