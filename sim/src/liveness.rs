//! The decisions of liveness alone, on simulated machines: many processes, a handful of instances, bad days.
//!
//! What runs of the product is [`liveness::core::Core`] and [`names::Directory`]. Around them stands a model of what
//! their shells do ([`client`], [`shell`], [`tries`], [`mesh`]) and of what machines and networks do ([`net`], [`tcp`]), as a
//! plain queue of events: no tasks, no messages on a wire. It is cheap enough for a hundred thousand sessions, and for
//! half an hour of storm in seconds. The same seed gives the same run.
//!
//! - [`storm`]: what goes wrong, and when.
//! - [`check`]: what must be true at every event, and when it is over.
//! - [`figures`]: how long it takes to see an end, and what it costs when nothing happens.
//!
//! Deliberately absent: real sockets and real schedulers. Whole processes prove the shell.

mod check;
mod client;
pub mod figures;
mod mesh;
mod net;
mod queue;
mod shell;
pub mod storm;
mod tcp;
#[cfg(test)]
mod tests;
mod tries;

use std::collections::BTreeSet;

use ::liveness::core::{Attend, News, Said, Tried};
use names::{Listing, Version};
use pki::Role;
use world::{Mono, Wall};

use crate::rng::Rng;
use check::Checks;
use client::Process;
use net::{Host, MILLI, Net, SECOND};
use queue::Queue;
use shell::Instance;
use tcp::{Side, Tcp};

pub use check::{Outcome, Spread};

/// A process, by number: instances are processes too, and come first.
type P = usize;
/// An instance, by number.
type I = usize;
/// A connection, by number.
type C = usize;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything that is drawn comes from it.
    pub seed: u64,
    /// Liveness instances, each on a machine of its own.
    pub instances: usize,
    /// Machines; the first are those of the instances, and processes are spread over all.
    pub machines: usize,
    /// Processes beside the instances.
    pub processes: usize,
    /// Those of them that want to hear of everybody.
    pub watchers: usize,
    /// What a packet takes from machine to machine, in microseconds: from half to one and a half times as much.
    pub latency_us: u64,
}

/// What is said over a session's connection.
enum Say {
    Attend(Box<Attend>, Option<Version>),
    Head,
    Welcome(u64, u64),
    News(Box<News>),
    Question(u64, Option<P>),
    Nudge,
    Ended(bool),
    Refused,
    Tell(Option<Box<(Listing, u64)>>, Option<(u64, Tried)>),
    Leave,
    Ping,
    Pong,
    /// The other end was closed.
    End,
}

impl Say {
    /// Bytes on the wire without the packet's own: an estimate from frames of HTTP/2 and records of TLS.
    fn bytes(&self) -> u64 {
        match self {
            Say::Attend(..) => 600,
            Say::Head => 60,
            Say::Welcome(..) | Say::Ended(_) | Say::Refused => 70,
            Say::News(news) => 60 + 150 * news.changes.len() as u64,
            Say::Question(..) | Say::Nudge => 45,
            // The call, and the answer to it.
            Say::Tell(facts, _) => 230 + if facts.is_some() { 150 } else { 0 },
            Say::Leave => 200,
            Say::Ping | Say::Pong => 39,
            Say::End => 24,
        }
    }
}

/// Who acts: an instance in this life of it, or a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Process(P, u64),
    Instance(I, u64),
}

/// What an actor does when it is not paused.
enum Act {
    /// Something came over a connection.
    Said(C, Side, Say),
    /// A process looks for an instance, after a pause.
    Attend(u64),
    /// A connection to an instance stands; or was refused, or came to nothing.
    Connected(u64, I),
    Failed(u64),
    /// The head of an answer has not come.
    HeadLate(u64),
    /// HTTP/2 pings.
    Ping(C, Side),
    PingLate(C, Side, u64),
    /// The process has tried something on behalf of an instance.
    Answer(u64, Tried),
    /// The clock of an instance, set for this moment.
    Tick(u64),
    /// A try has come to something.
    CameOf(P, u64, String, Tried),
    /// Another instance asks to reach a process.
    Reach(I, u64, P, u64),
    /// The mesh: another instance said something, or is not heard, or is called again.
    Hear(I, u64, Box<Said>),
    Deaf(I),
    Follow(I),
    WatchDeaf(I),
}

