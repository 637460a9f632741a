//! What a process has of liveness: its own session, the names of others, and the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use names::{Directory, Listing, Version};
use parking_lot::Mutex;
use pki::Role;
use proto::liveness::v1 as wire;
use proto::liveness::v1::attend_response::Said;
use proto::liveness::v1::liveness_service_client::LivenessServiceClient;
use rpc::{Peers, Prober, Target};
use telemetry::{Cx, Ring};
use tokio::sync::Notify;
use world::World;

use crate::core::{News, Wanted};
use crate::instance::{ConfigDocument, reach};
use crate::wire as convert;

/// How long the head of an answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);
/// Between two rounds through all instances, first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A resumed session comes back within so much, however few share its instance.
const SPREAD_LEAST: Duration = Duration::from_millis(20);
/// Tries on behalf of an instance take no longer.
const TRY_WAIT_MAX: Duration = Duration::from_millis(400);

/// What a process offers, and wants.
pub struct Offer {
    /// What it says of itself.
    pub listing: Listing,
    /// Of whom it wants to hear; nothing: of nobody.
    pub watch: Option<Wanted>,
    /// The instance within this process, if there is one.
    pub local: Option<Target>,
    /// Addresses of instances: at the start nothing else is known.
    pub bootstrap: Vec<Target>,
    /// How others are called.
    pub peers: Arc<dyn Peers>,
    /// How hosts are tried, when an instance asks for it.
    pub prober: Arc<dyn Prober>,
    /// The spans of the process.
    pub ring: Arc<Ring>,
    /// Takes the configuration, whenever there is a newer one.
    pub configured: Box<dyn Fn(ConfigDocument) + Send + Sync>,
}

/// No liveness instance could be reached: what each address said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoInstance(pub BTreeMap<String, String>);

impl std::fmt::Display for NoInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no liveness instance could be reached")?;
        if self.0.is_empty() {
            return f.write_str(": no address of one is known; name one as bootstrap");
        }
        for (index, (address, said)) in self.0.iter().enumerate() {
            write!(f, "{} {address}: {said}", if index == 0 { ";" } else { "," })?;
        }
        Ok(())
    }
}

/// The session of a process. It is kept until the process ends or leaves.
pub struct Session {
    world: World,
    offer: Offer,
    directory: Arc<Directory>,
    inside: Mutex<Inside>,
    /// Something is to be told.
    tell: Notify,
    /// What others wait for has changed.
    changed: Notify,
    /// The process leaves, or wants to be told everything again.
    interrupted: Notify,
}

struct Inside {
    secret: [u8; 16],
    /// The number that it was told.
    session: u64,
    turn: u64,
    listing: Listing,
    /// The change of facts that was made last, and the one that was told.
    change: u64,
    told: u64,
    answers: Vec<(u64, wire::Tried)>,
    /// With whom it stands.
    with: Option<Target>,
    /// When it is resumed after a break: within this.
    spread: Duration,
    config: u64,
    /// What this process tells all others of the configuration, and whether the present instance has it.
    publish: Option<ConfigDocument>,
    published: bool,
    named: bool,
    leaving: bool,
    said: BTreeMap<String, String>,
}

/// How an attempt ended.
enum End {
    /// The session did not come to stand.
    Never(String),
    /// It stood.
    Stood(String),
    /// It can never be resumed.
    Over,
}

impl Session {
    /// Begins to attend.
    pub fn start(world: &World, offer: Offer) -> Arc<Session> {
        let inside = Inside {
            secret: world.random(),
            session: 0,
            turn: 0,
            listing: offer.listing.clone(),
            change: 0,
            told: 0,
            answers: Vec::new(),
            with: None,
            spread: SPREAD_LEAST,
            config: 0,
            publish: None,
            published: false,
            named: offer.watch.is_none(),
            leaving: false,
            said: BTreeMap::new(),
        };
        let session = Arc::new(Session {
            world: world.clone(),
            offer,
            directory: Directory::new(),
            inside: Mutex::new(inside),
            tell: Notify::new(),
            changed: Notify::new(),
            interrupted: Notify::new(),
        });
        world.spawn("liveness session", Arc::clone(&session).attend());
        world.spawn("liveness tell", Arc::clone(&session).telling());
        session
    }

