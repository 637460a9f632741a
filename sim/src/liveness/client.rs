//! What a process does about its session, as the product's own half of it does: attends, resumes elsewhere, answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use liveness::core::{Attend, Lock, Who};
use names::{Directory, Listing, Speaks, Status};
use pki::{Identity, Role};

use super::check::Ending;
use super::net::{Host, MILLI, SECOND};
use super::tcp::Side;
use super::{Act, Actor, C, Event, I, Lab, P, Say};

/// HTTP/2 asks a caller's connection so often whether the other program is there, and waits so long.
pub(super) const PING_EVERY: u64 = 5 * SECOND;
pub(super) const PING_WITHIN: u64 = 3 * SECOND;
/// A caller's connection ends when the other machine was not heard for so long.
const SILENCE_MAX: u64 = 5 * SECOND;
/// For connection and head of the answer together.
const HEAD_WITHIN: u64 = 3 * SECOND;
const PAUSE_FIRST: u64 = 50 * MILLI;
const PAUSE_MAX: u64 = 2 * SECOND;
const SPREAD_LEAST: u64 = 20 * MILLI;

/// A process.
pub(super) struct Process {
    pub(super) number: P,
    pub(super) who: Who,
    pub(super) host: Host,
    pub(super) life: u64,
    /// When this life began.
    pub(super) began: u64,
    pub(super) running: bool,
    /// Until then it does nothing.
    pub(super) paused: u64,
    /// It said that it leaves.
    pub(super) leaving: bool,
    pub(super) lock: Lock,
    session: u64,
    turn: u64,
    change: u64,
    /// The connection of the present attempt, and whether the session stands.
    pub(super) link: Option<C>,
    pub(super) stands: bool,
    /// The instance that it is with, or tries.
    pub(super) with: I,
    attempt: u64,
    targets: Vec<I>,
    stood: bool,
    last: Option<I>,
    pause: u64,
    spread: u64,
    /// The attempt before the present one, for those that arrive late.
    pub(super) given_up: Option<Attend>,
    pub(super) directory: Option<Arc<Directory>>,
}

impl Process {
    pub(super) fn new(number: P, role: Role, name: String, host: Host) -> Process {
        Process {
            number,
            who: Arc::new((role, name)),
            host,
            life: 0,
            began: 0,
            running: false,
            paused: 0,
            leaving: false,
            lock: [0; 32],
            session: 0,
            turn: 0,
            change: 0,
            link: None,
            stands: false,
            with: 0,
            attempt: 0,
            targets: Vec::new(),
            stood: false,
            last: None,
            pause: PAUSE_FIRST,
            spread: SPREAD_LEAST,
            given_up: None,
            directory: (role == Role::Api).then(Directory::new),
        }
    }

    /// What it says of itself. Its release names this very life, which the product could not know.
    pub(super) fn listing(&self) -> Listing {
        Listing {
            who: Identity { cell: "c".into(), role: self.who.0, name: self.who.1.clone() },
            session: 0,
            roles: BTreeSet::from([self.who.0]),
            endpoints: BTreeMap::from([(Listing::RPC.to_owned(), self.number.to_string())]),
            zone: String::new(),
            machine: format!("m{}", self.host),
            release: format!("{}.{}", self.number, self.life),
            speaks: Speaks::NOW,
            load: u32::try_from(self.change).unwrap_or(0),
            serving: true,
            config: 0,
            status: Status::Alive,
        }
    }

    fn attend(&self) -> Attend {
        Attend {
            listing: self.listing(),
            lock: self.lock,
            session: self.session,
            turn: self.turn,
            change: self.turn << 32,
        }
    }
}

impl Lab {
    pub(super) fn start_process(&mut self, number: P) {
        let mut lock = [0; 32];
        self.client_dice.fill(&mut lock);
        let process = &mut self.processes[number];
        process.life += 1;
        process.began = self.now;
        process.running = true;
        process.leaving = false;
        process.lock = lock;
        (process.session, process.turn, process.change) = (0, 0, 0);
        process.given_up = None;
        (process.last, process.pause, process.spread) = (None, PAUSE_FIRST, SPREAD_LEAST);
        process.directory = process.directory.take().map(|_| Directory::new());
        self.look_for_instance(number);
    }

