//! One node: its core, and what the core asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use agent_core::{Answer, Core, Descriptions, Effect, Entry, Input, Note, Order, Refusal, Ticket};
use driver::{Driver, GuestId, PortId, Run, StopCause, Watcher};
use names::Directory;
use parking_lot::Mutex;
use rpc::{Peers, Target};
use telemetry::{Cx, Ring, Span};
use tokio::sync::{Semaphore, oneshot};
use world::{BoxFuture, Mono, World};

use crate::attend::Outbox;
use crate::blobs::Blobs;
use crate::files::Files;
use crate::journal::Journal;
use crate::ops;

/// What a node is made of.
pub struct Config {
    /// Its name: that of its identity.
    pub name: String,
    /// Where it answers calls, as address:port (in one process or simulation: empty).
    pub endpoint: String,
    /// The boot of its machine.
    pub boot_id: String,
    /// Whether guests that ran when the machine went down are started again after its boot.
    pub resume_after_boot: bool,
    /// The release that this process runs.
    pub release: String,
    /// What runs its guests.
    pub driver: Arc<dyn Driver>,
    /// How it reaches others, as itself.
    pub peers: Arc<dyn Peers>,
    /// Where it finds the coordinators, which it attends.
    pub directory: Arc<Directory>,
    /// Completes when this process has its name: until then another may be the node, and it attends nobody.
    pub named: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    /// Who holds image content.
    pub images: Vec<Target>,
    /// A directory of its own for what is being uploaded.
    pub scratch: PathBuf,
    /// The files of that directory, and of the driver's image cache.
    pub files: Arc<dyn Files>,
    /// The spans of the process.
    pub ring: Arc<Ring>,
}

/// A node of the cell. It lives until the process ends.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) world: World,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) outbox: Outbox,
    /// Under which it attends; 0 until a coordinator has told what came before.
    pub(crate) life: AtomicU64,
    journal: Arc<Journal>,
    inner: Mutex<Inner>,
    /// Closed when the guests that were there at the start have been seen to.
    ready: Semaphore,
}

struct Inner {
    core: Core,
    ticket: u64,
    orders: BTreeMap<Ticket, (GuestId, oneshot::Sender<Answer>)>,
    networks: BTreeMap<Ticket, oneshot::Sender<Result<Vec<PortId>, Refusal>>>,
    /// On whose behalf each guest is acted on, so that the trace shows it.
    contexts: BTreeMap<GuestId, (Ticket, Cx)>,
}

