//! The shell around an instance's decisions: streams, effects, and the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liveness::core::{Attend, Core, Effect, Now, Refusal, Settings, Told, Wanted, Who};
use names::Version;
use world::Mono;

use super::mesh::Follow;
use super::net::SECOND;
use super::tcp::Side;
use super::tries::Try;
use super::{Act, Actor, C, Event, I, Lab, Say};

/// HTTP/2 asks an accepted connection so often whether the other program is there, and waits so long.
pub(super) const PING_EVERY: u64 = 10 * SECOND;
pub(super) const PING_WITHIN: u64 = 5 * SECOND;
/// Sessions that are resumed in a second after their instance has gone.
const RESUMED_PER_SECOND: u64 = 1000;

/// An instance.
pub(super) struct Instance {
    pub(super) number: I,
    pub(super) life: u64,
    pub(super) running: bool,
    pub(super) core: Core,
    /// The stream that each session stands on.
    pub(super) streams: BTreeMap<Who, (u64, C)>,
    served: BTreeMap<C, Served>,
    /// Those who want to hear of everybody.
    watchers: BTreeSet<C>,
    /// Those who wait for a name.
    waiting: BTreeMap<Who, BTreeSet<C>>,
    tick_at: Option<u64>,
    pub(super) asked: BTreeMap<u64, (Who, u64)>,
    pub(super) questions: u64,
    pub(super) tries: usize,
    pub(super) tries_wait: Vec<Try>,
    pub(super) follows: Vec<Follow>,
}

struct Served {
    who: Who,
    attend: Attend,
    watches: bool,
    admitted: bool,
    seen: Version,
}

impl Instance {
    pub(super) fn new(number: I, instances: usize) -> Instance {
        Instance {
            number,
            life: 0,
            running: false,
            core: Core::new(String::new(), 0, Settings::default()),
            streams: BTreeMap::new(),
            served: BTreeMap::new(),
            watchers: BTreeSet::new(),
            waiting: BTreeMap::new(),
            tick_at: None,
            asked: BTreeMap::new(),
            questions: 0,
            tries: 0,
            tries_wait: Vec::new(),
            follows: (0..instances).map(|_| Follow::default()).collect(),
        }
    }
}

/// The name under which an instance is spoken of.
pub(super) fn observer(instance: I) -> String {
    format!("liveness/i{instance}")
}

impl Lab {
    pub(super) fn start_instance(&mut self, number: I) {
        let life = self.instances[number].life + 1;
        let own = Instance::new(number, self.plan.instances);
        self.instances[number] = own;
        let version = self.dice.draw() | 1;
        let instance = &mut self.instances[number];
        instance.life = life;
        instance.running = true;
        instance.core = Core::new(observer(number), version, Settings::default());
        self.checks.instance_begins(number);
        for other in (0..self.plan.instances).filter(|other| *other != number) {
            let actor = Actor::Instance(number, life);
            self.queue.push(self.now, Event::Act(actor, Act::Follow(other)));
            self.queue.push(self.now + super::mesh::WATCH_EVERY, Event::Act(actor, Act::WatchDeaf(other)));
        }
        self.start_process(number);
    }

    /// The process of an instance ends; its kernel says so.
    pub(super) fn kill_instance(&mut self, number: I) {
        let life = self.instances[number].life;
        self.instances[number].running = false;
        self.end_process(number, None);
        self.kernel_closes(|link| link.instance == (number, life), Side::Server);
        for other in 0..self.plan.instances {
            self.mesh_ends(other, number);
        }
    }

    pub(super) fn this_instance(&self, number: I) -> Actor {
        Actor::Instance(number, self.instances[number].life)
    }

    /// Lets the core of `number` do something, and does what comes of it.
    pub(super) fn with<T>(&mut self, number: I, act: impl FnOnce(&mut Core, Now) -> T) -> T {
        let (result, mut effects) = self.inside(number, act);
        while !effects.is_empty() {
            let mut looks = Vec::new();
            for effect in effects {
                self.perform(number, effect, &mut looks);
            }
            let heard = |core: &mut Core, now: Now| {
                for (who, turn, ago) in looks {
                    core.heard(now, &who, turn, ago);
                }
            };
            ((), effects) = self.inside(number, heard);
        }
        result
    }

    fn inside<T>(&mut self, number: I, act: impl FnOnce(&mut Core, Now) -> T) -> (T, Vec<Effect>) {
        let now = self.clocks(number);
        let instance = &mut self.instances[number];
        let before = instance.core.version().number;
        let result = act(&mut instance.core, now);
        let effects = instance.core.effects();
        let changed = instance.core.version().number != before;
        self.set_clock(number);
        if changed {
            self.changed(number, before);
        }
        (result, effects)
    }

