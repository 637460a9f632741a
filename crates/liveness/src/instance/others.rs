//! Follows what the other instances say: a full mesh, since they are a handful.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use names::{Listing, Version};
use parking_lot::Mutex;
use proto::liveness::v1::ExchangeRequest;
use proto::liveness::v1::liveness_service_client::LivenessServiceClient;
use rpc::Target;
use telemetry::Cx;

use super::{ConfigDocument, Instance};
use crate::core::Said;
use crate::wire as convert;

/// How long the head of an answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long to wait before another instance is called again, first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often it is looked at whether the host of another instance is heard.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked at whether another instance has called by now.
const LOOK_FOR_LINK_EVERY: Duration = Duration::from_secs(60);
/// One that was not heard for so long is taken for gone.
const DEAF_AFTER: Duration = Duration::from_millis(1500);
/// How often, and how many times, an instance that starts looks for its own session.
const OWN_LOOK_EVERY: Duration = Duration::from_millis(20);
const OWN_LOOKS: u32 = 10;

impl Instance {
    /// Follows everybody that bootstrap and sessions name as an instance.
    pub(super) async fn follow_others(self: Arc<Self>) {
        let following: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        loop {
            for target in self.instances() {
                if following.lock().insert(target.endpoint.clone()) {
                    let (own, following) = (Arc::clone(&self), Arc::clone(&following));
                    self.world.spawn("liveness follow", async move {
                        let endpoint = target.endpoint.clone();
                        own.follow_one(target).await;
                        following.lock().remove(&endpoint);
                    });
                }
            }
            self.follow.notified().await;
        }
    }

    /// Every instance that may be there, but this one.
    fn instances(&self) -> Vec<Target> {
        let listed: Vec<Target> = {
            let inside = self.inside.lock();
            let others = inside.core.instances().filter(|listing| listing.who != self.options.own);
            others.filter(|listing| !listing.status.is_final()).filter_map(|listing| listing.target()).collect()
        };
        // One that has moved knows where the others are, and not they where it is: it calls first.
        let callers: Vec<Target> = self.inside.lock().callers.values().cloned().collect();
        // A name is worth more than an address alone.
        let mut by_endpoint: BTreeMap<String, Target> = BTreeMap::new();
        for target in self.options.bootstrap.iter().cloned().chain(listed).chain(callers) {
            by_endpoint.insert(target.endpoint.clone(), target);
        }
        by_endpoint.into_values().filter(|target| !target.endpoint.is_empty()).collect()
    }

    /// Follows one instance until it turns out to be this one, or is not named any more.
    async fn follow_one(self: &Arc<Self>, target: Target) {
        let mut pause = PAUSE_FIRST;
        let mut heard = Version::default();
        let mut name = None;
        loop {
            let named = self.instances().iter().any(|other| other.endpoint == target.endpoint);
            if !named {
                return;
            }
            match self.hear(&target, &mut heard, &mut name).await {
                Ok(true) => return,
                Ok(false) => pause = PAUSE_FIRST,
                Err(error) => {
                    tracing::debug!(%target, endpoint = target.endpoint, %error, "another instance is not heard");
                }
            }
            if let Some(name) = &name {
                self.with(|core, now| core.deaf_to(now, name));
            }
            let half = u64::try_from(pause.as_micros() / 2).unwrap_or(u64::MAX).max(1);
            self.world.sleep(pause / 2 + Duration::from_micros(self.world.random_below(half))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Hears `target` until its stream ends. Whether it is this very instance.
    async fn hear(
        self: &Arc<Self>,
        target: &Target,
        heard: &mut Version,
        name: &mut Option<String>,
    ) -> Result<bool, tonic::Status> {
        let cx = Cx::root(&self.options.ring, None, self.world.now() + ANSWER_WAIT_MAX);
        let mut client = LivenessServiceClient::new(self.options.peers.channel(target, &cx));
        let request = ExchangeRequest { heard: Some(convert::version(*heard)), endpoint: self.own_endpoint().await };
        let mut stream = client.exchange(request).await?.into_inner();
        let cell = &self.options.own.cell;
        let mut statements = Vec::new();
        loop {
            let watched = name.clone();
            let gone = std::pin::pin!(self.unheard(watched));
            let message = std::pin::pin!(stream.message());
            let told = match futures_util::future::select(message, gone).await {
                futures_util::future::Either::Left((message, _)) => message?,
                futures_util::future::Either::Right(((), _)) => return Ok(false),
            };
            let Some(told) = told else { return Ok(false) };
            if told.instance == self.name {
                return Ok(true);
            }
            *name = Some(told.instance.clone());
            if let Some(config) = told.config {
                self.publish(ConfigDocument { revision: config.revision, document: config.document });
            }
            statements.extend(told.statements.into_iter().filter_map(|said| convert::statement_of(cell, said)));
            if !told.more {
                let version = convert::version_of(told.version.as_ref());
                let said = Said { whole: told.whole, version, statements: std::mem::take(&mut statements) };
                self.with(|core, now| core.hear(now, &told.instance, said));
                *heard = version;
            }
        }
    }

    /// Where this instance answers, as soon as its own session tells: that is a matter of moments. Otherwise nothing.
    async fn own_endpoint(&self) -> String {
        let own = Arc::new((self.options.own.role, self.options.own.name.clone()));
        for _ in 0..OWN_LOOKS {
            let listing = self.inside.lock().core.get(&own).cloned();
            if let Some(endpoint) = listing.and_then(|listing| listing.endpoints.get(Listing::RPC).cloned()) {
                return endpoint;
            }
            self.world.sleep(OWN_LOOK_EVERY).await;
        }
        String::new()
    }

    /// Completes when the host of the instance `name` was not heard for too long on the connection over which it hears this
    /// one: much sooner than the transport gives up.
    async fn unheard(&self, name: Option<String>) {
        let Some(name) = name else { return std::future::pending().await };
        loop {
            let link = self.inside.lock().incoming.get(&name).cloned();
            let Some(ago) = link.and_then(|link| link.heard()) else {
                self.world.sleep(LOOK_FOR_LINK_EVERY).await;
                continue;
            };
            if ago > DEAF_AFTER {
                return;
            }
            self.world.sleep(WATCH_EVERY).await;
        }
    }
}