impl Node {
    /// Starts the node from what `journal` says of it: makes its networks, adopts its guests, goes on with what was
    /// under way, and then attends.
    pub fn start(world: &World, journal: &Arc<Journal>, config: Config) -> Arc<Node> {
        if let Err(error) = config.files.clear(&config.scratch) {
            tracing::warn!(node = config.name, %error, "what an earlier run exported cannot be removed");
        }
        let state = journal.take(&config.name);
        let mut effects = Vec::new();
        let core = Core::open(world.now(), state, &config.boot_id, config.resume_after_boot, &mut effects);
        let inner =
            Inner { core, ticket: 0, orders: BTreeMap::new(), networks: BTreeMap::new(), contexts: BTreeMap::new() };
        let blobs = Blobs::new(&config.ring, &config.peers, &config.images, &config.files);
        let node = Arc::new(Node {
            world: world.clone(),
            blobs: Arc::new(blobs),
            outbox: Outbox::default(),
            life: AtomicU64::new(0),
            journal: Arc::clone(journal),
            inner: Mutex::new(inner),
            ready: Semaphore::new(0),
            config,
        });
        journal.join(&node.config.name, &node);
        node.config.driver.watch(Arc::new(Ears(Arc::downgrade(&node))));
        node.run(&mut node.inner.lock(), effects);
        node
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Completes when the guests that were there at the start have been seen to: adopted, or being acted on.
    pub async fn ready(&self) {
        let _closed = self.ready.acquire().await;
    }

    /// Everything on the node, as it is believed to stand.
    pub fn notes(&self) -> Vec<Note> {
        self.inner.lock().core.notes()
    }

    /// Whether nothing is under way on it.
    pub fn is_idle(&self) -> bool {
        self.inner.lock().core.is_idle()
    }

    /// Does what `order` says, and answers when it is done. A caller that goes away changes nothing.
    pub async fn perform(self: &Arc<Self>, cx: &Cx, order: Order) -> Answer {
        let (sender, answer) = oneshot::channel();
        {
            let inner = &mut *self.inner.lock();
            inner.ticket += 1;
            let ticket = Ticket(inner.ticket);
            inner.contexts.insert(order.guest, (ticket, cx.clone()));
            inner.orders.insert(ticket, (order.guest, sender));
            self.feed_locked(inner, Input::Order(ticket, order));
        }
        answer.await.unwrap_or_else(|_| Err(Refusal::Unknown("the agent is ending".into())))
    }

    /// Makes networks as described, and answers when they are: with the ports that were left out because their guest is
    /// not known here.
    pub async fn apply_networks(self: &Arc<Self>, told: Descriptions) -> Result<Vec<PortId>, Refusal> {
        let (sender, answer) = oneshot::channel();
        {
            let inner = &mut *self.inner.lock();
            inner.ticket += 1;
            let ticket = Ticket(inner.ticket);
            inner.networks.insert(ticket, sender);
            self.feed_locked(inner, Input::Networks(ticket, told));
        }
        answer.await.unwrap_or_else(|_| Err(Refusal::Unknown("the agent is ending".into())))
    }

    pub(crate) fn feed(self: &Arc<Self>, input: Input) {
        self.feed_locked(&mut self.inner.lock(), input);
    }

    pub(crate) fn live(&self) -> Vec<Entry> {
        self.inner.lock().core.state().live()
    }

    fn feed_locked(self: &Arc<Self>, inner: &mut Inner, input: Input) {
        let mut effects = Vec::new();
        inner.core.on(self.world.now(), input, &mut effects);
        self.run(inner, effects);
    }

    /// Begins every effect, in order; nothing here waits.
    fn run(self: &Arc<Self>, inner: &mut Inner, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append(id, entries) => {
                    let span = log_span(inner, &entries);
                    self.journal.append(self, id, &entries, span);
                }
                Effect::Call(id, op) => {
                    let cx = ops::guest_of(&op).and_then(|guest| inner.contexts.get(&guest)).map(|(_, cx)| cx.clone());
                    let node = Arc::clone(self);
                    self.world.spawn("agent driver call", async move {
                        let result = ops::call(&node, cx, op).await;
                        node.feed(Input::Called(id, result));
                    });
                }
                Effect::Find => {
                    let node = Arc::clone(self);
                    self.world.spawn("agent find", async move {
                        let found = node.config.driver.find().await;
                        if let Err(error) = &found {
                            tracing::warn!(node = node.name(), %error, "what runs on the node cannot be found out yet");
                        }
                        node.feed(Input::Found(found));
                    });
                }
                Effect::Look(id, guest) => {
                    let node = Arc::clone(self);
                    self.world.spawn("agent look", async move {
                        let found = node.config.driver.find().await;
                        let of = |all: Vec<driver::Found>| all.into_iter().find(|found| found.guest == guest);
                        node.feed(Input::Looked(id, found.map(|all| of(all).map(|found| found.observed))));
                    });
                }
                Effect::Reply(ticket, answer) => inner.reply(ticket, answer),
                Effect::ReplyNetworks(ticket, answer) => {
                    if let Some(sender) = inner.networks.remove(&ticket) {
                        let _caller_left = sender.send(answer);
                    }
                }
                Effect::Report(note) => self.outbox.put(note),
                Effect::Ready => {
                    self.ready.close();
                    self.attend();
                }
                Effect::WakeAt(when) => self.wake_at(when),
            }
        }
    }

    fn wake_at(self: &Arc<Self>, when: Mono) {
        let node = Arc::clone(self);
        self.world.spawn("agent timer", async move {
            node.world.sleep_until(when).await;
            node.feed(Input::Tick);
        });
    }
}

impl Inner {
    fn reply(&mut self, ticket: Ticket, answer: Answer) {
        let Some((guest, sender)) = self.orders.remove(&ticket) else { return };
        if self.contexts.get(&guest).is_some_and(|(latest, _)| *latest == ticket) {
            self.contexts.remove(&guest);
        }
        let _caller_left = sender.send(answer);
    }
}

/// A span for an append that belongs to an act which somebody waits for.
fn log_span(inner: &Inner, entries: &[Entry]) -> Option<Span> {
    let (guest, name) = entries.iter().find_map(|entry| match entry {
        Entry::Begun(begun) => Some((begun.guest, "agent.log.begun")),
        Entry::Undoing { guest, .. } => Some((*guest, "agent.log.undoing")),
        Entry::Ended { guest, .. } => Some((*guest, "agent.log.ended")),
        Entry::Boot(_)
        | Entry::Counters { .. }
        | Entry::Network(_)
        | Entry::Port(_)
        | Entry::Group(_)
        | Entry::GroupGone(_)
        | Entry::Seen { .. }
        | Entry::RunRaised { .. }
        | Entry::RunEnded { .. }
        | Entry::Reported { .. }
        | Entry::Guest { .. }
        | Entry::Work { .. } => None,
    })?;
    inner.contexts.get(&guest).map(|(_, cx)| cx.span(name).1)
}

/// What the driver tells on its own.
struct Ears(Weak<Node>);

impl Watcher for Ears {
    fn ended(&self, guest: GuestId, run: Run, cause: StopCause) {
        if let Some(node) = self.0.upgrade() {
            node.feed(Input::Ended(guest, run, cause));
        }
    }
}
