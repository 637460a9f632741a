//! What must be true at every event, what is counted, and what must be true when a storm is over.

use std::collections::{BTreeMap, BTreeSet};

use liveness::core::{Wanted, Who};
use names::{Change, Directory, Listing, Status};
use pki::Role;
use std::sync::Arc;

use super::client::Process;
use super::net::{MILLI, Net, SECOND};
use super::shell::Instance;
use super::{Event, I, Lab, P};

/// Complaints beyond this many are only counted.
const COMPLAINTS_MAX: usize = 20;
/// Runs with more processes than this have no readers that compare everything.
const READ_MAX: usize = 2000;

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its machine lives.
    Process,
    /// With its machine.
    Machine,
    /// It said so.
    Left,
}

/// Times, of which the middle and the tail are of interest.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<u64>);

impl Spread {
    fn add(&mut self, nanos: u64) {
        self.0.push(nanos);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Not exceeded by so many of a hundred, in milliseconds.
    pub fn percentile_ms(&self, of_hundred: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * of_hundred).div_ceil(100).max(1) - 1;
        sorted.get(index).map_or(f64::NAN, |nanos| *nanos as f64 / MILLI as f64)
    }
}

/// What passes over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Messages of sessions.
    pub messages: u64,
    /// Their bytes, headers and acknowledgements of packets included.
    pub bytes: u64,
    /// Packets of probes and answers to them.
    pub probes: u64,
    /// Statements between instances.
    pub statements: u64,
    /// Looks at connections, which send nothing.
    pub looks: u64,
}

impl Traffic {
    pub(super) fn sent(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes + 2 * super::tcp::PACKET_BYTES;
    }
}

/// What a run has come to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was wrong.
    pub complaints: Vec<String>,
    /// Processes that ran and were said to be dead, at some instance.
    pub false_dead: u64,
    /// Processes that could be reached where they had their session, and were said to be unreachable, at some instance.
    pub false_unreachable: u64,
    /// The same for suspected.
    pub false_suspected: u64,
    /// Session numbers that two running processes had at the same time.
    pub contested: u64,
    /// Processes that were told that their session was over.
    pub began_anew: u64,
    /// From the end of a process to the first subscribers' news of it.
    pub suspected: Spread,
    /// To the news that it is dead.
    pub dead: Spread,
    /// From the end of a machine to the news that its processes are unreachable.
    pub unreachable: Spread,
    /// From the storm's end until everything was well again, in milliseconds.
    pub healed_ms: u64,
    /// The most handshakes that one instance had in one second.
    pub handshakes_max: u64,
    /// Tries that instances began.
    pub tries: u64,
    /// Ends of processes, of machines' processes, and leaves.
    pub ended: [u64; 3],
    /// Times that a reader was compared with its instance.
    pub compared: u64,
    /// Attempts that arrived late and were taken for good.
    pub late_admitted: u64,
    /// Events.
    pub events: u64,
    /// What the network carried.
    pub traffic: Traffic,
}

/// What is known to be true, and what was found to be otherwise.
pub(super) struct Checks {
    outcome: Outcome,
    pub(super) traffic: Traffic,
    pub(super) tries: u64,
    pub(super) began_anew: u64,
    pub(super) late_admitted: u64,
    ends: BTreeMap<String, (u64, Ending)>,
    told: BTreeSet<(P, String, u8)>,
    /// How a session ended, as each instance said.
    finals: BTreeMap<(I, Who), (u64, String)>,
    last: BTreeMap<(I, Who), (String, u8)>,
    numbers: BTreeMap<(Who, u64), String>,
    handshakes: BTreeMap<(I, u64), u64>,
    readers: BTreeMap<I, Vec<(Arc<Directory>, Wanted)>>,
}

fn rank(status: &Status) -> u8 {
    match status {
        Status::Alive => 0,
        Status::Suspected { .. } => 1,
        Status::Unreachable { .. } => 2,
        Status::Dead { .. } => 3,
        Status::Left { .. } => 4,
    }
}

/// The process and the life of it that a listing is about.
fn life_of(listing: &Listing) -> Option<(P, u64)> {
    let (number, life) = listing.release.split_once('.')?;
    Some((number.parse().ok()?, life.parse().ok()?))
}