    fn set_clock(&mut self, number: I) {
        let (now, actor) = (self.now, self.this_instance(number));
        let instance = &mut self.instances[number];
        let Some(next) = instance.core.next().map(Mono::as_nanos) else { return };
        let at = next.max(now);
        if instance.tick_at.is_none_or(|there| at < there) {
            instance.tick_at = Some(at);
            self.queue.push(at, Event::Act(actor, Act::Tick(at)));
        }
    }

    /// Whoever waits for something that has changed hears of it.
    fn changed(&mut self, number: I, before: u64) {
        let instance = &self.instances[number];
        let changed = instance.core.changed_after(before).unwrap_or_default();
        let mut free = Vec::new();
        for (who, listing) in changed {
            if let Some(listing) = listing {
                self.checks.saw(number, &self.processes, &self.instances, &self.net, self.now, listing);
            } else {
                self.checks.forgotten(number, &who);
            }
            free.extend(instance.waiting.get(&who).into_iter().flatten().copied());
        }
        for link in instance.watchers.iter().copied().collect::<Vec<_>>() {
            self.tell_news(number, link);
        }
        for link in free {
            self.admit(number, link);
        }
        self.tell_others(number);
    }

    fn tell_news(&mut self, number: I, link: C) {
        let instance = &mut self.instances[number];
        let Some(served) = instance.served.get_mut(&link).filter(|served| served.watches) else { return };
        let news = instance.core.news(served.seen, &Wanted::All);
        if news.whole || !news.changes.is_empty() {
            served.seen = news.version;
            self.say(link, Side::Server, Say::News(Box::new(news)));
        }
    }

    fn perform(&mut self, number: I, effect: Effect, looks: &mut Vec<(Who, u64, Option<Duration>)>) {
        let stream = |lab: &Lab, who: &Who| lab.instances[number].streams.get(who).copied();
        match effect {
            Effect::Look(who, turn) => {
                let link = stream(self, &who).map(|(_, link)| link);
                let link = link.filter(|link| !self.links[*link].local);
                let ago = link.map(|link| Duration::from_nanos(self.now - self.heard(link, Side::Server)));
                self.checks.traffic.looks += 1;
                looks.push((who, turn, ago));
            }
            Effect::Nudge(who) => {
                if let Some((_, link)) = stream(self, &who) {
                    self.say(link, Side::Server, Say::Nudge);
                }
            }
            Effect::Ask(who, question) => {
                if let Some((_, link)) = stream(self, &who) {
                    self.say(link, Side::Server, Say::Question(question, None));
                }
            }
            Effect::Try(who, endpoint, round) => {
                if let Ok(aim) = endpoint.parse() {
                    self.try_to_reach(number, &who, aim, round);
                }
            }
            Effect::Close(who, turn) => {
                if let Some((_, link)) = stream(self, &who).filter(|(of, _)| *of == turn) {
                    self.say(link, Side::Server, Say::Ended(false));
                    self.stream_ends(number, link);
                }
            }
        }
    }

    pub(super) fn instance_acts(&mut self, number: I, act: Act) {
        match act {
            Act::Said(link, side, say) => self.asked_by(number, link, side, say),
            Act::Tick(set) if self.instances[number].tick_at != Some(set) => {}
            Act::Tick(_) => {
                self.instances[number].tick_at = None;
                self.with(number, |core, now| core.tick(now));
                self.set_clock(number);
            }
            Act::CameOf(aim, round, by, tried) => self.came_of(number, aim, round, &by, tried),
            Act::Reach(from, life, aim, round) => self.reach_for(number, from, life, aim, round),
            Act::Hear(from, life, said) => self.hear(number, from, life, *said),
            Act::Deaf(other) => self.deaf(number, other),
            Act::Follow(other) => self.follow(number, other),
            Act::WatchDeaf(other) => self.watch_deaf(number, other),
            Act::Ping(link, side) => self.ping(link, side),
            Act::PingLate(link, side, since) => self.ping_late(link, side, since),
            Act::Attend(_) | Act::Connected(..) | Act::Failed(_) | Act::HeadLate(_) | Act::Answer(..) => {}
        }
    }

