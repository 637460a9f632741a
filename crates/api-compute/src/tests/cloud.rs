//! A cell's state with one node, one image, two projects, and the family's router over it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ::servers::nodes::{Attendance, ServersContext, servers_service};
use ::servers::{Server, Servers, VmState};
use api::{Authenticator, Platform, Unobserved};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use identity::record::Project;
use identity::{AuthError, Identity, Passwords, ProjectScope};
use images::{Images, Limits, Status};
use networks::Networks;
use pki::Role;
use placement::{Inventory, Node, Provider, ProviderId};
use serde_json::{Value, json};
use store::port::Snapshot;
use store::{
    CommitError, Entry, Key, KeyRange, Op, Page, Precondition, ReadError, Record, Revision, Store, Txn, View, Watch,
    WatchError,
};
use telemetry::Ring;
use telemetry::metrics::Metrics;
use tower::ServiceExt;
use world::{Wall, World};

use crate::Compute;

/// A token is `project:role`.
struct Anyone;

#[async_trait]
impl Authenticator for Anyone {
    async fn authenticate(&self, token: &str) -> Result<Arc<identity::Caller>, AuthError> {
        let (project, role) = token.split_once(':').ok_or(AuthError::Invalid("no such token"))?;
        let mut roles = vec![role.to_owned()];
        match role {
            "admin" => roles.extend(["member".to_owned(), "reader".to_owned()]),
            "member" => roles.push("reader".to_owned()),
            _ => {}
        }
        let domain = ("default".parse().unwrap(), "Default".to_owned());
        let project = ProjectScope { id: project.parse().unwrap(), name: project.into(), domain: domain.clone() };
        Ok(Arc::new(identity::Caller {
            user_id: format!("someone-{}", project.id).parse().unwrap(),
            user_name: "someone".into(),
            user_domain: domain,
            project: Some(project),
            domain: None,
            roles,
            issued: Wall::from_micros(0),
            expires: Wall::from_micros(u64::MAX),
            audit_ids: Vec::new(),
            methods: Vec::new(),
            application_credential: None,
        }))
    }
}

/// Every target is the coordinator in this process.
struct Here(Arc<dyn rpc::Wire>);

impl rpc::Peers for Here {
    fn channel(&self, _target: &rpc::Target, cx: &telemetry::Cx) -> rpc::Channel {
        rpc::Channel::new(Arc::clone(&self.0), cx)
    }
}

/// Nobody is reached: the coordinator has no nodes to call.
struct Nowhere;

impl rpc::Peers for Nowhere {
    fn channel(&self, target: &rpc::Target, _cx: &telemetry::Cx) -> rpc::Channel {
        unreachable!("{target} does not attend")
    }
}

/// A store of which an answer can be lost. Until it is asked again, what was accepted has come to its end.
pub(super) struct Lossy {
    store: store::engine::Engine,
    armed: AtomicBool,
}

impl Lossy {
    pub(super) fn lose_next(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for Lossy {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.store.get(key).await
    }

    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.store.range(range, limit).await
    }

    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        self.store.watch(range, after).await
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.store.snapshot().await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        if !self.armed.swap(false, Ordering::Relaxed) {
            return self.store.commit(txn).await;
        }
        let mut end = Txn::new();
        let works = txn.ops.iter().map(Op::key).filter(|key| key.as_bytes().starts_with(b"w/"));
        works.for_each(|key| {
            end.preconditions.push(Precondition::Exists(key.clone()));
            end.delete(key.clone());
        });
        self.store.commit(txn).await?;
        self.store.commit(end).await?;
        Err(CommitError::Unknown { reason: "the answer was lost".into() })
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Value,
}

impl Answer {
    #[track_caller]
    pub(super) fn is(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }
}

pub(super) struct Cloud {
    pub(super) router: Router,
    pub(super) table: Vec<api::Route>,
    pub(super) image: String,
    pub(super) ring: Arc<Ring>,
    pub(super) identity: Arc<Identity>,
    pub(super) store: Arc<Lossy>,
    pub(super) view: Arc<View>,
    world: World,
    dir: PathBuf,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.dir);
    }
}

