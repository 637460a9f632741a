//! Tries to reach a process: from an instance, from the others, and from two processes elsewhere.

use liveness::core::{Tried, Who};

use super::net::{Host, MILLI};
use super::tcp::Side;
use super::{Act, Actor, Event, I, Lab, P, Say};

/// Connections that one try makes, how far apart, and how long all of it takes.
const CONNECTIONS: u32 = 3;
const APART: u64 = 120 * MILLI;
const WITHIN: u64 = 420 * MILLI;
const WITHIN_OF_PROCESSES: u64 = 400 * MILLI;
/// Processes that are asked.
const ASKED: usize = 2;
const DRAWS: usize = 8;
/// Tries of one instance at a time.
const AT_ONCE: usize = 256;

/// A try that is under way.
#[derive(Clone)]
pub(super) struct Try {
    aim: P,
    round: u64,
    from: Host,
    /// Who tries.
    by: Actor,
    /// Which instance is told, in which life.
    tell: (I, u64),
    until: u64,
    /// For processes: the question.
    question: u64,
}

impl Lab {
    pub(super) fn try_to_reach(&mut self, number: I, who: &Who, aim: P, round: u64) {
        let tell = (number, self.instances[number].life);
        let (by, from) = (self.this_instance(number), self.processes[number].host);
        self.checks.tries += 1;
        self.queue_try(number, Try { aim, round, from, by, tell, until: 0, question: 0 });
        for other in 0..self.plan.instances {
            let listed = self.processes[other].who.clone();
            let alive = self.instances[number].core.get(&listed).is_some_and(|listing| listing.takes_calls());
            if other != number && alive && self.instances[other].running {
                let life = self.instances[other].life;
                if let Some(at) = self.call(number, other) {
                    self.queue
                        .push(at, Event::Act(Actor::Instance(other, life), Act::Reach(number, tell.1, aim, round)));
                }
            }
        }
        self.ask_processes(number, who, aim, round);
    }

    /// When a call from one instance to another arrives; not at all, where there is no way.
    fn call(&mut self, from: I, to: I) -> Option<u64> {
        let (from, to) = (self.processes[from].host, self.processes[to].host);
        if !self.net.is_open(from, to) {
            return None;
        }
        let (mut at, mut pause) = (self.now, 200 * MILLI);
        while !self.net.passes(from, to) {
            at += pause;
            pause *= 2;
        }
        Some(at + self.net.latency(from, to))
    }

    pub(super) fn reach_for(&mut self, number: I, from: I, life: u64, aim: P, round: u64) {
        let (by, host) = (self.this_instance(number), self.processes[number].host);
        self.queue_try(number, Try { aim, round, from: host, by, tell: (from, life), until: 0, question: 0 });
    }

    fn queue_try(&mut self, number: I, probe: Try) {
        if self.instances[number].tries >= AT_ONCE {
            self.instances[number].tries_wait.push(probe);
            return;
        }
        self.instances[number].tries += 1;
        self.begin_try(Try { until: self.now + WITHIN, ..probe });
    }

    fn begin_try(&mut self, probe: Try) {
        for nth in 0..CONNECTIONS {
            self.queue.push(self.now + APART * u64::from(nth), Event::Probe(Box::new(probe.clone()), nth));
        }
        self.queue.push(probe.until, Event::Probe(Box::new(probe), CONNECTIONS));
    }

    /// One connection, or the end of all.
    pub(super) fn probe(&mut self, probe: Try, nth: u32) {
        let Some(there) = self.processes.get(probe.aim) else { return };
        let (running, to, from) = (there.running, there.host, probe.from);
        if nth == CONNECTIONS {
            self.ends(probe, 0, Tried::Silent);
        } else if self.net.answers(from, to) {
            let round = 2 * self.net.latency(from, to);
            if self.now + round <= probe.until {
                let tried = if running { Tried::Connected } else { Tried::Refused };
                self.ends(probe, round, tried);
            }
        }
    }

    fn ends(&mut self, probe: Try, after: u64, tried: Tried) {
        let at = self.now + after;
        match probe.by {
            Actor::Process(..) => self.queue.push(at, Event::Act(probe.by, Act::Answer(probe.question, tried))),
            Actor::Instance(number, _) => {
                let by = super::shell::observer(number);
                let own = probe.tell.0 == number;
                let told = Act::CameOf(probe.aim, probe.round, by, tried);
                // For another: the result goes back over the mesh.
                let (at, to) = if own {
                    (Some(at), probe.by)
                } else {
                    let back = self.call(number, probe.tell.0).map(|arrives| arrives + after);
                    (back, Actor::Instance(probe.tell.0, probe.tell.1))
                };
                if let Some(at) = at {
                    self.queue.push(at, Event::Act(to, told));
                }
                // The end is always reached: there the place is given back.
                if tried == Tried::Silent {
                    self.try_is_over(number);
                }
            }
        }
    }

    fn try_is_over(&mut self, number: I) {
        self.instances[number].tries = self.instances[number].tries.saturating_sub(1);
        if !self.instances[number].tries_wait.is_empty() {
            let next = self.instances[number].tries_wait.remove(0);
            self.queue_try(number, next);
        }
    }

    pub(super) fn came_of(&mut self, number: I, aim: P, round: u64, by: &str, tried: Tried) {
        let who = self.processes[aim].who.clone();
        self.with(number, |core, now| core.tried(now, &who, round, &by.to_owned(), true, tried));
    }

    fn ask_processes(&mut self, number: I, who: &Who, aim: P, round: u64) {
        let mut asked = 0;
        for _ in 0..DRAWS {
            let drawn = self.dice.index(self.instances[number].core.held());
            let Some(one) = self.instances[number].core.observer(drawn).cloned() else { continue };
            let Some((_, link)) = self.instances[number].streams.get(&one).copied() else { continue };
            let drawn = self.links[link].process.0;
            let one = &self.processes[drawn];
            if asked < ASKED && drawn != number && drawn != aim && one.host != self.processes[aim].host {
                asked += 1;
                let instance = &mut self.instances[number];
                instance.questions += 1;
                let question = instance.questions | 1 << 63;
                instance.asked.insert(question, (who.clone(), round));
                self.say(link, Side::Server, Say::Question(question, Some(aim)));
            }
        }
    }

    /// A process tries on behalf of the instance that it is with.
    pub(super) fn try_for(&mut self, process: P, question: u64, aim: P) {
        let one = &self.processes[process];
        let by = Actor::Process(process, one.life);
        let probe =
            Try { aim, round: 0, from: one.host, by, tell: (0, 0), until: self.now + WITHIN_OF_PROCESSES, question };
        self.begin_try(probe);
    }

    pub(super) fn answered(&mut self, number: I, by: &Who, question: u64, tried: Tried) {
        if let Some((who, round)) = self.instances[number].asked.remove(&question) {
            let name = format!("{}/{}", by.0, by.1);
            self.with(number, |core, now| core.tried(now, &who, round, &name, false, tried));
        }
    }
}