    fn asked_by(&mut self, number: I, link: C, side: Side, say: Say) {
        if !self.was_read(link, side, &say) {
            return;
        }
        match say {
            Say::Attend(attend, watches) => self.serve(number, link, *attend, watches),
            Say::Tell(facts, answer) => {
                let Some(served) = self.instances[number].served.get(&link) else { return };
                let (who, lock) = (served.who.clone(), served.attend.lock);
                let mut answers = None;
                if let Some((question, tried)) = answer {
                    if question >> 63 == 1 {
                        self.answered(number, &who, question, tried);
                    } else {
                        answers = Some(question);
                    }
                }
                self.with(number, |core, now| {
                    core.told(now, &who, &lock, Told { facts: facts.map(|facts| *facts), answers })
                });
            }
            Say::Leave => {
                let Some(served) = self.instances[number].served.get(&link) else { return };
                let (who, lock) = (served.who.clone(), served.attend.lock);
                self.with(number, |core, now| core.leave(now, &who, &lock));
            }
            Say::End => self.stream_ends(number, link),
            Say::Head
            | Say::Welcome(..)
            | Say::News(_)
            | Say::Question(..)
            | Say::Nudge
            | Say::Ended(_)
            | Say::Refused
            | Say::Ping
            | Say::Pong => {}
        }
    }

    fn serve(&mut self, number: I, link: C, attend: Attend, watches: Option<Version>) {
        let who: Who = Who::new((attend.listing.who.role, attend.listing.who.name.clone()));
        let (watches, seen) = (watches.is_some(), watches.unwrap_or_default());
        let served = Served { who, attend, watches, admitted: false, seen };
        self.instances[number].served.insert(link, served);
        if watches {
            self.instances[number].watchers.insert(link);
        }
        self.admit(number, link);
        self.tell_news(number, link);
    }

    fn admit(&mut self, number: I, link: C) {
        let Some(served) = self.instances[number].served.get(&link).filter(|served| !served.admitted) else { return };
        let (attend, who) = (served.attend.clone(), served.who.clone());
        let admitted = self.with(number, |core, now| core.attend(now, &attend));
        let instance = &mut self.instances[number];
        match admitted {
            Ok(admitted) => {
                if let Some(served) = instance.served.get_mut(&link) {
                    served.admitted = true;
                }
                if let Some(waiting) = instance.waiting.get_mut(&who) {
                    waiting.remove(&link);
                }
                instance.streams.insert(who, (attend.turn, link));
                let spread = instance.core.held() as u64 * SECOND / RESUMED_PER_SECOND;
                self.checks.admitted(&attend.listing, admitted.session, &self.processes);
                self.say(link, Side::Server, Say::Welcome(admitted.session, spread));
            }
            Err(Refusal::InUse { .. }) => {
                if instance.waiting.entry(who).or_default().insert(link) {
                    self.say(link, Side::Server, Say::Head);
                }
            }
            Err(Refusal::Over(_)) => {
                self.say(link, Side::Server, Say::Ended(true));
                self.stream_ends(number, link);
            }
            Err(Refusal::Overtaken | Refusal::NotItsRole { .. }) => {
                self.say(link, Side::Server, Say::Refused);
                self.stream_ends(number, link);
            }
        }
    }

    /// A stream ends, whoever ended it.
    fn stream_ends(&mut self, number: I, link: C) {
        let instance = &mut self.instances[number];
        if let Some(served) = instance.served.remove(&link) {
            instance.watchers.remove(&link);
            if let Some(waiting) = instance.waiting.get_mut(&served.who) {
                waiting.remove(&link);
            }
            if instance.streams.get(&served.who).is_some_and(|(_, of)| *of == link) {
                instance.streams.remove(&served.who);
            }
            if served.admitted {
                let turn = served.attend.turn;
                self.with(number, |core, now| core.broken(now, &served.who, turn));
            }
        }
        self.close(link, Side::Server);
    }

    /// An attempt that was given up arrives after all, and its stream ends a moment later.
    pub(super) fn late(&mut self, number: I, attend: Attend) {
        if !self.instances[number].running {
            return;
        }
        let who: Who = Who::new((attend.listing.who.role, attend.listing.who.name.clone()));
        let admitted = self.with(number, |core, now| core.attend(now, &attend));
        if admitted.is_ok() {
            self.checks.late_admitted += 1;
            self.instances[number].streams.remove(&who);
            let life = self.instances[number].life;
            self.queue.push(self.now + SECOND / 100, Event::LateEnd(number, life, Box::new(attend)));
        }
    }

    pub(super) fn late_end(&mut self, number: I, life: u64, attend: &Attend) {
        if self.instances[number].running && self.instances[number].life == life {
            let who: Who = Who::new((attend.listing.who.role, attend.listing.who.name.clone()));
            self.with(number, |core, now| core.broken(now, &who, attend.turn));
        }
    }
}