/// What happens.
enum Event {
    /// A packet arrives.
    Arrive(C, Side, u64),
    /// It is sent again.
    Again(C, Side, u64),
    /// A machine without memory of the connection has answered.
    Reset(C, Side),
    Act(Actor, Act),
    /// An attempt to connect to an instance.
    Syn(P, u64, I, u32),
    /// One connection of a try; the last of them ends it.
    Probe(Box<tries::Try>, u32),
    /// Callers look whether their instances' machines are heard.
    Callers,
    /// The next thing that the storm does.
    Storm(storm::Step),
    /// A reader that asks seldom.
    Reader(I),
    /// An attempt that was given up arrives after all.
    Late(I, Box<Attend>),
    LateEnd(I, u64, Box<Attend>),
    /// What somebody was told lies with the kernel until it is read.
    Mesh(I, I),
}

/// A connection between a process and an instance.
struct Link {
    tcp: Tcp<Say>,
    process: (P, u64),
    instance: (I, u64),
    /// Within one process nothing is sent over a network.
    local: bool,
    /// When each end last read something, and pings that are not answered.
    read: [u64; 2],
    pinged: [Option<u64>; 2],
}

/// A run.
pub struct Lab {
    plan: Plan,
    now: u64,
    queue: Queue<Event>,
    net: Net,
    dice: Rng,
    client_dice: Rng,
    storm_dice: Rng,
    processes: Vec<Process>,
    instances: Vec<Instance>,
    links: Vec<Link>,
    /// Links that are open at one end at least.
    open: BTreeSet<C>,
    checks: Checks,
    /// What people's clocks are off by, per instance, in microseconds.
    skew: Vec<i64>,
    storm: Option<storm::Storm>,
    rolling: usize,
}

/// People's clocks at the start, in microseconds.
const WALL_START: i64 = 1_800_000_000_000_000;
/// How often callers are looked at.
const CALLERS_EVERY: u64 = 500 * MILLI;

impl Lab {
    /// Machines, instances and processes, none of which runs yet.
    pub fn new(plan: Plan) -> Lab {
        let mut lab = Lab {
            plan,
            now: 0,
            queue: Queue::new(),
            net: Net::new(plan.seed, plan.machines, plan.latency_us * 1000),
            dice: Rng::new(plan.seed, "liveness dice"),
            client_dice: Rng::new(plan.seed, "liveness clients"),
            storm_dice: Rng::new(plan.seed, "liveness storm"),
            processes: Vec::new(),
            instances: Vec::new(),
            links: Vec::new(),
            open: BTreeSet::new(),
            checks: Checks::new(),
            skew: vec![0; plan.instances],
            storm: None,
            rolling: 0,
        };
        for number in 0..plan.instances {
            lab.instances.push(Instance::new(number, plan.instances));
            lab.processes.push(Process::new(number, Role::Liveness, format!("i{number}"), number));
        }
        for number in 0..plan.processes {
            let (place, name) = (plan.instances + number, format!("n{number}"));
            let role = if number < plan.watchers { Role::Api } else { Role::Agent };
            lab.processes.push(Process::new(place, role, name, number % plan.machines));
        }
        lab
    }

    /// Starts everybody: instances first, then processes, `apart` nanoseconds from one to the next.
    pub fn start(&mut self, apart: u64) {
        for number in 0..self.plan.instances {
            self.start_instance(number);
            self.queue.push(self.now + SECOND, Event::Reader(number));
        }
        self.run_for(SECOND);
        for number in self.plan.instances..self.processes.len() {
            self.start_process(number);
            if apart > 0 {
                self.run_for(apart);
            }
        }
        self.queue.push(self.now + CALLERS_EVERY, Event::Callers);
    }

