//! A liveness instance: the shell around [`Core`].
//!
//! It holds the streams, tells the core what becomes of them, and does what the core asks for. Nothing of it is written
//! anywhere: an instance that starts knows nobody, and hears of everybody from its peers and from those who come back.

mod others;
mod service;
mod stream;
mod tries;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use names::{Listing, Observer};
use parking_lot::Mutex;
use pki::{Identity, Role};
use proto::liveness::v1::liveness_service_server::LivenessServiceServer;
use rpc::{Link, Peers, Prober, Target};
use telemetry::Ring;
use tokio::sync::{Notify, Semaphore};
use world::World;

use crate::core::{Core, Effect, Now, Settings, Wanted, Who};
use stream::Stream;
pub(crate) use tries::reach;

/// Tries to reach processes that go on at the same time.
const TRIES_MAX: usize = 256;
/// Sessions that are resumed in a second after their instance has gone: as many handshakes fit into a part of a core.
const RESUMED_PER_SECOND: u64 = 1000;

/// The configuration of the cell, as it is passed on: nobody here reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDocument {
    /// The store's revision of it.
    pub revision: u64,
    /// An encoded `mainstay.config.v1.Document`.
    pub document: Bytes,
}

/// What an instance is made of.
pub struct Options {
    /// The process that it runs in.
    pub own: Identity,
    /// How patient it is.
    pub settings: Settings,
    /// How others are called.
    pub peers: Arc<dyn Peers>,
    /// How hosts are tried.
    pub prober: Arc<dyn Prober>,
    /// The spans of the process.
    pub ring: Arc<Ring>,
    /// Addresses of other instances; its own may be among them.
    pub bootstrap: Vec<Target>,
}

/// A liveness instance.
pub struct Instance {
    world: World,
    options: Options,
    name: Observer,
    inside: Mutex<Inside>,
    /// The clock task has to look again.
    clock: Notify,
    /// Somebody may be there whom this instance does not follow yet.
    follow: Notify,
    tries: Arc<Semaphore>,
}

struct Inside {
    core: Core,
    streams: BTreeMap<Who, Arc<Stream>>,
    watchers: Watchers,
    config: ConfigDocument,
    /// Questions that others were asked on behalf of a try.
    asked: BTreeMap<u64, (Who, u64)>,
    questions: u64,
    /// Where other instances' calls come from.
    incoming: BTreeMap<Observer, Link>,
    /// Where other instances that hear this one say that they answer, by the number of their stream.
    callers: BTreeMap<u64, Target>,
}

/// Who wants to be woken, by what they want to hear of.
#[derive(Default)]
struct Watchers {
    next: u64,
    all: BTreeMap<u64, Arc<Notify>>,
    by_role: BTreeMap<Role, BTreeMap<u64, Arc<Notify>>>,
    by_name: BTreeMap<Who, BTreeMap<u64, Arc<Notify>>>,
}

impl Watchers {
    fn add(&mut self, wanted: &Wanted, wake: &Arc<Notify>) -> u64 {
        self.next += 1;
        let put = |watchers: &mut BTreeMap<u64, Arc<Notify>>| watchers.insert(self.next, Arc::clone(wake));
        match wanted {
            Wanted::All => drop(put(&mut self.all)),
            Wanted::Roles(roles) => {
                roles.iter().for_each(|role| drop(put(self.by_role.entry(*role).or_default())));
            }
        }
        self.next
    }

    fn remove(&mut self, number: u64) {
        self.all.remove(&number);
        self.by_role.values_mut().chain(self.by_name.values_mut()).for_each(|of| drop(of.remove(&number)));
        self.by_name.retain(|_, of| !of.is_empty());
    }

    fn wake(&self, who: &Who, listing: Option<&Arc<Listing>>) {
        let roles = listing.iter().flat_map(|listing| listing.roles.iter().copied());
        let by_role = roles.chain([who.0]).filter_map(|role| self.by_role.get(&role));
        let woken = by_role.chain(self.by_name.get(who)).chain([&self.all]);
        woken.flat_map(BTreeMap::values).for_each(|wake| wake.notify_one());
    }

    fn wake_all(&self) {
        let woken = self.by_role.values().chain([&self.all]);
        woken.flat_map(BTreeMap::values).for_each(|wake| wake.notify_one());
    }
}

