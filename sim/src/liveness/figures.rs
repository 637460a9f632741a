//! How long it takes to see an end, and what it costs when nothing happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use liveness::core::{Attend, Core, Effect, Now, Settings, Told};
use names::{Listing, Speaks, Status};
use pki::{Identity, Role};
use world::{Mono, Wall};

use super::check::{Outcome, Traffic};
use super::net::{MILLI, SECOND};
use super::tcp::PACKET_BYTES;
use super::{Lab, Plan};

/// Processes that end, and machines, each at a moment of its own.
const ENDS: usize = 100;
const MACHINES: usize = 20;

/// A cell of so many sessions, with five instances and somebody at work on each machine.
fn plan(seed: u64, sessions: usize) -> Plan {
    let machines = 5 + (sessions / 10).max(30);
    Plan { seed, instances: 5, machines, processes: sessions, watchers: 10, latency_us: 200 }
}

fn settled(seed: u64, sessions: usize) -> Lab {
    let mut lab = Lab::new(plan(seed, sessions));
    // All of them within ten seconds.
    lab.start(10 * SECOND / sessions as u64);
    lab.run_for(20 * SECOND);
    lab
}

/// Ends of processes and of machines among so many sessions: how long they take to be known to those who want to know.
pub fn ends(seed: u64, sessions: usize) -> Outcome {
    let mut lab = settled(seed, sessions);
    let (instances, watchers, machines) = (lab.plan.instances, lab.plan.watchers, lab.plan.machines);
    for _ in 0..ENDS {
        let number = instances + watchers + lab.storm_dice.index(sessions - watchers);
        lab.kill(number);
        let pause = lab.storm_dice.below(200 * MILLI);
        lab.run_for(pause);
    }
    for _ in 0..MACHINES {
        // Who watches, and the instances, are on the first machines.
        let least = instances + watchers;
        let host = least + lab.storm_dice.index(machines - least);
        lab.crash(host);
        let pause = lab.storm_dice.below(500 * MILLI);
        lab.run_for(pause);
    }
    lab.run_for(5 * SECOND);
    lab.finish(0, Vec::new())
}

/// What passes over the network in a second when nothing happens.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    /// Messages of sessions: questions whether processes are there, answers, pings.
    pub messages: f64,
    /// Packets, probes of kernels and acknowledgements included.
    pub packets: f64,
    /// Bytes of all of them.
    pub bytes: f64,
    /// Looks at connections, which send nothing.
    pub looks: f64,
    /// News that anybody was told.
    pub statements: f64,
}

/// Watches so many sessions for so many seconds, in which nothing happens.
pub fn quiet(seed: u64, sessions: usize, seconds: u64) -> Quiet {
    let mut lab = settled(seed, sessions);
    lab.settle();
    let before = lab.checks.traffic;
    lab.run_for(seconds * SECOND);
    lab.settle();
    let Traffic { messages, bytes, probes, statements, looks } = lab.checks.traffic;
    let rate = |after: u64, before: u64| (after - before) as f64 / seconds as f64;
    Quiet {
        messages: rate(messages, before.messages),
        packets: rate(2 * messages + probes, 2 * before.messages + before.probes),
        bytes: rate(bytes + probes * PACKET_BYTES, before.bytes + before.probes * PACKET_BYTES),
        looks: rate(looks, before.looks),
        statements: rate(statements, before.statements),
    }
}

/// How sessions come back after all instances have ended at once.
#[derive(Clone, Debug)]
pub struct Back {
    /// The most handshakes of one instance in one second.
    pub handshakes_max: u64,
    /// From the moment when instances are there again until every session stands, in milliseconds.
    pub all_ms: u64,
    /// What else came of it.
    pub outcome: Outcome,
}

/// Ends all instances at once and starts them a second later, with so many sessions.
pub fn back(seed: u64, sessions: usize) -> Back {
    let mut lab = settled(seed, sessions);
    lab.checks.forget_handshakes();
    for number in 0..lab.plan.instances {
        lab.kill(number);
    }
    lab.run_for(SECOND);
    for number in 0..lab.plan.instances {
        lab.start_instance(number);
    }
    let mut all_ms = 0;
    while lab.processes.iter().any(|process| !process.stands) && all_ms < 120_000 {
        lab.run_for(10 * MILLI);
        all_ms += 10;
    }
    lab.run_for(60 * SECOND);
    let wrong = lab.unwell();
    let outcome = lab.finish(0, wrong);
    Back { handshakes_max: outcome.handshakes_max, all_ms, outcome }
}

/// One instance's decisions alone, with all sessions at it: for measuring what they cost.
pub struct Alone {
    core: Core,
    now: u64,
}

impl Alone {
    /// So many sessions, of which nobody is silent.
    pub fn new(sessions: usize) -> Alone {
        let mut alone = Alone { core: Core::new("liveness/i0".into(), 1, Settings::default()), now: 0 };
        for number in 0..sessions {
            let listing = Listing {
                who: Identity { cell: "c".into(), role: Role::Agent, name: format!("n{number}") },
                session: 0,
                roles: BTreeSet::from([Role::Agent]),
                endpoints: BTreeMap::from([(Listing::RPC.to_owned(), number.to_string())]),
                zone: String::new(),
                machine: format!("m{number}"),
                release: String::new(),
                speaks: Speaks::NOW,
                load: 0,
                serving: true,
                config: 0,
                status: Status::Alive,
            };
            let attend = Attend { listing, lock: [0; 32], session: 0, turn: 1, change: 1 };
            alone.now += SECOND / sessions as u64;
            let _refused_or_not = alone.core.attend(alone.clocks(), &attend);
        }
        alone
    }

    fn clocks(&self) -> Now {
        Now { mono: Mono::from_nanos(self.now), wall: Wall::from_micros(self.now / 1000) }
    }

    /// Lets a second pass: everybody is looked at, and whoever is asked answers. How many looks that took.
    pub fn second(&mut self) -> u64 {
        let (until, mut looks) = (self.now + SECOND, 0);
        while let Some(next) = self.core.next().map(Mono::as_nanos).filter(|next| *next <= until) {
            self.now = next.max(self.now);
            let now = self.clocks();
            self.core.tick(now);
            for effect in self.core.effects() {
                match effect {
                    Effect::Look(who, turn) => {
                        looks += 1;
                        self.core.heard(now, &who, turn, Some(Duration::from_millis(250)));
                    }
                    Effect::Ask(who, number) => {
                        let told = Told { facts: None, answers: Some(number) };
                        self.core.told(now, &Arc::clone(&who), &[0; 32], told);
                    }
                    Effect::Nudge(_) | Effect::Try(..) | Effect::Close(..) => {}
                }
            }
        }
        self.now = until;
        looks
    }
}