    /// The process ends; its kernel says so to whoever has a connection with it.
    pub(super) fn kill_process(&mut self, number: P) {
        self.end_process(number, None);
        if let Some(link) = self.processes[number].link.take() {
            self.close(link, Side::Client);
        }
    }

    /// The process ends: with its machine, or by itself.
    pub(super) fn end_process(&mut self, number: P, how: Option<Ending>) {
        let process = &mut self.processes[number];
        process.running = false;
        process.stands = false;
        process.attempt += 1;
        process.paused = 0;
        let tag = process.listing().release;
        let own = if process.leaving { Ending::Left } else { Ending::Process };
        self.checks.ended(&tag, self.now, how.unwrap_or(own));
    }

    /// The process says that it leaves, and ends a moment later.
    pub(super) fn leave(&mut self, number: P) {
        self.processes[number].leaving = true;
        if let Some(link) = self.processes[number].link.filter(|_| self.processes[number].stands) {
            self.say(link, Side::Client, Say::Leave);
        }
    }

    /// What it says of itself changes.
    pub(super) fn change_facts(&mut self, number: P) {
        let process = &mut self.processes[number];
        process.change = process.change.max(process.turn << 32) + 1;
        let told = Say::Tell(Some(Box::new((process.listing(), process.change))), None);
        if let Some(link) = process.link.filter(|_| process.stands) {
            self.say(link, Side::Client, told);
        }
    }

    /// Another process, on another machine, claims the name of `number`.
    pub(super) fn claim(&mut self, number: P) -> P {
        let (role, name) = (*self.processes[number].who).clone();
        let host = self.client_dice.index(self.plan.machines);
        let claimant = self.processes.len();
        self.processes.push(Process::new(claimant, role, name, host));
        if self.net.is_up(host) {
            self.start_process(claimant);
        }
        claimant
    }

    fn this(&self, number: P) -> Actor {
        Actor::Process(number, self.processes[number].life)
    }

    fn look_for_instance(&mut self, number: P) {
        let many = self.plan.instances;
        let targets: Vec<I> = if number < many {
            vec![number]
        } else {
            let first = self.client_dice.index(many);
            let mut all: Vec<I> = (0..many).map(|step| (first + step) % many).collect();
            all.sort_by_key(|one| self.processes[number].last == Some(*one));
            all
        };
        self.processes[number].stood = false;
        self.processes[number].targets = targets;
        self.next_target(number);
    }

    fn next_target(&mut self, number: P) {
        let process = &mut self.processes[number];
        if process.leaving || !process.running {
            return;
        }
        process.attempt += 1;
        let (attempt, stood) = (process.attempt, process.stood);
        if stood || process.targets.is_empty() {
            process.pause = if stood { PAUSE_FIRST } else { (process.pause * 2).min(PAUSE_MAX) };
            let most = if stood { process.spread } else { process.pause.max(process.spread) };
            let at = self.now + self.client_dice.below(most);
            self.queue.push(at, Event::Act(self.this(number), Act::Attend(attempt)));
            return;
        }
        let instance = process.targets.remove(0);
        process.turn += 1;
        process.change = process.change.max(process.turn << 32);
        process.with = instance;
        if number == instance {
            self.connected(number, instance);
            return;
        }
        self.queue.push(self.now + HEAD_WITHIN, Event::Act(self.this(number), Act::HeadLate(attempt)));
        self.syn(number, attempt, instance, 0);
    }

    /// A packet that asks for a connection.
    pub(super) fn syn(&mut self, number: P, attempt: u64, instance: I, nth: u32) {
        let process = &self.processes[number];
        if !process.running || process.attempt != attempt {
            return;
        }
        let (here, there) = (process.host, self.processes[instance].host);
        let actor = self.this(number);
        if !self.net.answers(here, there) {
            self.queue.push(self.now + (SECOND << nth), Event::Syn(number, attempt, instance, nth + 1));
            return;
        }
        let round = 2 * self.net.latency(here, there);
        let act = if !self.instances[instance].running {
            Some((round, Act::Failed(attempt)))
        } else {
            self.net.handshake(here, there).map(|took| (round + took, Act::Connected(attempt, instance)))
        };
        if let Some((took, act)) = act {
            self.queue.push(self.now + took, Event::Act(actor, act));
        }
    }