impl Instance {
    /// Starts an instance. It follows the others that `options` and the sessions tell of.
    pub fn start(world: &World, options: Options) -> Arc<Instance> {
        let name = options.own.to_string();
        // Zero is nobody's.
        let number = u64::from_le_bytes(world.random()) | 1;
        let inside = Inside {
            core: Core::new(name.clone(), number, options.settings),
            streams: BTreeMap::new(),
            watchers: Watchers::default(),
            config: ConfigDocument::default(),
            asked: BTreeMap::new(),
            questions: 0,
            incoming: BTreeMap::new(),
            callers: BTreeMap::new(),
        };
        let instance = Arc::new(Instance {
            world: world.clone(),
            options,
            name,
            inside: Mutex::new(inside),
            clock: Notify::new(),
            follow: Notify::new(),
            tries: Arc::new(Semaphore::new(TRIES_MAX)),
        });
        world.spawn("liveness clock", Arc::clone(&instance).run_clock());
        world.spawn("liveness peers", Arc::clone(&instance).follow_others());
        instance
    }

    /// The service.
    pub fn service(self: &Arc<Self>) -> LivenessServiceServer<service::Service> {
        LivenessServiceServer::new(service::Service(Arc::clone(self)))
    }

    /// From now on everybody is told this configuration, unless a newer one is known.
    pub fn publish(&self, config: ConfigDocument) {
        let mut inside = self.inside.lock();
        if config.revision > inside.config.revision {
            inside.config = config;
            inside.watchers.wake_all();
        }
    }

    /// From now on it is as patient as this.
    pub fn set(&self, settings: Settings) {
        self.inside.lock().core.set(settings);
    }

    /// How patient it is.
    pub fn settings(&self) -> Settings {
        *self.inside.lock().core.settings()
    }

    /// Everybody it knows.
    pub fn all(&self) -> Vec<Arc<Listing>> {
        self.inside.lock().core.all().cloned().collect()
    }

    /// Sessions that stand here.
    pub fn held(&self) -> usize {
        self.inside.lock().core.held()
    }

    fn now(&self) -> Now {
        Now { mono: self.world.now(), wall: self.world.wall() }
    }

    /// Lets the core do something, wakes those whom it concerns, and does what comes of it.
    fn with<T>(self: &Arc<Self>, act: impl FnOnce(&mut Core, Now) -> T) -> T {
        let (result, mut effects) = self.inside(act);
        while !effects.is_empty() {
            let mut looks = Vec::new();
            for effect in effects {
                self.perform(effect, &mut looks);
            }
            let heard = |core: &mut Core, now: Now| {
                for (who, turn, ago) in looks {
                    core.heard(now, &who, turn, ago);
                }
            };
            ((), effects) = self.inside(heard);
        }
        result
    }

    fn inside<T>(&self, act: impl FnOnce(&mut Core, Now) -> T) -> (T, Vec<Effect>) {
        let now = self.now();
        let mut inside = self.inside.lock();
        let (before, due) = (inside.core.version().number, inside.core.next());
        let result = act(&mut inside.core, now);
        let Inside { core, watchers, .. } = &mut *inside;
        match core.changed_after(before) {
            Some(changed) => changed.iter().for_each(|(who, listing)| watchers.wake(who, *listing)),
            None => watchers.wake_all(),
        }
        let changed = core.version().number != before;
        let earlier = core.next().is_some_and(|next| due.is_none_or(|due| next < due));
        let effects = core.effects();
        drop(inside);
        if earlier {
            self.clock.notify_one();
        }
        if changed {
            self.follow.notify_one();
        }
        (result, effects)
    }

    fn perform(self: &Arc<Self>, effect: Effect, looks: &mut Vec<(Who, u64, Option<Duration>)>) {
        let stream = |who: &Who| self.inside.lock().streams.get(who).cloned();
        match effect {
            Effect::Look(who, turn) => {
                let link = stream(&who).and_then(|stream| stream.link.clone());
                looks.push((who, turn, link.and_then(|link| link.heard())));
            }
            Effect::Nudge(who) => {
                if let Some(stream) = stream(&who) {
                    stream.nudge();
                }
            }
            Effect::Ask(who, number) => {
                if let Some(stream) = stream(&who) {
                    stream.ask(number, String::new());
                }
            }
            Effect::Try(who, endpoint, round) => self.try_to_reach(who, endpoint, round),
            Effect::Close(who, turn) => {
                if let Some(stream) = stream(&who).filter(|stream| stream.turn == turn) {
                    stream.close();
                }
            }
        }
    }

    async fn run_clock(self: Arc<Self>) {
        loop {
            let next = self.inside.lock().core.next();
            let woken = std::pin::pin!(self.clock.notified());
            match next {
                Some(when) => {
                    let slept = self.world.sleep_until(when);
                    futures_util::future::select(woken, slept).await;
                    if self.world.now() >= when {
                        self.with(|core, now| core.tick(now));
                    }
                }
                None => woken.await,
            }
        }
    }

    /// How long those who lose this instance may take to come back.
    fn spread(&self) -> Duration {
        let held = u64::try_from(self.held()).unwrap_or(u64::MAX);
        Duration::from_millis(held.saturating_mul(1000) / RESUMED_PER_SECOND)
    }
}