impl Cloud {
    pub(super) async fn new() -> Cloud {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mainstay-api-compute-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let world: World = world::os::OsHost::world(tokio::runtime::Handle::current(), &dir);
        let store = Arc::new(Lossy { store: store::memory::open(&world), armed: AtomicBool::new(false) });
        let mut indexes = ::servers::indexes();
        indexes.extend(images::indexes());
        indexes.extend(networks::indexes());
        indexes.extend(identity::indexes());
        let view = View::open(&world, Arc::clone(&store) as Arc<dyn Store>, indexes).await.unwrap();
        ::servers::bootstrap(&view, &world).await.unwrap();
        let image = populate(&world, &view).await;
        let ring = Ring::new(&world, "test");
        let context =
            ServersContext { view: Arc::clone(&view), attendance: Attendance::new(), peers: Arc::new(Nowhere) };
        let services = tonic::service::Routes::new(servers_service(&context));
        let server = rpc::Server::new(&ring, &Metrics::default(), rpc::Limits::default(), services);
        let wire = server.local(pki::Identity { cell: "cell".into(), role: Role::Api, name: "test".into() });
        let passwords = Passwords::start(1).unwrap();
        let identity = Identity::with(
            &world,
            Arc::clone(&view),
            passwords,
            &[::servers::keypair::remove_of_user],
            &config::Settings::defaults(),
        );
        let compute = Arc::new(Compute {
            servers: Servers::new(&view, &(Arc::new(|| vec!["main".to_owned()]) as servers::Owners)),
            images: Images::open(&world, Arc::clone(&view), &dir.join("images"), Limits::default()).await.unwrap(),
            networks: Networks::new(&world, Arc::clone(&view)),
            identity: Arc::clone(&identity),
            view: Arc::clone(&view),
            world: world.clone(),
            ring: Arc::clone(&ring),
            peers: Arc::new(Here(wire)),
            coordinator: rpc::Target { role: Role::Coordinator, name: "main".into(), endpoint: String::new() },
            directory: names::Directory::new(),
        });
        let platform = Platform {
            world: world.clone(),
            auth: Arc::new(Anyone),
            observer: Arc::new(Unobserved),
            region: "RegionOne".into(),
            public_url: "https://cloud".into(),
        };
        let (router, table) = crate::routes().build(compute, &platform);
        Cloud { router, table, image, ring, identity, store, view, world, dir }
    }

