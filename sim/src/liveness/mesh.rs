//! How instances follow each other: one stream for each direction of each pair.

use liveness::core::Said;
use names::Version;

use super::net::{MILLI, SECOND};
use super::shell::observer;
use super::tcp::{Side, Tcp};
use super::{Act, Actor, Event, I, Lab};

/// How often it is looked at whether the machine of another instance is heard.
pub(super) const WATCH_EVERY: u64 = 500 * MILLI;
/// One that was not heard for so long is taken for gone.
const DEAF_AFTER: u64 = 1500 * MILLI;
const PAUSE_FIRST: u64 = 50 * MILLI;
const PAUSE_MAX: u64 = 2 * SECOND;
/// Before what was not acknowledged is sent again.
const RESEND: u64 = 200 * MILLI;

/// How one instance hears another.
pub(super) struct Follow {
    /// How far it has heard it.
    heard: Version,
    /// In which life of the other the stream stands.
    stands: Option<u64>,
    /// Counts streams: what was sent on an earlier one is not heard.
    stream: u64,
    /// How far the other has told it, and when the last of that arrives.
    told: Version,
    arrives: u64,
    /// It is told something at this moment, or will be.
    telling: bool,
    first: bool,
    pause: u64,
    /// The connection, for its probes.
    tcp: Option<Tcp<()>>,
}

impl Default for Follow {
    fn default() -> Follow {
        Follow {
            heard: Version::default(),
            stands: None,
            stream: 0,
            told: Version::default(),
            arrives: 0,
            telling: false,
            first: true,
            pause: PAUSE_FIRST,
            tcp: None,
        }
    }
}

impl Lab {
    /// `number` calls `other`.
    pub(super) fn follow(&mut self, number: I, other: I) {
        let (here, there) = (self.processes[number].host, self.processes[other].host);
        let took = if self.net.is_open(here, there) { self.net.handshake(here, there) } else { None };
        let stands = took.filter(|_| self.instances[other].running);
        let (life, now) = (self.instances[other].life, self.now);
        let follow = &mut self.instances[number].follows[other];
        follow.stream += 1;
        let Some(took) = stands else {
            let waited = if took.is_some() { 0 } else { 3 * SECOND };
            let at = now + waited + follow.pause / 2 + self.dice.below(follow.pause / 2);
            follow.pause = (follow.pause * 2).min(PAUSE_MAX);
            let actor = self.this_instance(number);
            self.queue.push(at, Event::Act(actor, Act::Follow(other)));
            return;
        };
        follow.stands = Some(life);
        follow.pause = PAUSE_FIRST;
        follow.told = follow.heard;
        follow.arrives = now + took;
        follow.telling = true;
        follow.first = true;
        follow.tcp = Some(Tcp::new(here, there, now));
        self.queue.push(now + took, Event::Mesh(other, number));
    }

    /// Whoever follows `number` is told what is new.
    pub(super) fn tell_others(&mut self, number: I) {
        let life = self.instances[number].life;
        for other in 0..self.plan.instances {
            let follow = &mut self.instances[other].follows[number];
            if follow.stands == Some(life) && !follow.telling {
                follow.telling = true;
                self.queue.push(self.now, Event::Mesh(number, other));
            }
        }
    }

    /// `from` says to `to` what is new, if there is a way.
    pub(super) fn say_to(&mut self, from: I, to: I) {
        if !self.instances[from].running || self.instances[to].follows[from].stands != Some(self.instances[from].life) {
            return;
        }
        let (here, there) = (self.processes[from].host, self.processes[to].host);
        if self.processes[from].paused > self.now {
            self.queue.push(self.processes[from].paused, Event::Mesh(from, to));
            return;
        }
        if !self.net.answers(here, there) {
            self.queue.push(self.now + RESEND, Event::Mesh(from, to));
            return;
        }
        let (told, first) = (self.instances[to].follows[from].told, self.instances[to].follows[from].first);
        let said = self.instances[from].core.say(told);
        let arrives = (self.now + self.net.latency(here, there)).max(self.instances[to].follows[from].arrives);
        let actor = self.this_instance(to);
        let follow = &mut self.instances[to].follows[from];
        follow.telling = false;
        follow.told = said.version;
        if !first && !said.whole && said.statements.is_empty() {
            return;
        }
        follow.first = false;
        follow.arrives = arrives;
        self.checks.traffic.statements += said.statements.len() as u64;
        let act = Act::Hear(from, follow.stream, Box::new(said));
        self.queue.push(arrives, Event::Act(actor, act));
    }

    pub(super) fn hear(&mut self, number: I, from: I, stream: u64, said: Said) {
        let follow = &mut self.instances[number].follows[from];
        if follow.stream != stream {
            return;
        }
        follow.heard = said.version;
        self.with(number, |core, now| core.hear(now, &observer(from), said));
    }

    /// When `to` last heard the machine of `from`.
    pub(super) fn mesh_heard(&mut self, to: I, from: I) -> u64 {
        match &mut self.instances[to].follows[from].tcp {
            Some(tcp) => tcp.heard(Side::Client, &mut self.net, self.now).0,
            None => self.now,
        }
    }

    pub(super) fn watch_deaf(&mut self, number: I, other: I) {
        let actor = self.this_instance(number);
        self.queue.push(self.now + WATCH_EVERY, Event::Act(actor, Act::WatchDeaf(other)));
        let silent = self.now - self.mesh_heard(number, other);
        if self.instances[number].follows[other].stands.is_some() && silent > DEAF_AFTER {
            self.deaf(number, other);
        }
    }

    /// The stream over which `number` heard `other` is over.
    pub(super) fn deaf(&mut self, number: I, other: I) {
        let follow = &mut self.instances[number].follows[other];
        if follow.stands.take().is_none() {
            return;
        }
        follow.tcp = None;
        follow.stream += 1;
        let at = self.now + follow.pause / 2 + self.dice.below(follow.pause / 2);
        follow.pause = (follow.pause * 2).min(PAUSE_MAX);
        let actor = self.this_instance(number);
        self.queue.push(at, Event::Act(actor, Act::Follow(other)));
        self.with(number, |core, now| core.deaf_to(now, &observer(other)));
    }

    /// The process of `other` has ended: its kernel says so to `number`, if there is a way.
    pub(super) fn mesh_ends(&mut self, number: I, other: I) {
        let (here, there) = (self.processes[number].host, self.processes[other].host);
        if number != other && self.instances[number].running && self.net.is_open(here, there) {
            let at = self.now + self.net.latency(there, here);
            let life = self.instances[number].life;
            self.queue.push(at, Event::Act(Actor::Instance(number, life), Act::Deaf(other)));
        }
    }
}
