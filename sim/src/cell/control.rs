//! A control process: its roles over a store, as the binary puts them together.

use std::sync::Arc;

use coordinator::{Coordinator, Options};
use images::{Change, ContainerFormat, DiskFormat, ImageError, ImageId, Images, Project, Viewer};
use liveness::core::Wanted;
use names::Directory;
use networks::Networks;
use parking_lot::Mutex;
use pki::Role;
use rpc::{Server, Target};
use scheduler::Scheduler;
use servers::accept::Ask;
use servers::nodes::{Attendance, NodesContext};
use servers::{AcceptError, Servers, workflow};
use store::engine::Engine;
use store::{Store, View};
use store_remote::RemoteStore;
use telemetry::metrics::Metrics;
use telemetry::{Cx, Ring};
use tonic::service::Routes;
use world::World;

use super::blobs::ProcessDir;
use super::bootstrap::{PROJECT, caller};
use super::member::{self, Member};
use super::{Cell, Who, bootstrap};
use crate::exec::Process;
use crate::store::unsure::Unsure;

/// Works that move at the same time: few, so that they also wait for each other.
const WORKS_MAX: usize = 64;

/// What requests are made of: the functions behind the API, in a process that runs them.
#[derive(Clone)]
pub struct Control {
    /// The process.
    pub process: Process,
    /// Accepts requests about servers.
    pub servers: Servers,
    /// The image service, in the process that has it.
    pub images: Option<Arc<Images>>,
    /// The spans of the process.
    pub ring: Arc<Ring>,
}

/// All indexes of a process that holds every role.
pub(crate) fn indexes() -> Vec<store::Index> {
    let all = [identity::indexes(), images::indexes(), networks::indexes(), servers::indexes()];
    all.into_iter().flatten().collect()
}

/// Runs until the process must end, and says why.
pub(super) async fn run(cell: Arc<Cell>, who: Who, process: Process, world: World) -> String {
    let shape = cell.size.control;
    let own = shape.identity(who);
    let ring = Ring::new(&world, own.to_string());
    let roles = Role::PARTS.into_iter().filter(|role| shape.plays(who, *role)).collect();
    let instance = shape.plays(who, Role::Liveness).then(|| member::instance(&cell, process, &world, &ring, &own));
    let first = instance.iter().fold(Routes::default(), |routes, instance| routes.add_service(instance.service()));
    let server = Server::starting(&ring, &Metrics::default(), rpc::Limits::default(), first.clone().prepare());
    cell.net.listen(&own.name, process, server.clone());
    let member = member::join(&cell, process, &world, &ring, own, roles, Wanted::All);
    let this = This { cell: Arc::clone(&cell), who, process, world, ring, member, coordinator: Mutex::default() };
    if shape.is_apart() && shape.plays(who, Role::Liveness) {
        server.started(first);
        this.member.serving();
        return std::future::pending().await;
    }
    if !shape.plays(who, Role::Store) {
        let peers = Arc::clone(&this.member.peers);
        let store: Arc<dyn Store> = Arc::new(RemoteStore::new(peers, Target::any(Role::Store), &this.ring));
        return match this.roles(store, false, &server, first).await {
            Ok(()) => this.ends().await,
            Err(reason) => reason,
        };
    }
    let (core, journal) = match cell.store.open(process) {
        Ok(opened) => opened,
        Err(error) => return error.to_string(),
    };
    let (engine, committer) = Engine::new(core, journal);
    let (ended, end) = tokio::sync::oneshot::channel();
    this.world.spawn("store committer", async move { drop(ended.send(committer.run().await)) });
    if let Err(reason) = this.roles(Arc::new(engine), true, &server, first).await {
        return reason;
    }
    let (store, name) = (std::pin::pin!(end), std::pin::pin!(this.ends()));
    let store = match futures_util::future::select(store, name).await {
        futures_util::future::Either::Left((end, _)) => end,
        futures_util::future::Either::Right((reason, _)) => return reason,
    };
    match store {
        Ok(Err(error)) => format!("the store failed: {error}"),
        Ok(Ok(())) | Err(_) => "the store was closed".into(),
    }
}

/// The coordinators that are there.
fn owners(directory: &Arc<Directory>) -> servers::Owners {
    let directory = Arc::clone(directory);
    Arc::new(move || directory.owners(Role::Coordinator))
}

struct This {
    cell: Arc<Cell>,
    who: Who,
    process: Process,
    world: World,
    ring: Arc<Ring>,
    member: Member,
    coordinator: Mutex<Option<Arc<Coordinator>>>,
}