impl Checks {
    pub(super) fn new() -> Checks {
        Checks {
            outcome: Outcome::default(),
            traffic: Traffic::default(),
            tries: 0,
            began_anew: 0,
            late_admitted: 0,
            ends: BTreeMap::new(),
            told: BTreeSet::new(),
            finals: BTreeMap::new(),
            last: BTreeMap::new(),
            numbers: BTreeMap::new(),
            handshakes: BTreeMap::new(),
            readers: BTreeMap::new(),
        }
    }

    fn complain(&mut self, now: u64, text: String) {
        if self.outcome.complaints.len() < COMPLAINTS_MAX {
            self.outcome.complaints.push(format!("{:.3} s: {text}", now as f64 / SECOND as f64));
        }
    }

    pub(super) fn ended(&mut self, tag: &str, now: u64, how: Ending) {
        self.outcome.ended[how as usize] += 1;
        self.ends.insert(tag.to_owned(), (now, how));
    }

    pub(super) fn instance_begins(&mut self, number: I) {
        self.finals.retain(|(of, _), _| *of != number);
        self.last.retain(|(of, _), _| *of != number);
    }

    pub(super) fn handshake(&mut self, instance: I, second: u64) {
        *self.handshakes.entry((instance, second)).or_default() += 1;
    }

    pub(super) fn forget_handshakes(&mut self) {
        self.handshakes.clear();
    }

    pub(super) fn admitted(&mut self, listing: &Listing, session: u64, processes: &[Process]) {
        let who: Who = Arc::new((listing.who.role, listing.who.name.clone()));
        let before = self.numbers.insert((who, session), listing.release.clone());
        let Some(before) = before.filter(|before| *before != listing.release) else { return };
        let other = Listing { release: before, ..listing.clone() };
        let lives = |(number, life): (P, u64)| processes[number].running && processes[number].life == life;
        if life_of(&other).is_some_and(lives) && life_of(listing).is_some_and(lives) {
            self.outcome.contested += 1;
        }
    }

    /// An instance says something new of a process.
    pub(super) fn saw(
        &mut self,
        instance: I,
        processes: &[Process],
        instances: &[Instance],
        net: &Net,
        now: u64,
        listing: &Listing,
    ) {
        let key = (instance, Arc::new((listing.who.role, listing.who.name.clone())));
        if let Some((session, tag)) = self.finals.get(&key)
            && *session == listing.session
            && *tag == listing.release
            && !listing.status.is_final()
        {
            self.complain(
                now,
                format!("i{instance} says {} of {}, whose session was over", listing.status, listing.who),
            );
        }
        if listing.status.is_final() {
            self.finals.insert(key.clone(), (listing.session, listing.release.clone()));
        }
        let rank = rank(&listing.status);
        let before = self.last.insert(key, (listing.release.clone(), rank));
        if rank == 0 || before.is_some_and(|(tag, before)| tag == listing.release && before == rank) {
            return;
        }
        let Some((number, life)) = life_of(listing) else { return };
        let process = &processes[number];
        if !process.running || process.life != life || !net.is_up(process.host) {
            return;
        }
        // Who is held serves nobody, and is called so in the end.
        let served = process.stands
            && process.paused <= now
            && instances[process.with].running
            && net.is_open(process.host, processes[process.with].host);
        match listing.status {
            Status::Dead { .. } => {
                self.outcome.false_dead += 1;
                self.complain(now, format!("i{instance} says of {}, which runs, that it is dead", listing.who));
            }
            Status::Left { .. } if !process.leaving => {
                self.complain(now, format!("i{instance} says of {}, which runs, that it has left", listing.who));
            }
            Status::Unreachable { .. } if served => self.outcome.false_unreachable += 1,
            Status::Suspected { .. } if served => self.outcome.false_suspected += 1,
            Status::Alive | Status::Suspected { .. } | Status::Unreachable { .. } | Status::Left { .. } => {}
        }
    }

    pub(super) fn forgotten(&mut self, instance: I, who: &Who) {
        self.finals.remove(&(instance, Arc::clone(who)));
        self.last.remove(&(instance, Arc::clone(who)));
    }

    /// A subscriber was told something.
    fn told(&mut self, watcher: P, since: u64, listing: &Listing, now: u64) {
        // Who began later was told at once, and that is no measure.
        let ended = self.ends.get(&listing.release).copied().filter(|(at, _)| *at > since);
        let Some((at, how)) = ended else { return };
        let rank = rank(&listing.status);
        let took = now - at;
        let mut first = |what: u8| self.told.insert((watcher, listing.release.clone(), what));
        match how {
            Ending::Process => {
                if rank > 0 && first(1) {
                    self.outcome.suspected.add(took);
                }
                if rank == 3 && first(3) {
                    self.outcome.dead.add(took);
                }
            }
            Ending::Machine => {
                if rank >= 2 && first(2) {
                    self.outcome.unreachable.add(took);
                }
            }
            Ending::Left => {}
        }
    }
}