    pub(super) async fn send(&self, who: &str, version: &str, method: &str, path: &str, body: Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("openstack-api-version", format!("compute {version}"));
        if !who.is_empty() {
            request = request.header("x-auth-token", who);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.header("content-type", "application/json").body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
    }

    pub(super) async fn get(&self, who: &str, version: &str, path: &str) -> Answer {
        self.send(who, version, "GET", path, Value::Null).await
    }

    /// A new server without network, with more members in its body; its id.
    pub(super) async fn server(&self, who: &str, name: &str, more: Value) -> String {
        let mut server = json!({ "name": name, "flavorRef": "1", "imageRef": self.image, "networks": "none" });
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.send(who, "2.96", "POST", "/servers", json!({ "server": server })).await.is(202);
        made["server"]["id"].as_str().unwrap().to_owned()
    }

    /// What a boot would do: the server runs on the node, and its work has ended.
    pub(super) async fn build(&self, id: &str) {
        let mut txn = Txn::new();
        self.view.peek(|reader| {
            let (mut server, revision) = reader.get::<Server>(&id).unwrap().unwrap();
            (server.state, server.task, server.node) = (VmState::Active, None, Some("node-1".into()));
            txn.replace(server.key(), revision, server.encode());
            for (key, _) in reader.range(KeyRange::prefix(b"w/")) {
                txn.delete(key.clone());
            }
        });
        self.view.store().commit(txn).await.unwrap();
        self.view.read(|_| ()).await.unwrap();
    }

    /// Gives a server a card on a network of its project.
    pub(super) async fn plug(&self, id: &str) {
        let networks = Networks::new(&self.world, Arc::clone(&self.view));
        let server = self.view.peek(|reader| reader.get::<Server>(&id).unwrap().unwrap().0);
        let who = networks::Who { project: server.project.clone(), admin: false };
        let new = networks::network::NewNetwork::default();
        let network = networks.decide(&who, |plan| networks::network::create(plan, new.clone())).await.unwrap().id;
        let requests = [networks::PortRequest::Network { network, fixed_ip: None }];
        let needs = networks::ServerNeeds {
            server: server.id.guest(),
            requests: &requests,
            groups: &[],
            host_name: "web",
            node: Some("node-1"),
            zone: "nova",
        };
        networks.decide(&who, |plan| networks::server_ports(plan, &needs)).await.unwrap();
    }

    /// Works that were accepted and have not ended.
    pub(super) fn works(&self) -> usize {
        self.view.peek(|reader| reader.range(KeyRange::prefix(b"w/work/")).count())
    }

    /// Records and counters whose keys name `id`.
    pub(super) fn keys_with(&self, id: &str) -> usize {
        self.view.peek(|reader| reader.range(KeyRange::all()).filter(|(key, _)| key.to_text().contains(id)).count())
    }

    /// Servers that nobody has asked to delete.
    pub(super) async fn live_servers(&self) -> usize {
        let live = |reader: &store::Reader<'_>| {
            reader
                .all::<Server>()
                .filter(|found| found.as_ref().unwrap().0.task != Some(::servers::Task::Deleting))
                .count()
        };
        self.view.read(live).await.unwrap()
    }

    pub(super) async fn bootstrap_flavors(&self) {
        ::servers::bootstrap(&self.view, &self.world).await.unwrap();
    }
}

/// A node, projects, and an image that can be booted; the image's id.
async fn populate(world: &World, view: &View) -> String {
    let provider = Provider {
        id: ProviderId::random(world),
        name: "node-1".into(),
        inventories: BTreeMap::from([("VCPU".to_owned(), Inventory::plain(8, 16_000))]),
        traits: Vec::new(),
    };
    let node = Node {
        name: "node-1".into(),
        id: ids::random_uuid(world),
        provider: provider.id,
        endpoint: "192.0.2.7:9000".into(),
        boot_id: "b".into(),
        hypervisor: "fake".into(),
        hypervisor_version: 1,
        facts: BTreeMap::new(),
        release: "0".into(),
        disabled: None,
        zone: "nova".into(),
        life: 0,
    };
    let image = images::Image {
        id: images::ImageId::random(world),
        name: Some("small".into()),
        owner: images::Project::new("admin"),
        status: Status::Active(images::Content {
            size_bytes: 4096,
            virtual_bytes: 4096,
            sha256: images::Sha256([1; 32]),
            sha512: [0; 64],
            md5: [0; 16],
        }),
        visibility: images::Visibility::Public,
        disk_format: Some(images::DiskFormat::Raw),
        container_format: Some(images::ContainerFormat::Bare),
        min_disk_gib: 0,
        min_ram_mib: 0,
        tags: Default::default(),
        properties: BTreeMap::new(),
        protected: false,
        hidden: false,
        created: world.wall(),
        updated: world.wall(),
        members: BTreeMap::new(),
    };
    let mut txn = Txn::new();
    txn.create(provider.key(), provider.encode());
    txn.create(node.key(), node.encode());
    txn.create(image.key(), image.encode());
    for name in ["blue", "red"] {
        let project = Project {
            id: name.parse().unwrap(),
            domain: "default".parse().unwrap(),
            name: name.into(),
            description: String::new(),
            enabled: true,
            deleting: false,
            parent: None,
            tags: Vec::new(),
        };
        txn.create(project.key(), project.encode());
    }
    view.store().commit(txn).await.unwrap();
    image.id.to_string()
}
