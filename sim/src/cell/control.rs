//! The control process: the roles over one store, as the binary puts them together.

use std::sync::Arc;

use coordinator::{Coordinator, Options};
use networks::Networks;
use pki::Role;
use rpc::Server;
use scheduler::Scheduler;
use servers::nodes::{Attendance, NodesContext};
use servers::{Servers, workflow};
use store::engine::Engine;
use store::{Store, View};
use telemetry::Ring;
use telemetry::metrics::Metrics;
use tonic::service::Routes;
use world::World;

use super::{CONTROL, Cell, bootstrap, identity, target};
use crate::exec::Process;

/// Works that move at the same time: few, so that they also wait for each other.
const WORKS_MAX: usize = 64;

/// What requests are made of: the functions behind the API, in the process that runs them.
#[derive(Clone)]
pub struct Control {
    /// The process.
    pub process: Process,
    /// Accepts requests about servers.
    pub servers: Servers,
    /// The spans of the process.
    pub ring: Arc<Ring>,
    /// Who attends.
    pub attendance: Arc<Attendance>,
}

/// All indexes of a process that holds every role.
pub(crate) fn indexes() -> Vec<store::Index> {
    let all = [identity::indexes(), images::indexes(), networks::indexes(), servers::indexes()];
    all.into_iter().flatten().collect()
}

/// Runs until the process must end, and says why.
pub(super) async fn run(cell: Arc<Cell>, process: Process, world: World) -> String {
    let (core, journal) = cell.store.open(process);
    let (engine, committer) = Engine::new(core, journal);
    let (ended, end) = tokio::sync::oneshot::channel();
    world.spawn("store committer", async move { drop(ended.send(committer.run().await)) });
    if let Err(reason) = roles(&cell, process, &world, engine).await {
        return reason;
    }
    match end.await {
        Ok(Err(error)) => format!("the store failed: {error}"),
        Ok(Ok(())) | Err(_) => "the store was closed".into(),
    }
}

async fn roles(cell: &Arc<Cell>, process: Process, world: &World, engine: Engine) -> Result<(), String> {
    let store: Arc<dyn Store> = Arc::new(engine);
    let view = View::open(world, Arc::clone(&store), indexes()).await.map_err(|error| error.to_string())?;
    let own = identity(Role::Control, CONTROL);
    let ring = Ring::new(world, own.to_string());
    let peers = cell.net.peers(process, own);
    let attendance = Attendance::new();
    let scheduler = Scheduler::start(world, store);
    let nodes = NodesContext {
        world: world.clone(),
        view: Arc::clone(&view),
        attendance: Arc::clone(&attendance),
        coordinator: CONTROL.into(),
    };
    let routes = Routes::new(scheduler::service(&scheduler)).add_service(servers::nodes::service(&nodes));
    let server = Server::new(&ring, &Metrics::default(), rpc::Limits::default(), routes.prepare());
    cell.net.listen(CONTROL, process, server);

    let context = workflow::Context {
        attendance: Arc::clone(&attendance),
        scheduler: target(Role::Scheduler),
        picks: networks::Picks::default(),
    };
    let options = Options { owner: CONTROL.into(), concurrent: WORKS_MAX };
    let _driven_by_its_own_tasks = Coordinator::start(&view, &ring, &peers, workflow::all(&context), options);
    servers::push::start(&view, &ring, &peers, &attendance);

    let networks = Networks::new(world, Arc::clone(&view));
    bootstrap::seed(world, &view, &networks).await?;
    let servers = Servers::new(&view, &[CONTROL.to_owned()]);
    cell.arrived(process, Control { process, servers, ring, attendance });
    Ok(())
}
