//! What instances tell each other: each only of the sessions that it holds, or whose end it saw.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use names::{Listing, Observer, Version};

use super::record::{Phase, Record, Tries};
use super::{Core, Effect, Lock, Now, Who};

/// An instance with ten thousand sessions is not followed by as many tries at once.
const ORPHANS_APART: Duration = Duration::from_micros(200);

/// What an instance says of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What is known.
    pub listing: Arc<Listing>,
    /// What opens the session again.
    pub lock: Lock,
    /// The turn in which the instance came to hold it.
    pub turn: u64,
    /// The number of the newest change of facts.
    pub change: u64,
}

/// Statements, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// These are all; otherwise they follow on what was said before.
    pub whole: bool,
    /// How far they go.
    pub version: Version,
    /// What is said.
    pub statements: Vec<Statement>,
}

impl Core {
    /// What this instance has to say to one that has heard it up to `heard`.
    pub fn say(&self, heard: Version) -> Said {
        let missed = self.log.missed(heard);
        let whole = missed.is_none();
        let statements = match missed {
            Some(missed) => missed.into_iter().filter_map(|who| self.statement(self.records.get(who)?)).collect(),
            None => self.records.values().filter_map(|record| self.statement(record)).collect(),
        };
        Said { whole, version: self.version(), statements }
    }

    fn statement(&self, record: &Record) -> Option<Statement> {
        let of = |record: &Record| Statement {
            listing: Arc::clone(&record.listing),
            lock: record.lock,
            turn: record.turn,
            change: record.change,
        };
        (record.holder == self.own).then(|| of(record))
    }

    /// Another instance has said something.
    pub fn hear(&mut self, now: Now, from: &Observer, said: Said) {
        self.others.insert(from.clone(), true);
        let mut spoken_of = BTreeSet::new();
        for statement in said.statements {
            let who: Who = Arc::new((statement.listing.who.role, statement.listing.who.name.clone()));
            self.hear_of(now, from, &who, statement);
            spoken_of.insert(who);
        }
        if said.whole {
            // It has begun anew, and knows nothing of what it held before.
            self.orphan(now, from, |who| !spoken_of.contains(who));
        }
    }

    fn hear_of(&mut self, now: Now, from: &Observer, who: &Who, said: Statement) {
        if let Some(mine) = self.records.get(who) {
            let (theirs, own) = ((said.listing.session, said.turn), (mine.listing.session, mine.turn));
            // Two instances that could not hear each other may have given one number to two processes.
            let contested = said.listing.session == mine.listing.session && said.lock != mine.lock;
            let news = if contested { said.lock > mine.lock } else { theirs > own };
            let end =
                !contested && theirs.0 == own.0 && said.listing.status.is_final() && !mine.listing.status.is_final();
            let holders = theirs == own && !contested && mine.holder == *from;
            if !(news || holders || end && theirs >= own) || (mine.listing.status.is_final() && !news) {
                return;
            }
            if self.stands_here(who) {
                self.effects.push(Effect::Close(Arc::clone(who), mine.turn));
            }
        }
        let is_final = said.listing.status.is_final();
        self.leave_phase(who);
        let due = self.records.get(who).and_then(|record| record.due);
        let changed = self.get(who).is_none_or(|known| *known != said.listing);
        let record = Record {
            listing: said.listing,
            lock: said.lock,
            turn: said.turn,
            change: said.change,
            holder: from.clone(),
            phase: if is_final { Phase::Over } else { Phase::Elsewhere },
            due,
            told: now.mono,
            asked: None,
        };
        if changed {
            self.log.note(who, &record.listing.roles);
        }
        self.records.insert(Arc::clone(who), record);
        if is_final {
            self.wake(now, who, self.settings.remember);
        } else {
            self.sleep(who);
        }
    }

    /// Another instance cannot be heard any more. What it held may be resumed at any other; nobody is seen gone for that.
    pub fn deaf_to(&mut self, now: Now, instance: &Observer) {
        self.others.insert(instance.clone(), false);
        self.orphan(now, instance, |_| true);
    }

    fn orphan(&mut self, now: Now, instance: &Observer, which: impl Fn(&Who) -> bool) {
        let held = self
            .records
            .iter()
            .filter(|(who, record)| record.holder == *instance && record.phase == Phase::Elsewhere && which(who));
        let machine = self.records.values().find(|record| record.listing.who.to_string() == *instance);
        let machine = machine.map(|record| record.listing.machine.clone());
        let beside_it = |record: &Record| machine.as_ref().is_some_and(|machine| *machine == record.listing.machine);
        let orphans: Vec<(Who, bool)> = held.map(|(who, record)| (Arc::clone(who), beside_it(record))).collect();
        for (index, (who, beside_it)) in orphans.iter().enumerate() {
            // Their machine may have gone with the instance: they are tried at once, the others when they have not come back.
            let wait = if *beside_it { Duration::ZERO } else { self.settings.grace };
            self.move_to(who, Phase::Lost(Tries::new(now.mono + wait)));
            let spread = ORPHANS_APART.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
            self.wake(now, who, wait + spread);
        }
    }
}
