//! What instances tell each other: each only of the sessions that it holds, or whose end it saw.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use names::{Listing, Observer, Version};

use super::record::{Phase, Record, Tries};
use super::{Core, Lock, Now, Who};

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

/// What overrules what, whatever is heard first: a later process of a name, the end of a process, a later attempt of it.
/// Between two processes to which instances that could not hear each other gave the same number, their locks decide.
type Strength = (u64, Lock, bool, u64);

impl Statement {
    fn strength(&self) -> Strength {
        (self.listing.session, self.lock, self.listing.status.is_final(), self.turn)
    }
}

impl Record {
    fn strength(&self) -> Strength {
        (self.listing.session, self.lock, self.listing.status.is_final(), self.turn)
    }
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
        (record.holder == self.own || record.objects).then(|| of(record))
    }

    /// Another instance has said something.
    pub fn hear(&mut self, now: Now, from: &Observer, said: Said) {
        let was_deaf = self.others.insert(from.clone(), true) == Some(false);
        let mut spoken_of = BTreeSet::new();
        for statement in said.statements {
            let who: Who = Arc::new((statement.listing.who.role, statement.listing.who.name.clone()));
            self.hear_of(now, from, said.whole, &who, statement);
            spoken_of.insert(who);
        }
        if said.whole {
            // It has begun anew, and knows nothing of what it held before.
            self.orphan(now, from, |who| !spoken_of.contains(who));
        } else if was_deaf {
            self.restore(from);
        }
    }

    /// Nothing was missed of what `from` holds: whatever it has not changed is as it was before it could not be heard.
    fn restore(&mut self, from: &Observer) {
        let lost = self.records.iter().filter(|(_, record)| record.holder == *from && record.said.is_some());
        let lost: Vec<Who> = lost.map(|(who, _)| Arc::clone(who)).collect();
        for who in lost {
            self.move_to(&who, Phase::Elsewhere);
            self.sleep(&who);
            let said = self.records.get_mut(&who).and_then(|record| record.said.take());
            if let Some(said) = said {
                self.tell(&who, |listing| *listing = (*said).clone());
            }
        }
    }

    fn hear_of(&mut self, now: Now, from: &Observer, whole: bool, who: &Who, said: Statement) {
        if let Some(mine) = self.records.get(who) {
            let (theirs, own) = (said.strength(), mine.strength());
            let holders = theirs == own && !said.listing.status.is_final() && mine.holder == *from;
            // Who has begun anew gives numbers again that it had given before; of its earlier life nobody speaks any more.
            let anew = whole && mine.holder == *from && !mine.listing.status.is_final();
            if !(theirs > own || holders || anew) {
                self.object(who, &said);
                return;
            }
            if self.stands_here(who) {
                self.close(who);
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
            said: None,
            due,
            told: now.mono,
            asked: None,
            objects: false,
            seat: 0,
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

    /// What was said of `who` is overruled by what is known here: that is said, since who said it cannot have known. Only its
    /// holder says so otherwise, and the holder may have forgotten.
    fn object(&mut self, who: &Who, said: &Statement) {
        let own = self.own.clone();
        let Some(mine) = self.records.get_mut(who) else { return };
        let overruled = (said.listing.session, said.lock, said.listing.status.is_final())
            < (mine.listing.session, mine.lock, mine.listing.status.is_final());
        if overruled && mine.holder != own {
            mine.objects = true;
            self.log.note(who, &mine.listing.roles);
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
            if let Some(record) = self.records.get_mut(who) {
                record.said = Some(Arc::clone(&record.listing));
            }
            let spread = ORPHANS_APART.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
            self.wake(now, who, wait + spread);
        }
    }
}
