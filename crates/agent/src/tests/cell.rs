//! What is around an agent: its machine, one process after the other, a coordinator and an image service.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use driver::GuestId;
use driver_fake::FakeMachine;
use futures_util::Stream;
use ids::uuid::Uuid;
use parking_lot::Mutex;
use pki::{Identity, Role};
use proto::agent::v1::perform_request::Act;
use proto::agent::v1::{
    Build, GuestReport, GuestSpec, ImageRef, NetworkState, Nic, PerformRequest, PortState, WorkRef,
};
use proto::coordinator::v1::nodes_service_server::{NodesService, NodesServiceServer};
use proto::coordinator::v1::{AttendRequest, AttendResponse, ReportRequest, ReportResponse};
use proto::image::v1::blobs_service_server::{BlobsService, BlobsServiceServer};
use proto::image::v1::{FetchRequest, FetchResponse, UploadRequest, UploadResponse};
use rpc::{Channel, Limits, Peers, Server, Target, Wire};
use telemetry::metrics::Metrics;
use telemetry::{Cx, Ring};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use world::World;
use world::os::OsHost;

use crate::{Config, Journal, Node, service};

/// SHA-256 of `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
pub(super) const USER_DATA_BYTES: usize = 8 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn guest(number: u128) -> GuestId {
    GuestId::from_uuid(Uuid::from_u128(number))
}

fn id(number: u128) -> Bytes {
    Bytes::copy_from_slice(Uuid::from_u128(number).as_bytes())
}

pub(super) fn network() -> NetworkState {
    NetworkState { id: id(1), revision: 1, name: "net".into(), mtu: 1500, ..NetworkState::default() }
}

pub(super) fn build(number: u128) -> Act {
    let image = ImageRef { sha256: ABC.into(), format: 2, size_bytes: 3, virtual_size_bytes: 512 };
    let nic = Nic { port: id(number), network: id(1), mac: "52:54:00:00:00:01".into(), mtu: 1500 };
    let spec = GuestSpec {
        id: id(number),
        name: format!("g{number}"),
        vcpus: 1,
        memory_mib: 64,
        image: Some(image),
        nics: vec![nic],
        user_data: vec![b'#'; USER_DATA_BYTES].into(),
        ..GuestSpec::default()
    };
    let port = PortState {
        id: id(number),
        network: id(1),
        revision: 1,
        guest: id(number),
        mac: "52:54:00:00:00:01".into(),
        ..PortState::default()
    };
    Act::Build(Build { spec: Some(spec), networks: vec![network()], ports: vec![port] })
}

/// The first step of a work of its own.
pub(super) fn order(work: u64, number: u128, act: Act) -> PerformRequest {
    let work = WorkRef { work: id(u128::from(work)), epoch: 1, step: 1, floor: 0, created: work };
    PerformRequest { work: Some(work), guest: id(number), act: Some(act) }
}

/// A machine, and what happens to it.
pub(super) struct Cell {
    dir: tempfile::TempDir,
    pub(super) machine: Arc<FakeMachine>,
    pub(super) seen: Arc<Seen>,
    /// The machine's own time.
    _runtime: tokio::runtime::Runtime,
}

impl Cell {
    pub(super) fn new() -> Cell {
        Cell::made(|world, _| FakeMachine::new(world))
    }

    /// With an image cache.
    pub(super) fn on_disk() -> Cell {
        Cell::made(|world, dir| FakeMachine::open(world, &dir.join("fake"), "b1").unwrap())
    }