    /// Who is there.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The number of the session, and the instance that it stands with; nothing while it stands with none.
    pub fn stands(&self) -> Option<(u64, Target)> {
        let inside = self.inside.lock();
        inside.with.clone().map(|with| (inside.session, with))
    }

    /// Completes when names have come for the first time.
    ///
    /// # Errors
    /// If that takes longer than `within`: with what each address said.
    pub async fn ready(&self, within: Duration) -> Result<(), NoInstance> {
        let named = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if self.inside.lock().named {
                    return;
                }
                changed.await;
            }
        };
        let named = self.world.timeout(within, named).await;
        named.map_err(|_| NoInstance(self.inside.lock().said.clone()))
    }

    /// Completes when the session stands.
    pub async fn standing(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.inside.lock().with.is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Changes what is said of this process. What is not a change is not told.
    pub fn tell(&self, change: impl FnOnce(&mut Listing)) {
        let mut inside = self.inside.lock();
        let mut listing = inside.listing.clone();
        change(&mut listing);
        if listing != inside.listing {
            inside.listing = listing;
            inside.change += 1;
            drop(inside);
            self.tell.notify_one();
        }
    }

    /// Completes when everything that was to be told has been.
    pub async fn told(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let all = {
                let inside = self.inside.lock();
                inside.told >= inside.change
            };
            if all {
                return;
            }
            changed.await;
        }
    }

    /// Says that this process is about to end; from then on it has no session. Waits for no longer than `within`.
    pub async fn leave(&self, within: Duration) {
        let (with, secret) = {
            let mut inside = self.inside.lock();
            inside.leaving = true;
            (inside.with.clone(), inside.secret)
        };
        if let Some(with) = with {
            let cx = Cx::root(&self.offer.ring, None, self.world.now() + within);
            let mut client = LivenessServiceClient::new(self.offer.peers.channel(&with, &cx));
            // Who cannot say it is seen to be gone.
            let _said_or_not = client.leave(wire::LeaveRequest { secret: secret.to_vec().into() }).await;
        }
        self.interrupted.notify_waiters();
    }

    /// Resumes the session, so that whatever this process has missed is told again.
    pub fn renew(&self) {
        self.interrupted.notify_waiters();
    }

    /// From now on every instance with which the session stands is told this configuration.
    pub fn publish(&self, config: ConfigDocument) {
        let mut inside = self.inside.lock();
        inside.publish = Some(config);
        inside.published = false;
        drop(inside);
        self.tell.notify_one();
    }

    /// Instances in the order in which they are tried: the one within this process, those that are known, and then
    /// whatever the bootstrap names.
    fn instances(&self) -> Vec<Target> {
        let (own, local) = (&self.offer.listing.who, &self.offer.local);
        let mut known: Vec<Target> = {
            let listed = self.directory.of(Role::Liveness);
            let others = listed.iter().filter(|listing| local.is_none() || listing.who != *own);
            let good = others.filter(|listing| !listing.status.is_final());
            good.filter_map(|listing| listing.target()).collect()
        };
        let turns = u64::try_from(known.len()).ok().filter(|many| *many > 1);
        let by = turns.map_or(0, |many| usize::try_from(self.world.random_below(many)).unwrap_or(0));
        known.rotate_left(by);
        let mut bootstrap = self.offer.bootstrap.clone();
        bootstrap.retain(|target| known.iter().all(|known| known.endpoint != target.endpoint));
        local.iter().cloned().chain(known).chain(bootstrap).collect()
    }

    async fn attend(self: Arc<Self>) {
        let mut pause = PAUSE_FIRST;
        let mut last: Option<String> = None;
        let mut warned = BTreeMap::new();
        loop {
            let mut targets = self.instances();
            // The one that has just been lost comes last.
            targets.sort_by_key(|target| last.as_ref() == Some(&target.endpoint) && !target.endpoint.is_empty());
            let mut stood = false;
            for target in targets {
                if self.inside.lock().leaving {
                    return;
                }
                let end = self.attend_once(&target).await;
                self.inside.lock().with = None;
                let said = match end {
                    End::Never(said) => said,
                    End::Stood(said) => {
                        tracing::info!(instance = %target, said, "the session has to be resumed");
                        last = Some(target.endpoint.clone());
                        stood = true;
                        break;
                    }
                    End::Over => {
                        self.begin_anew();
                        stood = true;
                        break;
                    }
                };
                tracing::debug!(instance = %target, endpoint = target.endpoint, said, "no session");
                self.inside.lock().said.insert(target.endpoint, said);
            }
            if self.inside.lock().leaving {
                return;
            }
            pause = if stood { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MAX) };
            // As many as shared its last instance come back with it, wherever they find the next.
            let spread = self.inside.lock().spread;
            let most = if stood { spread } else { pause.max(spread) };
            if !stood {
                self.warn(&mut warned);
            }
            let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
            self.world.sleep(Duration::from_micros(self.world.random_below(micros))).await;
        }
    }

    /// Says, once for each reason, why there is no session: who runs this process has to know.
    fn warn(&self, warned: &mut BTreeMap<String, String>) {
        let said = self.inside.lock().said.clone();
        if !said.is_empty() && said != *warned {
            tracing::warn!(error = %NoInstance(said.clone()), "this process has no session");
            *warned = said;
        }
    }

    fn begin_anew(&self) {
        tracing::warn!("this process was taken for dead; it begins a new session");
        let mut inside = self.inside.lock();
        inside.secret = self.world.random();
        inside.session = 0;
        inside.turn = 0;
    }

    /// Attends until the stream ends, or the process leaves.
    async fn attend_once(self: &Arc<Self>, target: &Target) -> End {
        let request = {
            let mut inside = self.inside.lock();
            inside.turn += 1;
            inside.change = inside.change.max(inside.turn << 32);
            wire::AttendRequest {
                secret: inside.secret.to_vec().into(),
                session: inside.session,
                turn: inside.turn,
                facts: Some(convert::facts(&inside.listing)),
                watch: self.offer.watch.as_ref().map(convert::watch).unwrap_or_default(),
                seen: Some(convert::version(self.directory.version())),
                config: inside.config,
            }
        };
        let carried = request.turn << 32;
        let cx = Cx::root(&self.offer.ring, None, self.world.now() + ANSWER_WAIT_MAX);
        let mut client = LivenessServiceClient::new(self.offer.peers.channel(target, &cx));
        let mut stream = match client.attend(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return End::Never(rpc::Error::from(status).reason),
        };
        let mut gathered = convert::Gathered::default();
        let mut stood = false;
        let why = |stood, said: String| if stood { End::Stood(said) } else { End::Never(said) };
        loop {
            let interrupted = std::pin::pin!(self.interrupted.notified());
            let message = std::pin::pin!(stream.message());
            let said = match select(message, interrupted).await {
                Either::Left((Ok(Some(message)), _)) => message.said,
                Either::Left((Ok(None), _)) => return why(stood, "the instance ended the session".into()),
                Either::Left((Err(status), _)) => return why(stood, rpc::Error::from(status).reason),
                Either::Right(((), _)) => return why(stood, "this process leaves, or asks again".into()),
            };
            match said {
                Some(Said::Welcome(welcome)) => {
                    stood = true;
                    self.welcome(target, &welcome, carried);
                }
                Some(Said::Names(names)) => {
                    if let Some(news) = gathered.add(&self.offer.listing.who.cell, names)
                        && !self.take(news)
                    {
                        return why(stood, "names came out of order".into());
                    }
                }
                Some(Said::Config(config)) => self.configure(config),
                Some(Said::Question(question)) => self.answer(question),
                Some(Said::Waiting(wire::Waiting { reason })) => {
                    tracing::warn!(instance = %target, reason, "this process has no session yet");
                }
                Some(Said::Ended(wire::Ended { over: true, .. })) => return End::Over,
                Some(Said::Ended(wire::Ended { reason, .. })) => return why(stood, reason),
                Some(Said::Nudge(_)) | None => {}
            }
        }
    }

    fn welcome(&self, target: &Target, welcome: &wire::Welcome, carried: u64) {
        let mut inside = self.inside.lock();
        inside.session = welcome.session;
        inside.spread = Duration::from_micros(welcome.spread_us).max(SPREAD_LEAST);
        inside.with = Some(target.clone());
        inside.published = false;
        inside.told = inside.told.max(carried);
        inside.said.clear();
        drop(inside);
        tracing::info!(instance = welcome.instance, session = welcome.session, "the session stands");
        self.changed.notify_waiters();
        self.tell.notify_one();
    }

    /// Whether the news follow on what is known.
    fn take(&self, news: News) -> bool {
        let News { whole, after, version, changes } = news;
        if whole {
            let listings = changes.into_iter().filter_map(|change| match change {
                names::Change::Put(listing) => Some(listing),
                names::Change::Forget(..) => None,
            });
            self.directory.replace(version, listings);
        } else if self.directory.apply(after, version, changes).is_err() {
            // Everything is asked for.
            self.directory.replace(Version::default(), self.directory.all());
            return false;
        }
        self.inside.lock().named = true;
        self.changed.notify_waiters();
        true
    }

    fn configure(&self, config: wire::Config) {
        let wire::Config { revision, document } = config;
        self.inside.lock().config = revision;
        (self.offer.configured)(ConfigDocument { revision, document });
    }

    fn answer(self: &Arc<Self>, question: wire::Question) {
        let wire::Question { number, endpoint } = question;
        if endpoint.is_empty() {
            self.inside.lock().answers.push((number, wire::Tried::Unspecified));
            self.tell.notify_one();
            return;
        }
        let own = Arc::clone(self);
        self.world.spawn("liveness answer", async move {
            let tried = reach(&own.world, &own.offer.prober, &endpoint, TRY_WAIT_MAX).await;
            own.inside.lock().answers.push((number, convert::tried(tried)));
            own.tell.notify_one();
        });
    }

    /// Tells what is to be told, one after the other.
    async fn telling(self: Arc<Self>) {
        loop {
            self.tell.notified().await;
            self.publish_now().await;
            while let Some((with, request)) = self.next_to_tell() {
                let change = request.facts.as_ref().map(|_| request.change);
                let cx = Cx::root(&self.offer.ring, None, self.world.now() + ANSWER_WAIT_MAX);
                let mut client = LivenessServiceClient::new(self.offer.peers.channel(&with, &cx));
                match client.tell(request).await {
                    Ok(_) => {
                        let mut inside = self.inside.lock();
                        inside.told = inside.told.max(change.unwrap_or(0));
                        drop(inside);
                        self.changed.notify_waiters();
                    }
                    // The facts go along when the session is resumed; an answer is worth nothing then.
                    Err(_) => self.world.sleep(PAUSE_FIRST).await,
                }
            }
        }
    }

    async fn publish_now(&self) {
        loop {
            let (with, config) = {
                let inside = self.inside.lock();
                let due = inside.publish.clone().filter(|_| !inside.published);
                let (Some(with), Some(config)) = (inside.with.clone(), due) else { return };
                (with, config)
            };
            let cx = Cx::root(&self.offer.ring, None, self.world.now() + ANSWER_WAIT_MAX);
            let mut client = LivenessServiceClient::new(self.offer.peers.channel(&with, &cx));
            let told = wire::Config { revision: config.revision, document: config.document.clone() };
            let done = client.publish(wire::PublishRequest { config: Some(told) }).await.is_ok();
            if done {
                let mut inside = self.inside.lock();
                inside.published = inside.with.as_ref() == Some(&with) && inside.publish.as_ref() == Some(&config);
            } else {
                self.world.sleep(PAUSE_FIRST).await;
            }
        }
    }

    fn next_to_tell(&self) -> Option<(Target, wire::TellRequest)> {
        let mut inside = self.inside.lock();
        let with = inside.with.clone()?;
        let mut request = wire::TellRequest { secret: inside.secret.to_vec().into(), ..Default::default() };
        let answer = inside.answers.pop();
        if let Some((number, tried)) = answer {
            request.answers = Some(number);
            request.set_tried(tried);
        }
        if inside.change > inside.told {
            request.facts = Some(convert::facts(&inside.listing));
            request.change = inside.change;
        }
        (answer.is_some() || request.facts.is_some()).then_some((with, request))
    }
}
