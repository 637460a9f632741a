//! Tries to reach a process: from here, from other instances, and from a few processes elsewhere.

use std::sync::Arc;
use std::time::Duration;

use proto::liveness::v1::ReachRequest;
use proto::liveness::v1::liveness_service_client::LivenessServiceClient;
use rpc::{Probe, Prober, Target};
use telemetry::Cx;
use world::World;

use super::Instance;
use crate::core::{Tried, Who};
use crate::wire as convert;

/// A try is over so long before it is judged.
const JUDGED_LATER: Duration = Duration::from_millis(80);
/// Connections that one try makes, and how far apart: a network that loses every fifth packet loses few of them all.
const CONNECTIONS: u32 = 3;
const CONNECTIONS_APART: Duration = Duration::from_millis(120);
/// Processes that are asked to try.
const ASKED: usize = 2;
/// So many are drawn, of whom not all may be of use.
const DRAWS: usize = 8;

impl Instance {
    pub(super) fn try_to_reach(self: &Arc<Self>, who: Who, endpoint: String, round: u64) {
        let within = self.settings().verdict_after.saturating_sub(JUDGED_LATER);
        let own = Arc::clone(self);
        let (aim, to) = (Arc::clone(&who), endpoint.clone());
        self.world.spawn("liveness try", async move {
            let Ok(_permit) = own.tries.acquire().await else { return };
            let tried = reach(&own.world, &own.options.prober, &to, within).await;
            own.came_of(&aim, round, &own.name.clone(), true, tried);
        });
        for target in self.other_instances() {
            let (own, aim, to) = (Arc::clone(self), Arc::clone(&who), endpoint.clone());
            self.world.spawn("liveness try elsewhere", async move {
                let cx = Cx::root(&own.options.ring, None, own.world.now() + within * 2);
                let mut client = LivenessServiceClient::new(own.options.peers.channel(&target, &cx));
                if let Ok(told) = client.reach(ReachRequest { endpoint: to }).await {
                    let tried = convert::tried_of(told.into_inner().tried());
                    own.came_of(&aim, round, &target.to_string(), true, tried);
                }
            });
        }
        self.ask_processes(&who, &endpoint, round);
    }

    /// Other instances that are alive.
    fn other_instances(&self) -> Vec<Target> {
        let inside = self.inside.lock();
        let others = inside.core.instances().filter(|listing| listing.who != self.options.own);
        others.filter(|listing| listing.takes_calls()).filter_map(|listing| listing.target()).collect()
    }

    /// Asks a few processes on other machines, drawn at random.
    fn ask_processes(&self, who: &Who, endpoint: &str, round: u64) {
        let mut inside = self.inside.lock();
        let machine = |who: &Who| inside.core.get(who).map(|listing| listing.machine.clone());
        let away = machine(who);
        let held = u64::try_from(inside.core.held()).unwrap_or(u64::MAX);
        let mut asked = Vec::new();
        for _ in 0..DRAWS {
            let drawn = usize::try_from(self.world.random_below(held.max(1))).unwrap_or(0);
            let Some(one) = inside.core.observer(drawn).filter(|one| *one != who) else { continue };
            // Who is within this very process would say the same as it.
            let elsewhere = inside.streams.get(one).is_some_and(|stream| stream.link.is_some());
            if asked.len() < ASKED && elsewhere && machine(one) != away && !asked.contains(one) {
                asked.push(Arc::clone(one));
            }
        }
        for one in asked {
            inside.questions += 1;
            // Apart from the core's own questions, which only ask whether somebody is there.
            let number = inside.questions | 1 << 63;
            inside.asked.insert(number, (Arc::clone(who), round));
            if inside.asked.len() > super::TRIES_MAX * ASKED {
                inside.asked.pop_first();
            }
            if let Some(stream) = inside.streams.get(&one) {
                stream.ask(number, endpoint.to_owned());
            }
        }
    }

    /// `observer` answers a question that was put on behalf of a try. Whether it was one.
    pub(super) fn answered(self: &Arc<Self>, observer: &str, number: u64, tried: Option<Tried>) -> bool {
        let question = self.inside.lock().asked.remove(&number);
        let Some((who, round)) = question else { return number >> 63 == 1 };
        self.came_of(&who, round, observer, false, tried);
        true
    }

    fn came_of(self: &Arc<Self>, who: &Who, round: u64, observer: &str, instance: bool, tried: Option<Tried>) {
        if let Some(tried) = tried {
            self.with(|core, now| core.tried(now, who, round, &observer.to_owned(), instance, tried));
        }
    }

    /// Tries to reach `endpoint` on behalf of another instance.
    pub(super) async fn reach_for_another(&self, endpoint: &str) -> Option<Tried> {
        let within = self.settings().verdict_after.saturating_sub(JUDGED_LATER);
        let _permit = self.tries.acquire().await.ok()?;
        reach(&self.world, &self.options.prober, endpoint, within).await
    }
}

/// Whether somebody listens at `endpoint`; nothing, if it could not be tried.
pub(crate) async fn reach(world: &World, prober: &Arc<dyn Prober>, endpoint: &str, within: Duration) -> Option<Tried> {
    let mut under_way = futures_util::stream::FuturesUnordered::new();
    for number in 0..CONNECTIONS {
        let (world, prober, endpoint) = (world.clone(), Arc::clone(prober), endpoint.to_owned());
        let wait = (CONNECTIONS_APART * number).min(within);
        under_way.push(async move {
            if !wait.is_zero() {
                world.sleep(wait).await;
            }
            prober.probe(&endpoint, within - wait).await
        });
    }
    let mut silent = false;
    while let Some(probe) = futures_util::StreamExt::next(&mut under_way).await {
        match probe {
            Probe::Connected => return Some(Tried::Connected),
            Probe::Refused => return Some(Tried::Refused),
            Probe::Silent => silent = true,
            Probe::Untried => {}
        }
    }
    silent.then_some(Tried::Silent)
}