    /// Lets `nanos` pass.
    pub fn run_for(&mut self, nanos: u64) {
        let until = self.now + nanos;
        while let Some((at, event)) = self.queue.pop(until) {
            self.now = at;
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(link, side, upto) => self.arrive(link, side, upto),
            Event::Again(link, side, timer) => {
                if self.links[link].tcp.again(side, timer) {
                    self.transmit(link, side);
                }
            }
            Event::Reset(link, side) => self.is_closed(link, side),
            Event::Act(actor, act) => self.act(actor, act),
            Event::Syn(process, attempt, instance, nth) => self.syn(process, attempt, instance, nth),
            Event::Probe(probe, nth) => self.probe(*probe, nth),
            Event::Callers => self.callers(),
            Event::Storm(step) => self.storm(step),
            Event::Reader(instance) => self.reader(instance),
            Event::Late(instance, attend) => self.late(instance, *attend),
            Event::LateEnd(instance, life, attend) => self.late_end(instance, life, &attend),
            Event::Mesh(from, to) => self.say_to(from, to),
        }
    }

    /// `actor` does this now, or as soon as it runs again.
    fn act(&mut self, actor: Actor, act: Act) {
        let (lives, paused) = match actor {
            Actor::Process(process, life) => {
                let process = &self.processes[process];
                (process.running && process.life == life, process.paused)
            }
            Actor::Instance(instance, life) => {
                let instance = &self.instances[instance];
                (instance.running && instance.life == life, self.processes[instance.number].paused)
            }
        };
        if !lives {
            return;
        }
        if paused > self.now {
            self.queue.push(paused, Event::Act(actor, act));
            return;
        }
        match actor {
            Actor::Process(process, _) => self.process_acts(process, act),
            Actor::Instance(instance, _) => self.instance_acts(instance, act),
        }
    }

    fn actor(&self, link: C, side: Side) -> Actor {
        let link = &self.links[link];
        match side {
            Side::Client => Actor::Process(link.process.0, link.process.1),
            Side::Server => Actor::Instance(link.instance.0, link.instance.1),
        }
    }

    /// Both clocks, as `instance` reads them.
    fn clocks(&self, instance: I) -> ::liveness::core::Now {
        let wall = WALL_START + i64::try_from(self.now / 1000).unwrap_or(0) + self.skew[instance];
        ::liveness::core::Now {
            mono: Mono::from_nanos(self.now),
            wall: Wall::from_micros(u64::try_from(wall).unwrap_or(0)),
        }
    }

    // Connections.

    fn connect(&mut self, process: P, instance: I) -> C {
        let (client, server) = (self.processes[process].host, self.processes[instance].host);
        let local = process == instance;
        self.links.push(Link {
            tcp: Tcp::new(client, server, self.now),
            process: (process, self.processes[process].life),
            instance: (instance, self.instances[instance].life),
            local,
            read: [self.now; 2],
            pinged: [None; 2],
        });
        let link = self.links.len() - 1;
        self.open.insert(link);
        if !local {
            for (side, every) in [(Side::Client, client::PING_EVERY), (Side::Server, shell::PING_EVERY)] {
                self.queue.push(self.now + every, Event::Act(self.actor(link, side), Act::Ping(link, side)));
            }
        }
        link
    }

    /// Says something from `side`.
    fn say(&mut self, link: C, side: Side, say: Say) {
        if self.links[link].local {
            let act = Act::Said(link, side.other(), say);
            self.queue.push(self.now, Event::Act(self.actor(link, side.other()), act));
            return;
        }
        self.checks.traffic.sent(say.bytes());
        self.links[link].tcp.push(side, say);
        self.transmit(link, side);
    }

    fn transmit(&mut self, link: C, side: Side) {
        let sent = self.links[link].tcp.send(side, &mut self.net, self.now);
        if let Some((at, upto)) = sent.arrives {
            self.queue.push(at, Event::Arrive(link, side.other(), upto));
        }
        if let Some((at, timer)) = sent.again {
            self.queue.push(at, Event::Again(link, side, timer));
        }
    }

    fn arrive(&mut self, link: C, side: Side, upto: u64) {
        let (tcp, now) = (&mut self.links[link].tcp, self.now);
        let (there, here) = (tcp.end(side.other()).host, tcp.end(side).host);
        if !self.net.is_up(here) {
            return;
        }
        let said = tcp.arrive(side, upto, now);
        if !tcp.end(side).open {
            // Nobody has this connection any more.
            if tcp.end(side.other()).open && self.net.passes(here, there) {
                let at = now + self.net.latency(here, there);
                self.queue.push(at, Event::Reset(link, side.other()));
            }
            return;
        }
        for say in said {
            self.act(self.actor(link, side), Act::Said(link, side, say));
        }
    }

