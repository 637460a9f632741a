//! Being there for the coordinators: attending each, and telling them what guests do by themselves.
//!
//! A broken stream is opened again after a pause that grows and is never the same on two nodes; the guests know nothing
//! of it. A report goes to one coordinator after the other until one has taken note.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_core::{Input, Note};
use driver::{GuestId, Run};
use parking_lot::Mutex;
use pki::Role;
use proto::coordinator::v1::nodes_service_client::NodesServiceClient;
use proto::coordinator::v1::{AttendRequest, ReportRequest};
use rpc::{Target, Verdict};
use telemetry::Cx;
use tokio::sync::Notify;
use world::World;

use crate::node::Node;
use crate::wire;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// An answer that takes longer is not waited for.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// Guests in one report.
const REPORT_GUESTS_MAX: usize = 500;

/// News that no coordinator has taken note of.
#[derive(Default)]
pub(crate) struct Outbox {
    notes: Mutex<BTreeMap<GuestId, Note>>,
    wake: Notify,
}

impl Outbox {
    /// Replaces what was to be told of the guest.
    pub(crate) fn put(&self, note: Note) {
        self.notes.lock().insert(note.guest, note);
        self.wake.notify_one();
    }

    fn next(&self) -> Vec<Note> {
        self.notes.lock().values().take(REPORT_GUESTS_MAX).cloned().collect()
    }

    fn told(&self, guest: GuestId, run: Run) {
        let mut notes = self.notes.lock();
        if notes.get(&guest).is_some_and(|note| note.run == run) {
            notes.remove(&guest);
        }
    }
}

/// A pause that doubles up to a bound; what is slept is between half of it and all.
struct Pauses {
    next: Duration,
}

impl Pauses {
    fn new() -> Pauses {
        Pauses { next: PAUSE_FIRST }
    }

    /// The next one is as good as none.
    fn at_once() -> Pauses {
        Pauses { next: Duration::from_millis(2) }
    }

    async fn rest(&mut self, world: &World) {
        let half = self.next / 2;
        let more = world.random_below(u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1));
        self.next = (self.next * 2).min(PAUSE_MAX);
        world.sleep(half + Duration::from_micros(more)).await;
    }
}

impl Node {
    /// Begins to attend every coordinator that there is or will be, and to report.
    pub(crate) fn attend(self: &Arc<Self>) {
        self.world.spawn("agent coordinators", Arc::clone(self).attend_all());
        self.world.spawn("agent report", Arc::clone(self).report());
    }

    async fn attend_all(self: Arc<Self>) {
        (self.config.named)().await;
        let attending: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let mut seen = 0;
        loop {
            for target in self.coordinators() {
                if attending.lock().insert(target.name.clone()) {
                    let (node, attending) = (Arc::clone(&self), Arc::clone(&attending));
                    self.world.spawn("agent attend", async move {
                        let named = || node.coordinators().iter().any(|other| other.name == target.name);
                        loop {
                            node.attend_one(&target.name).await;
                            attending.lock().remove(&target.name);
                            // It may have come back in the same moment.
                            if !named() || !attending.lock().insert(target.name.clone()) {
                                return;
                            }
                        }
                    });
                }
            }
            seen = self.config.directory.changed(seen).await;
        }
    }

    /// The coordinators, as they are to be called now: all but those that will not come back.
    fn coordinators(&self) -> Vec<Target> {
        let listed = self.config.directory.of(Role::Coordinator);
        let lasting = listed.iter().filter(|listing| !listing.status.is_final());
        lasting.filter_map(|listing| listing.target()).collect()
    }

    /// Attends the coordinator `name`, wherever it is, until it is not named any more.
    async fn attend_one(&self, name: &str) {
        let mut pauses = Pauses::new();
        while let Some(target) = self.coordinators().into_iter().find(|target| target.name == *name) {
            match self.attend_once(&target, &mut pauses).await {
                Ok(()) => tracing::info!(node = self.name(), %target, "the coordinator has gone"),
                Err(error) => tracing::debug!(node = self.name(), %target, %error, "not attending"),
            }
            pauses.rest(&self.world).await;
        }
    }

    /// Attends until the stream ends.
    async fn attend_once(&self, target: &Target, pauses: &mut Pauses) -> Result<(), tonic::Status> {
        let cx = Cx::root(&self.config.ring, None, self.world.now() + ANSWER_WAIT_MAX);
        let mut client = NodesServiceClient::new(self.config.peers.channel(target, &cx));
        let mut stream = client.attend(self.attendance()).await?.into_inner();
        while let Some(welcome) = stream.message().await? {
            if let Some(known) = welcome.known_life {
                // Nothing was taken: it was asked for, or an earlier process of this node came further than this one knew.
                self.lives_after(known);
                *pauses = Pauses::at_once();
                continue;
            }
            *pauses = Pauses::new();
            tracing::info!(node = self.name(), coordinator = welcome.coordinator, "attending");
        }
        Ok(())
    }

    fn attendance(&self) -> AttendRequest {
        let capacity = self.config.driver.capacity();
        AttendRequest {
            endpoint: self.config.endpoint.clone(),
            boot_id: self.config.boot_id.clone(),
            vcpus: capacity.vcpus,
            memory_mib: capacity.memory_mib,
            disk_gib: capacity.disk_gib,
            hypervisor: capacity.hypervisor,
            hypervisor_version: capacity.hypervisor_version,
            facts: capacity.facts,
            guests: self.notes().iter().map(wire::report).collect(),
            release: self.config.release.clone(),
            life: Some(self.life.load(Ordering::Relaxed)),
        }
    }

    /// The cell knows of a life `known` of this node: this process's is a later one.
    fn lives_after(&self, known: u64) {
        let later = |life: u64| (life == 0 || life < known).then_some(known + 1);
        let _unless_it_is_so_already = self.life.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    async fn report(self: Arc<Self>) {
        let mut pauses = Pauses::new();
        let (mut turn, mut named) = (0, 0);
        loop {
            let notes = self.outbox.next();
            if notes.is_empty() {
                self.outbox.wake.notified().await;
                continue;
            }
            let coordinators = self.coordinators();
            let Some(target) = coordinators.get(turn % coordinators.len().max(1)) else {
                named = self.config.directory.changed(named).await;
                continue;
            };
            match self.report_once(target, &notes).await {
                Ok(()) => pauses = Pauses::new(),
                Err(error) if error.verdict == Verdict::No => {
                    tracing::warn!(node = self.name(), %target, %error, "a report was refused, and is not sent again");
                }
                Err(error) => {
                    tracing::debug!(node = self.name(), %target, %error, "a report was not taken");
                    turn += 1;
                    pauses.rest(&self.world).await;
                    continue;
                }
            }
            for note in notes {
                self.outbox.told(note.guest, note.run);
                self.feed(Input::Reported(note.guest, note.run));
            }
        }
    }

    async fn report_once(&self, target: &Target, notes: &[Note]) -> Result<(), rpc::Error> {
        let cx = Cx::root(&self.config.ring, None, self.world.now() + ANSWER_WAIT_MAX);
        let (cx, mut span) = cx.span("agent.report");
        let mut client = NodesServiceClient::new(self.config.peers.channel(target, &cx));
        let request = ReportRequest { guests: notes.iter().map(wire::report).collect() };
        span.note(client.report(request).await.map(|_| ()).map_err(rpc::Error::from))
    }
}
