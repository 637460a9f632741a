//! What one liveness instance decides: a pure machine, inputs in, effects and news out.
//!
//! A session is held by one instance, the one at which its stream stands. What a holder says of a session is what all
//! instances tell; only when a holder is gone does each judge for itself. Four things are told apart that other systems
//! take for one:
//!
//! - **The stream broke**: the kernel at the other end closed it. The process is *suspected* at once, and its host is asked:
//!   if it answers that nobody listens, the process is *dead*, and its end was seen.
//! - **The host is not heard**: its kernel acknowledges nothing. Kernels do that without their processes, so a starved or
//!   stopped process is never mistaken for this. Several observers try to connect; if none can, it is *unreachable*.
//! - **The process does not answer**, though its host does: it hangs. *Suspected*, and much later *unreachable*.
//! - **This instance itself was held**: what it believes to be late may lie in its own buffers. Nobody is judged then.
//!
//! The idea that an observer has to doubt itself first is from Lifeguard (Dadgar, Phillips, Currey: "Lifeguard: Local
//! Health Awareness for More Accurate Failure Detection", 2018); that several have to agree, from SWIM and Rapid.

mod exchange;
mod judge;
mod log;
mod record;
mod sessions;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use names::{Listing, Observer, Version};
use pki::Role;
use world::{Mono, Wall};

pub use exchange::{Said, Statement};
use log::Log;
pub use log::{News, Wanted};
use record::Record;
pub use sessions::{Admitted, Attend, Refusal, Told};

/// A process as its certificate names it.
pub type Who = Arc<(Role, String)>;

/// A process, and what is known of it, if it is still spoken of.
pub type Known<'a> = (Who, Option<&'a Arc<Listing>>);

/// What opens a session again: a digest of the secret that its process drew.
pub type Lock = [u8; 32];

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// What is decided by.
    pub mono: Mono,
    /// What people read.
    pub wall: Wall,
}

/// What came of a try to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// Somebody listens.
    Connected,
    /// The host says that nobody does.
    Refused,
    /// No answer.
    Silent,
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Say how long ago the host of this session was heard ([`Core::heard`]).
    Look(Who, u64),
    /// Send something down its stream, so that its host has something to acknowledge.
    Nudge(Who),
    /// Ask it this question.
    Ask(Who, u64),
    /// Try to connect to this endpoint, and have others try ([`Core::tried`]), in this round.
    Try(Who, String, u64),
    /// End the stream of this turn: it is over, or was overtaken.
    Close(Who, u64),
}

/// How patient an instance is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A host that was not heard for so long is doubted. A kernel probes a quiet connection each second.
    pub doubt_after: Duration,
    /// From the doubt, or from a broken stream on, others have so long to reach the process.
    pub verdict_after: Duration,
    /// A lost session may be resumed for so long before it is judged by that.
    pub grace: Duration,
    /// How often a process is asked whether it is there.
    pub ask_every: Duration,
    /// How long its answer may take.
    pub answer_within: Duration,
    /// One that does not answer for so long, though its host does, is unreachable.
    pub silent_for: Duration,
    /// Who is dead or has left is spoken of for so long.
    pub remember: Duration,
    /// An instance whose own clock task was late by so much was held itself.
    pub held: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            doubt_after: Duration::from_millis(1250),
            verdict_after: Duration::from_millis(500),
            grace: Duration::from_secs(3),
            ask_every: Duration::from_secs(15),
            answer_within: Duration::from_secs(5),
            silent_for: Duration::from_secs(30),
            remember: Duration::from_secs(24 * 3600),
            held: Duration::from_millis(250),
        }
    }
}