    fn connected(&mut self, number: P, instance: I) {
        if !self.instances[instance].running {
            self.next_target(number);
            return;
        }
        self.checks.handshake(instance, self.now / SECOND);
        let link = self.connect(number, instance);
        self.processes[number].link = Some(link);
        let attend = self.processes[number].attend();
        let watches = self.processes[number].directory.as_ref().map(|directory| directory.version());
        self.processes[number].given_up = Some(attend.clone());
        self.say(link, Side::Client, Say::Attend(Box::new(attend), watches));
    }

    pub(super) fn process_acts(&mut self, number: P, act: Act) {
        let attempt = self.processes[number].attempt;
        match act {
            Act::Said(link, side, say) => self.told(number, link, side, say),
            Act::Attend(of) if of == attempt => self.look_for_instance(number),
            Act::Connected(of, instance) if of == attempt => self.connected(number, instance),
            Act::Failed(of) if of == attempt => self.next_target(number),
            Act::HeadLate(of) if of == attempt && !self.processes[number].stands => {
                if let Some(link) = self.processes[number].link.take() {
                    self.close(link, Side::Client);
                }
                self.next_target(number);
            }
            Act::Ping(link, side) => self.ping(link, side),
            Act::PingLate(link, side, since) => self.ping_late(link, side, since),
            Act::Answer(question, tried) => {
                if let Some(link) = self.processes[number].link.filter(|_| self.processes[number].stands) {
                    self.say(link, Side::Client, Say::Tell(None, Some((question, tried))));
                }
            }
            Act::Attend(_) | Act::Connected(..) | Act::Failed(_) | Act::HeadLate(_) => {}
            Act::Tick(_)
            | Act::CameOf(..)
            | Act::Reach(..)
            | Act::Hear(..)
            | Act::Deaf(_)
            | Act::Follow(_)
            | Act::WatchDeaf(_) => {}
        }
    }

    fn told(&mut self, number: P, link: C, side: Side, say: Say) {
        if !self.was_read(link, side, &say) || self.processes[number].link != Some(link) {
            return;
        }
        match say {
            // It waits for its name without a limit.
            Say::Head => self.processes[number].attempt += 1,
            Say::Welcome(session, spread) => {
                let process = &mut self.processes[number];
                process.attempt += 1;
                process.session = session;
                process.spread = spread.max(SPREAD_LEAST);
                process.stands = true;
                process.stood = true;
            }
            Say::News(news) => self.take(number, *news),
            Say::Question(question, None) => {
                self.say(link, Side::Client, Say::Tell(None, Some((question, liveness::core::Tried::Connected))));
            }
            Say::Question(question, Some(aim)) => self.try_for(number, question, aim),
            Say::Ended(over) => self.session_ended(number, over),
            Say::Refused | Say::End => self.session_ended(number, false),
            Say::Nudge | Say::Attend(..) | Say::Tell(..) | Say::Leave | Say::Ping | Say::Pong => {}
        }
    }

    fn session_ended(&mut self, number: P, over: bool) {
        if let Some(link) = self.processes[number].link.take() {
            self.close(link, Side::Client);
        }
        if over {
            let mut lock = [0; 32];
            self.client_dice.fill(&mut lock);
            let process = &mut self.processes[number];
            process.lock = lock;
            (process.session, process.turn) = (0, 0);
            process.stood = true;
            self.checks.began_anew += 1;
        }
        let process = &mut self.processes[number];
        if process.stands {
            process.last = Some(process.with);
        }
        process.stands = false;
        self.next_target(number);
    }

    /// Each caller's machine ends connections to machines that it does not hear.
    pub(super) fn callers(&mut self) {
        self.queue.push(self.now + super::CALLERS_EVERY, Event::Callers);
        if !self.net.troubled {
            return;
        }
        for link in self.open.clone() {
            let client = self.links[link].tcp.end(Side::Client);
            if !client.open || self.links[link].local {
                continue;
            }
            if self.now - self.heard(link, Side::Client) > SILENCE_MAX {
                self.links[link].tcp.lose(Side::Client);
                self.forget_if_closed(link);
                let actor = self.actor(link, Side::Client);
                self.act(actor, Act::Said(link, Side::Client, Say::End));
            }
        }
    }
}