    fn made(machine: impl FnOnce(&World, &Path) -> Arc<FakeMachine>) -> Cell {
        let runtime = runtime();
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(&OsHost::world(runtime.handle().clone(), dir.path()), dir.path());
        Cell { dir, machine, seen: Arc::default(), _runtime: runtime }
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.dir.path().join("agent/agent.wal")
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    /// Starts a process with these nodes.
    pub(super) fn start(&self, names: &[&str]) -> Process {
        let runtime = runtime();
        let world = OsHost::world(runtime.handle().clone(), &self.dir.path().join("agent"));
        let ring = Ring::new(&world, "agent");
        let control = Seen::serve(&self.seen, &ring);
        let journal = runtime.block_on(Journal::open(&world)).unwrap();
        let nodes: Vec<_> = names.iter().map(|name| self.node(&world, &ring, &journal, &control, name)).collect();
        let servers = nodes.iter().map(|node| {
            let routes = tonic::service::Routes::new(service(node));
            Server::new(&ring, &Metrics::default(), Limits::default(), routes).local(identity(Role::Coordinator, "c1"))
        });
        let servers = servers.collect();
        Process { runtime, ring, nodes, servers }
    }

    fn node(&self, world: &World, ring: &Arc<Ring>, journal: &Arc<Journal>, control: &Server, name: &str) -> Arc<Node> {
        let target = |role| vec![Target { role, name: "c1".into(), endpoint: String::new() }];
        let config = Config {
            name: name.to_owned(),
            endpoint: String::new(),
            boot_id: "b1".into(),
            resume_after_boot: false,
            release: "test".into(),
            driver: self.machine.driver(name),
            peers: Arc::new(OnePeer(control.local(identity(Role::Agent, name)))),
            directory: coordinator(),
            named: Arc::new(|| Box::pin(std::future::ready(()))),
            images: target(Role::Coordinator),
            scratch: self.scratch(),
            files: Arc::new(crate::OnDisk),
            ring: Arc::clone(ring),
        };
        Node::start(world, journal, config)
    }

    /// Waits until `so`.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "a test waits in real time for other threads")]
    pub(super) fn until(&self, so: impl Fn() -> bool, what: &str) {
        let start = std::time::Instant::now();
        while !so() {
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// All that a node knows of its coordinator.
fn coordinator() -> Arc<names::Directory> {
    let directory = names::Directory::new();
    let listing = names::Listing::new(identity(Role::Coordinator, "c1"), [Role::Coordinator], "");
    directory.replace(names::Version { instance: 1, number: 1 }, [Arc::new(listing)]);
    directory
}

fn identity(role: Role, name: &str) -> Identity {
    Identity { cell: "c.test".into(), role, name: name.into() }
}

struct OnePeer(Arc<dyn Wire>);

impl Peers for OnePeer {
    fn channel(&self, _target: &Target, cx: &Cx) -> Channel {
        Channel::new(Arc::clone(&self.0), cx)
    }
}

/// An agent process.
pub(super) struct Process {
    runtime: tokio::runtime::Runtime,
    ring: Arc<Ring>,
    nodes: Vec<Arc<Node>>,
    servers: Vec<Arc<dyn Wire>>,
}

impl Process {
    /// Its death: nothing in it runs on.
    pub(super) fn kill(self) {
        // Threads that are at it end within the call; what they held is dropped without a word to anybody outside.
        self.runtime.shutdown_timeout(PATIENCE);
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    pub(super) fn node(&self, at: usize) -> &Arc<Node> {
        &self.nodes[at]
    }

    /// To the node, as a coordinator calls it.
    pub(super) fn channel(&self, node: usize) -> Channel {
        let cx = Cx::root(&self.ring, None, self.ring.world().now() + PATIENCE);
        Channel::new(Arc::clone(&self.servers[node]), &cx)
    }
}

/// A coordinator and an image service, and what they have seen.
#[derive(Default)]
pub(super) struct Seen(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    attended: BTreeMap<String, usize>,
    last: AttendRequest,
    streams: Vec<mpsc::Sender<Result<AttendResponse, Status>>>,
    reports: Vec<GuestReport>,
    refuse: usize,
    content: &'static [u8],
    uploads: Vec<(Bytes, Vec<u8>)>,
}

impl Seen {
    fn serve(seen: &Arc<Seen>, ring: &Arc<Ring>) -> Server {
        let routes = tonic::service::Routes::new(NodesServiceServer::from_arc(Arc::clone(seen)))
            .add_service(BlobsServiceServer::from_arc(Arc::clone(seen)));
        Server::new(ring, &Metrics::default(), Limits::default(), routes)
    }

    pub(super) fn attended(&self, node: &str) -> usize {
        self.0.lock().attended.get(node).copied().unwrap_or(0)
    }

    pub(super) fn last_attendance(&self) -> AttendRequest {
        self.0.lock().last.clone()
    }

    /// Ends all streams.
    pub(super) fn hang_up(&self) {
        self.0.lock().streams.clear();
    }

    pub(super) fn refuse_reports(&self, count: usize) {
        self.0.lock().refuse = count;
    }

    pub(super) fn reports(&self) -> Vec<GuestReport> {
        self.0.lock().reports.clone()
    }

    /// The content of every image; empty: there is none.
    pub(super) fn hold(&self, content: &'static [u8]) {
        self.0.lock().content = content;
    }

    pub(super) fn uploads(&self) -> Vec<(Bytes, Vec<u8>)> {
        self.0.lock().uploads.clone()
    }
}

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NodesService for Seen {
    type AttendStream = Sent<AttendResponse>;

    async fn attend(&self, request: Request<AttendRequest>) -> Result<Response<Self::AttendStream>, Status> {
        let node = rpc::peer_of(&request)?.name;
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Ok(AttendResponse { coordinator: "c1".into(), known_life: None })).unwrap();
        let mut notes = self.0.lock();
        *notes.attended.entry(node).or_default() += 1;
        notes.last = request.into_inner();
        notes.streams.push(sender);
        let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|item| (item, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let mut notes = self.0.lock();
        if notes.refuse > 0 {
            notes.refuse -= 1;
            return Err(rpc::Error::not_now("busy").into());
        }
        notes.reports.extend(request.into_inner().guests);
        Ok(Response::new(ReportResponse {}))
    }
}

#[tonic::async_trait]
impl BlobsService for Seen {
    type FetchStream = Sent<FetchResponse>;

    async fn fetch(&self, _request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let content = self.0.lock().content;
        if content.is_empty() {
            return Err(Status::not_found("no such image"));
        }
        let pieces = content.chunks(2).map(|piece| Ok(FetchResponse { data: Bytes::from_static(piece) }));
        Ok(Response::new(Box::pin(futures_util::stream::iter(pieces.collect::<Vec<_>>()))))
    }

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<UploadResponse>, Status> {
        let mut stream = request.into_inner();
        let (mut image, mut content) = (Bytes::new(), Vec::new());
        while let Some(piece) = stream.message().await? {
            if !piece.image.is_empty() {
                image = piece.image;
            }
            content.extend_from_slice(&piece.data);
        }
        self.0.lock().uploads.push((image, content));
        Ok(Response::new(UploadResponse { sha256: String::new() }))
    }
}