/// One instance.
pub struct Core {
    own: Observer,
    settings: Settings,
    records: BTreeMap<Who, Record>,
    due: BTreeSet<(Mono, Who)>,
    log: Log,
    effects: Vec<Effect>,
    /// The other instances, and whether they are heard.
    others: BTreeMap<Observer, bool>,
    /// Rounds of tries, and questions.
    numbers: u64,
    /// Sessions that stand here, in no order, so that one can be drawn; how many of them are doubted, and how many were
    /// given up for that.
    seats: Vec<Who>,
    doubted: usize,
    cut: usize,
    /// Streams that were closed, by their turns, and whose ends are still to come.
    closing: BTreeMap<(Who, u64), u32>,
}

/// Timers are rounded up to this, so that a thousand sessions do not wake the instance a thousand times a second.
const SLOT_NANOS: u64 = 50_000_000;

impl Core {
    /// The instance `own`, whose numbers are ordered under `instance`, drawn at its start.
    pub fn new(own: Observer, instance: u64, settings: Settings) -> Core {
        Core {
            own,
            settings,
            records: BTreeMap::new(),
            due: BTreeSet::new(),
            log: Log::new(instance),
            effects: Vec::new(),
            others: BTreeMap::new(),
            numbers: 0,
            seats: Vec::new(),
            doubted: 0,
            cut: 0,
            closing: BTreeMap::new(),
        }
    }

    /// Its name.
    pub fn own(&self) -> &Observer {
        &self.own
    }

    /// How far its news go.
    pub fn version(&self) -> Version {
        self.log.version()
    }

    /// From now on it is as patient as this.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// How patient it is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What has to be done, once.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`Core::tick`] has something to do.
    pub fn next(&self) -> Option<Mono> {
        self.due.first().map(|(when, _)| *when)
    }

    /// Sessions that stand here.
    pub fn held(&self) -> usize {
        self.seats.len()
    }

    /// Everybody who is known.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Listing>> {
        self.records.values().map(|record| &record.listing)
    }

    /// Everybody whose certificate is for `role`, without a look at all the others.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Arc<Listing>> {
        let first: Who = Arc::new((role, String::new()));
        self.records.range(first..).take_while(move |(who, _)| who.0 == role).map(|(_, record)| &record.listing)
    }

    /// Every process that may be an instance: those with a certificate for just that, and those that play everything.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Listing>> {
        let may = self.of(Role::Control).chain(self.of(Role::Liveness));
        may.filter(|listing| listing.roles.contains(&Role::Liveness))
    }

    /// What is known of `who`.
    pub fn get(&self, who: &Who) -> Option<&Arc<Listing>> {
        self.records.get(who).map(|record| &record.listing)
    }

    /// What is new since `seen`, of those who play one of `wanted`.
    pub fn news(&self, seen: Version, wanted: &Wanted) -> News {
        self.log.news(&self.records, seen, wanted)
    }

    /// Everybody of whom there are news after number `after`, with what they play, or nothing for those who are not spoken
    /// of any more; nothing at all if that is too long ago to tell.
    pub fn changed_after(&self, after: u64) -> Option<Vec<Known<'_>>> {
        let missed = self.log.missed(Version { number: after, ..self.version() })?;
        Some(missed.into_iter().map(|who| (Arc::clone(who), self.get(who))).collect())
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The next look at `who` is `after` from now.
    fn wake(&mut self, now: Now, who: &Who, after: Duration) {
        let Some(record) = self.records.get_mut(who) else { return };
        if let Some(earlier) = record.due.take() {
            self.due.remove(&(earlier, Arc::clone(who)));
        }
        let nanos = (now.mono + after).as_nanos().div_ceil(SLOT_NANOS).saturating_mul(SLOT_NANOS);
        let when = Mono::from_nanos(nanos);
        record.due = Some(when);
        self.due.insert((when, Arc::clone(who)));
    }

    fn sleep(&mut self, who: &Who) {
        let Some(record) = self.records.get_mut(who) else { return };
        if let Some(earlier) = record.due.take() {
            self.due.remove(&(earlier, Arc::clone(who)));
        }
    }
}
