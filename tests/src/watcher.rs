//! Somebody who watches one liveness instance: what it says of whom, and when that came.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pki::{Identity, Issued, Role};
use proto::liveness::v1::liveness_service_client::LivenessServiceClient;
use proto::liveness::v1::{Kind, Listing, Names, WatchRequest};
use rpc::tls::{Credentials, TlsPeers};
use rpc::{Peers as _, Target};
use telemetry::{Cx, Ring};
use world::os::OsHost;

const CONNECTED_WITHIN: Duration = Duration::from_secs(20);

/// What was said of a process at one moment.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it came.
    pub at: Instant,
    /// Of whom: ROLE/NAME.
    pub who: String,
    /// `alive`, `suspected`, `unreachable`, `dead` or `left`.
    pub status: &'static str,
    /// Who could not reach it, or saw its end.
    pub by: Vec<String>,
    /// Which process of that name.
    pub session: u64,
    /// The revision of the configuration that it runs.
    pub config: u64,
}

#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    now: BTreeMap<String, Event>,
    /// Why the watch has ended.
    ended: Option<String>,
}

/// Watches with the operator's certificate, until it is dropped.
pub struct Watcher {
    seen: Arc<Mutex<Seen>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Watcher {
    /// Watches the instance at `address` of the cell in `home`.
    ///
    /// # Panics
    /// If the home is not that of a cell.
    pub fn new(home: &Path, address: &str) -> Watcher {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let read =
            |name: &str| std::fs::read_to_string(home.join("pki").join(name)).expect("the operator's certificate");
        let own = Issued { certificate_pem: read("operator-admin.crt"), key_pem: read("operator-admin.key") };
        let credentials = Credentials::new(&own, &read("authority.crt")).expect("credentials");
        let cell = std::fs::read(home.join("cell.json")).expect("a cell");
        let cell: serde_json::Value = serde_json::from_slice(&cell).expect("a cell");
        let cell = cell["name"].as_str().expect("its name").to_owned();
        let world = OsHost::world(runtime.handle().clone(), home);
        let identity = Identity { cell, role: Role::Operator, name: "admin".into() };
        let target = Target { role: Role::Liveness, name: String::new(), endpoint: address.to_owned() };
        let told = Arc::clone(&seen);
        runtime.spawn(async move {
            let ended = watch(&world, identity, &credentials, &target, &told).await;
            told.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(ended);
        });
        Watcher { seen, runtime: Some(runtime) }
    }

    fn with<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is said of everybody now.
    pub fn now(&self) -> BTreeMap<String, Event> {
        self.with(|seen| seen.now.clone())
    }

    /// What is said of `who` now; nothing: not a word.
    pub fn status(&self, who: &str) -> &'static str {
        self.with(|seen| seen.now.get(who).map_or("", |event| event.status))
    }

    /// Everything that was said, in order.
    pub fn events(&self) -> Vec<Event> {
        self.with(|seen| seen.events.clone())
    }

    /// Everything that was said of `who`, in order.
    pub fn events_of(&self, who: &str) -> Vec<Event> {
        self.with(|seen| seen.events.iter().filter(|event| event.who == who).cloned().collect())
    }

    /// Why it does not watch any more.
    pub fn ended(&self) -> Option<String> {
        self.with(|seen| seen.ended.clone())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn watch(
    world: &world::World,
    own: Identity,
    credentials: &Credentials,
    target: &Target,
    seen: &Mutex<Seen>,
) -> String {
    let ring = Ring::new(world, "watcher");
    let peers = match TlsPeers::new(world, own, credentials) {
        Ok(peers) => peers,
        Err(error) => return error.to_string(),
    };
    let cx = Cx::root(&ring, None, world.now() + CONNECTED_WITHIN);
    let mut client = LivenessServiceClient::new(peers.channel(target, &cx)).max_decoding_message_size(64 << 20);
    let mut stream = match client.watch(WatchRequest { roles: vec!["*".into()], seen: None }).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return status.message().to_owned(),
    };
    loop {
        match stream.message().await {
            Ok(Some(told)) => {
                let Some(names) = told.names else { continue };
                take(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), names);
            }
            Ok(None) => return "the instance ended the watch".into(),
            Err(status) => return status.message().to_owned(),
        }
    }
}

fn take(seen: &mut Seen, names: Names) {
    let at = Instant::now();
    for listing in names.listings {
        let event = event(at, &listing);
        seen.now.insert(event.who.clone(), event.clone());
        seen.events.push(event);
    }
    for name in names.forgotten {
        seen.now.remove(&format!("{}/{}", name.role, name.name));
    }
}

fn event(at: Instant, listing: &Listing) -> Event {
    let who = listing.who.as_ref().map(|who| format!("{}/{}", who.role, who.name)).unwrap_or_default();
    let (status, by) = listing.status.as_ref().map(|told| (told.kind(), told.by.clone())).unwrap_or_default();
    let status = match status {
        Kind::Unspecified => "",
        Kind::Alive => "alive",
        Kind::Suspected => "suspected",
        Kind::Unreachable => "unreachable",
        Kind::Dead => "dead",
        Kind::Left => "left",
    };
    let config = listing.facts.as_ref().map_or(0, |facts| facts.config);
    Event { at, who, status, by, session: listing.session, config }
}