impl This {
    /// Completes when the process must end for want of its name.
    async fn ends(&self) -> String {
        let coordinator = self.coordinator.lock().clone();
        match coordinator {
            Some(coordinator) => coordinator.lost_its_name().await,
            None => std::future::pending().await,
        }
        "its name was taken".into()
    }

    fn plays(&self, role: Role) -> bool {
        self.cell.size.control.plays(self.who, role)
    }

    async fn roles(
        &self,
        store: Arc<dyn Store>,
        holds_it: bool,
        server: &Server,
        mut routes: Routes,
    ) -> Result<(), String> {
        let This { cell, who, process, world, ring, member, .. } = self;
        let Member { peers, directory, .. } = member;
        let name = who.to_string();
        if holds_it {
            routes = routes.add_service(store_remote::service(world, Arc::clone(&store)));
        }
        let on_its_way = cell.outside_process;
        let store: Arc<dyn Store> = Arc::new(Unsure::new(store, &cell.doubts, &cell.exec, on_its_way));
        let view = View::open(world, Arc::clone(&store), indexes()).await.map_err(|error| error.to_string())?;
        if self.plays(Role::Scheduler) {
            routes = routes.add_service(scheduler::service(&Scheduler::start(world, Arc::clone(&store), directory)));
        }
        let attendance = Attendance::new();
        if self.plays(Role::Coordinator) {
            let nodes = NodesContext {
                world: world.clone(),
                view: Arc::clone(&view),
                attendance: Arc::clone(&attendance),
                coordinator: name.clone(),
                settings: config::Settings::defaults(),
            };
            routes = routes.add_service(servers::nodes::service(&nodes));
        }
        let networks = Networks::new(world, Arc::clone(&view));
        if self.plays(Role::Api) {
            bootstrap::seed(world, &view, &networks).await?;
        }
        let images = if cell.size.control.keeps_images() == *who { Some(self.images(&view).await?) } else { None };
        if let Some(images) = &images {
            routes = routes.add_service(servers::blobs::service(images, &view));
        }
        server.started(routes.prepare());
        if self.plays(Role::Coordinator) {
            let context = workflow::Context {
                attendance: Arc::clone(&attendance),
                scheduler: Target::any(Role::Scheduler),
                picks: networks::Picks::default(),
            };
            let options = Options { owner: name, concurrent: WORKS_MAX };
            let coordinator = Coordinator::start(&view, ring, peers, workflow::all(&context), options);
            *self.coordinator.lock() = Some(coordinator);
            servers::push::start(&view, ring, peers, &attendance);
            cell.attended(*who, *process, attendance);
        }
        if self.plays(Role::Api) {
            let servers = Servers::new(&view, &owners(directory));
            cell.arrived(*who, Control { process: *process, servers, images, ring: Arc::clone(ring) });
        }
        member.serving();
        Ok(())
    }

    async fn images(&self, view: &Arc<View>) -> Result<Arc<Images>, String> {
        let files =
            ProcessDir { dir: Arc::clone(&self.cell.blobs), exec: self.cell.exec.clone(), process: self.process };
        let blobs = images::Blobs::over(Arc::new(files)).await.map_err(|error| error.to_string())?;
        let limits = images::Limits::default();
        Images::open_over(&self.world, Arc::clone(view), blobs, limits).await.map_err(|error| error.to_string())
    }
}

/// Why no snapshot is made.
#[derive(Debug)]
pub enum SnapshotError {
    /// The image is not there.
    Image(ImageError),
    /// The server does not give its disk.
    Server(AcceptError),
}

/// Accepts a snapshot, as the API does: first the image that awaits it, then the request, and the image goes again if that
/// is refused.
pub async fn create_image(
    control: &Control,
    images: &Arc<Images>,
    cx: &Cx,
    id: &str,
) -> Result<ImageId, SnapshotError> {
    let changes = vec![
        Change::Name(Some(format!("of {id}"))),
        Change::DiskFormat(Some(DiskFormat::Qcow2)),
        Change::ContainerFormat(Some(ContainerFormat::Bare)),
        Change::SetProperty("image_type".into(), "snapshot".into()),
        Change::SetProperty("instance_uuid".into(), id.into()),
    ];
    let made = images.create(&tenant(), Project::new(PROJECT), None, changes).await.map_err(SnapshotError::Image)?;
    let ask = Ask::Snapshot { image: made.id };
    if let Err(error) = control.servers.ask(cx, &caller(), id, &ask).await {
        let _stays_queued = images.delete(&tenant(), made.id).await;
        return Err(SnapshotError::Server(error));
    }
    Ok(made.id)
}

/// The tenant, as the image service sees it.
pub fn tenant() -> Viewer {
    Viewer { project: Some(Project::new(PROJECT)), admin: false, writes: true }
}