impl Lab {
    /// A process takes what it was told of others.
    pub(super) fn take(&mut self, number: P, news: liveness::core::News) {
        let Some(directory) = &self.processes[number].directory else { return };
        for change in &news.changes {
            if let Change::Put(listing) = change {
                self.checks.told(number, self.processes[number].began, listing, self.now);
            }
        }
        if let Err(error) = apply(directory, news) {
            self.checks.complain(self.now, format!("{error}"));
        }
    }

    /// Somebody who asks seldom is told what it has missed, and is then where the instance is.
    pub(super) fn reader(&mut self, number: I) {
        if self.processes.len() > READ_MAX {
            return;
        }
        self.queue.push(self.now + self.dice.span_nanos(10_000, 30_000_000), Event::Reader(number));
        if !self.instances[number].running {
            return;
        }
        let agents = Wanted::Roles(BTreeSet::from([Role::Agent]));
        let fresh = || vec![(Directory::new(), Wanted::All), (Directory::new(), agents)];
        let readers = self.checks.readers.entry(number).or_insert_with(fresh);
        let core = &self.instances[number].core;
        let mut wrong = Vec::new();
        for (directory, wanted) in readers {
            let news = core.news(directory.version(), wanted);
            if let Err(error) = apply(directory, news) {
                wrong.push(error.to_string());
            }
            let there: Vec<Arc<Listing>> =
                core.all().filter(|one| wanted.has(one.who.role, &one.roles)).cloned().collect();
            if there != directory.all() {
                wrong.push(format!("a reader of i{number} does not have what it has"));
            }
            self.checks.outcome.compared += 1;
        }
        for text in wrong {
            self.checks.complain(self.now, text);
        }
    }

    /// What is wrong now that would have to be right some time after a storm.
    pub(super) fn unwell(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for instance in self.instances.iter().filter(|instance| instance.running) {
            for process in &self.processes {
                let listing = instance.core.get(&process.who);
                let says = listing.map_or("nothing".to_owned(), |listing| {
                    format!("{} (session {}, life {})", listing.status.name(), listing.session, listing.release)
                });
                let alive = listing.is_some_and(|listing| listing.status == Status::Alive);
                let this = listing.is_some_and(|listing| life_of(listing) == Some((process.number, process.life)));
                let is_right = if process.running { alive && this } else { !(alive && this) };
                if !is_right {
                    let runs = if process.running { "runs" } else { "has ended" };
                    let (name, life) = (&process.who.1, process.life);
                    wrong.push(format!("i{} says {says} of {name} in life {life}, which {runs}", instance.number));
                }
            }
        }
        let views = self.instances.iter().filter(|instance| instance.running).map(|instance| {
            let seen = instance.core.all().filter(|listing| !listing.status.is_final());
            let seen =
                seen.map(|one| (one.who.to_string(), one.session, one.release.clone(), one.load, one.status.name()));
            seen.collect::<BTreeSet<_>>()
        });
        let views: Vec<_> = views.collect();
        for (number, view) in views.iter().enumerate().skip(1) {
            if let Some(differs) = view.symmetric_difference(&views[0]).next() {
                wrong.push(format!("instances do not agree (number {number}): {differs:?}"));
            }
        }
        wrong
    }

    pub(super) fn finish(mut self, healed_ms: u64, wrong: Vec<String>) -> Outcome {
        let now = self.now;
        for text in wrong {
            self.checks.complain(now, text);
        }
        self.settle();
        Outcome {
            began_anew: self.checks.began_anew,
            late_admitted: self.checks.late_admitted,
            tries: self.checks.tries,
            handshakes_max: self.checks.handshakes.values().copied().max().unwrap_or(0),
            events: self.queue.made(),
            traffic: self.checks.traffic,
            healed_ms,
            ..self.checks.outcome
        }
    }
}

fn apply(directory: &Directory, news: liveness::core::News) -> Result<(), names::OutOfOrder> {
    if news.whole {
        let listings = news.changes.into_iter().filter_map(|change| match change {
            Change::Put(listing) => Some(listing),
            Change::Forget(..) => None,
        });
        directory.replace(news.version, listings);
        Ok(())
    } else {
        directory.apply(news.after, news.version, news.changes)
    }
}