    /// `side` closes its end: what it has said still arrives.
    fn close(&mut self, link: C, side: Side) {
        if self.links[link].tcp.end(side).open {
            self.links[link].tcp.close(side);
            self.say(link, side, Say::End);
        }
        self.forget_if_closed(link);
    }

    /// The connection was ended from elsewhere, or by the machine: who has it is told.
    fn is_closed(&mut self, link: C, side: Side) {
        if self.links[link].tcp.end(side).open {
            let actor = self.actor(link, side);
            self.act(actor, Act::Said(link, side, Say::End));
        }
    }

    fn forget_if_closed(&mut self, link: C) {
        let tcp = &self.links[link].tcp;
        if !tcp.end(Side::Client).open && !tcp.end(Side::Server).open {
            self.open.remove(&link);
        }
    }

    /// When `side` last heard the machine of the other.
    fn heard(&mut self, link: C, side: Side) -> u64 {
        let (heard, packets) = self.links[link].tcp.heard(side, &mut self.net, self.now);
        self.checks.traffic.probes += packets;
        heard
    }

    /// What probes have found so far is worked out, before something about the network changes.
    fn settle(&mut self) {
        for link in self.open.clone() {
            self.heard(link, Side::Client);
            self.heard(link, Side::Server);
        }
        for to in 0..self.plan.instances {
            for from in 0..self.plan.instances {
                self.mesh_heard(to, from);
            }
        }
    }

    /// HTTP/2's own question whether the other program is there, which a connection does not survive unanswered.
    fn ping(&mut self, link: C, side: Side) {
        let (every, within) = match side {
            Side::Client => (client::PING_EVERY, client::PING_WITHIN),
            Side::Server => (shell::PING_EVERY, shell::PING_WITHIN),
        };
        if !self.links[link].tcp.end(side).open {
            return;
        }
        let (index, actor) = (side as usize, self.actor(link, side));
        let due = self.links[link].read[index] + every;
        if due > self.now {
            self.queue.push(due, Event::Act(actor, Act::Ping(link, side)));
            return;
        }
        self.links[link].pinged[index] = Some(self.now);
        self.say(link, side, Say::Ping);
        let late = Act::PingLate(link, side, self.now);
        self.queue.push(self.now + within, Event::Act(actor, late));
        self.queue.push(self.now + every, Event::Act(actor, Act::Ping(link, side)));
    }

    fn ping_late(&mut self, link: C, side: Side, since: u64) {
        if self.links[link].pinged[side as usize] == Some(since) {
            self.close(link, side);
            let actor = self.actor(link, side);
            self.act(actor, Act::Said(link, side, Say::End));
        }
    }

    /// Something was read from `link`: whether there is more to it than that.
    fn was_read(&mut self, link: C, side: Side, say: &Say) -> bool {
        self.links[link].read[side as usize] = self.now;
        self.links[link].pinged[side as usize] = None;
        match say {
            Say::Ping => {
                self.say(link, side, Say::Pong);
                false
            }
            Say::Pong => false,
            Say::Attend(..)
            | Say::Head
            | Say::Welcome(..)
            | Say::News(_)
            | Say::Question(..)
            | Say::Nudge
            | Say::Ended(_)
            | Say::Refused
            | Say::Tell(..)
            | Say::Leave
            | Say::End => true,
        }
    }

    /// Ends the connections of a process whose machine lives: its kernel says so.
    fn kernel_closes(&mut self, which: impl Fn(&Link) -> bool, side: Side) {
        let links: Vec<C> = self.open.iter().copied().filter(|link| which(&self.links[*link])).collect();
        for link in links {
            self.close(link, side);
        }
    }

    /// The machine `host` is gone, with everything on it.
    fn lose_host(&mut self, host: Host) {
        for link in self.open.clone() {
            for side in [Side::Client, Side::Server] {
                if self.links[link].tcp.end(side).host == host {
                    self.links[link].tcp.lose(side);
                }
            }
            self.forget_if_closed(link);
        }
    }
}
