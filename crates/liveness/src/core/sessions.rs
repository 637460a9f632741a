//! Sessions begin, are resumed, tell, and end.

use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use names::{Cause, Listing, Status};
use pki::Role;

use super::record::{Phase, Record, Tries};
use super::{Core, Effect, Lock, Now, Who};

/// A process wants a session.
#[derive(Clone, Debug)]
pub struct Attend {
    /// What it says of itself; who it is, is from its certificate.
    pub listing: Listing,
    /// What opens the session again.
    pub lock: Lock,
    /// The number that it was told, or 0.
    pub session: u64,
    /// Raised with each attempt.
    pub turn: u64,
    /// The number of its newest change of facts.
    pub change: u64,
}

/// A session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its number.
    pub session: u64,
}

/// A session is not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It claims what its certificate does not have. For good.
    #[error("{who} may not play {role}: its certificate is for another role")]
    NotItsRole {
        /// Who asked.
        who: String,
        /// For what.
        role: Role,
    },
    /// A later attempt of the same process was served before. For good.
    #[error("a later attempt of the same process was served before")]
    Overtaken,
    /// The session is over; its process begins a new one. For good.
    #[error("this session is over ({0}); a new one may be begun")]
    Over(&'static str),
    /// Another process has the name, and is alive. May be tried again.
    #[error(
        "the name is that of a process that is alive, on {machine} at {endpoint}; end that one, or take another name"
    )]
    InUse {
        /// The machine of the other.
        machine: String,
        /// Where the other answers.
        endpoint: String,
    },
}

/// What a process tells of itself.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its facts, if they changed, and the number of the change.
    pub facts: Option<(Listing, u64)>,
    /// The question that it answers.
    pub answers: Option<u64>,
}

/// A process that comes back to an instance that knows nothing may say what its number was; it may not use numbers up.
const SESSION_MAX: u64 = 1 << 48;

/// The roles that a certificate for `own` covers.
fn covers(own: Role, role: Role) -> bool {
    own == role || (own == Role::Control && Role::PARTS.contains(&role))
}

impl Core {
    /// Opens or resumes a session. Whoever is told that the name is in use may ask again when something about it changed.
    ///
    /// # Errors
    /// As [`Refusal`] says. Nothing changed, except that the present owner of a name in use is looked at.
    pub fn attend(&mut self, now: Now, attend: &Attend) -> Result<Admitted, Refusal> {
        let who: Who = Arc::new((attend.listing.who.role, attend.listing.who.name.clone()));
        if let Some(role) = attend.listing.roles.iter().find(|role| !covers(who.0, **role)) {
            return Err(Refusal::NotItsRole { who: attend.listing.who.to_string(), role: *role });
        }
        let session = match self.records.get(&who) {
            None => attend.session.clamp(1, SESSION_MAX),
            Some(there) if there.lock == attend.lock => {
                if there.turn >= attend.turn {
                    return Err(Refusal::Overtaken);
                }
                if there.phase == Phase::Over || there.listing.status.is_final() {
                    return Err(Refusal::Over(there.listing.status.name()));
                }
                let session = there.listing.session;
                if self.stands_here(&who) {
                    self.close(&who);
                }
                session
            }
            Some(there) if there.listing.status == Status::Alive => {
                let endpoint = there.listing.endpoints.get(Listing::RPC).cloned().unwrap_or_default();
                let in_use = Refusal::InUse { machine: there.listing.machine.clone(), endpoint };
                self.question(now, &who);
                return Err(in_use);
            }
            Some(there) => {
                let session = there.listing.session;
                if self.stands_here(&who) {
                    self.close(&who);
                }
                session.saturating_add(1)
            }
        };
        let listing = Listing { session, status: Status::Alive, ..attend.listing.clone() };
        self.enter(now, &who, attend, listing);
        Ok(Admitted { session })
    }

    fn enter(&mut self, now: Now, who: &Who, attend: &Attend, listing: Listing) {
        self.leave_phase(who);
        let (due, change) = (self.records.get(who).and_then(|record| record.due), attend.change);
        let record = Record {
            listing: Arc::new(listing),
            lock: attend.lock,
            turn: attend.turn,
            change,
            holder: self.own.clone(),
            phase: Phase::Standing,
            said: None,
            due,
            told: now.mono,
            asked: None,
            objects: false,
            seat: 0,
        };
        self.log.note(who, &record.listing.roles);
        self.records.insert(Arc::clone(who), record);
        self.sits_down(who);
        self.wake(now, who, self.settings.doubt_after);
    }

    /// Whether the stream of `who` stands here.
    pub(super) fn stands_here(&self, who: &Who) -> bool {
        self.records.get(who).is_some_and(|record| matches!(record.phase, Phase::Standing | Phase::Doubted(_)))
    }

    /// Counts `who` out of the phase that it is about to leave.
    pub(super) fn leave_phase(&mut self, who: &Who) {
        match self.records.get(who).map(|record| &record.phase) {
            Some(Phase::Standing) => self.stands_up(who),
            Some(Phase::Doubted(_)) => {
                self.stands_up(who);
                self.doubted -= 1;
            }
            Some(Phase::Lost(tries)) => self.cut -= usize::from(tries.cut),
            Some(Phase::Elsewhere | Phase::Over) | None => {}
        }
    }

    /// `who` takes a seat among those whose streams stand here.
    fn sits_down(&mut self, who: &Who) {
        if let Some(record) = self.records.get_mut(who) {
            record.seat = self.seats.len();
            self.seats.push(Arc::clone(who));
        }
    }

    /// `who` gives its seat up; the last one takes it.
    fn stands_up(&mut self, who: &Who) {
        let Some(seat) = self.records.get(who).map(|record| record.seat).filter(|seat| *seat < self.seats.len()) else {
            return;
        };
        self.seats.swap_remove(seat);
        if let Some(moved) = self.seats.get(seat).and_then(|moved| self.records.get_mut(moved)) {
            moved.seat = seat;
        }
    }

    pub(super) fn move_to(&mut self, who: &Who, phase: Phase) {
        self.leave_phase(who);
        match &phase {
            Phase::Standing => self.sits_down(who),
            Phase::Doubted(_) => {
                self.sits_down(who);
                self.doubted += 1;
            }
            Phase::Lost(tries) => self.cut += usize::from(tries.cut),
            Phase::Elsewhere | Phase::Over => {}
        }
        if let Some(record) = self.records.get_mut(who) {
            record.phase = phase;
        }
    }

    /// Ends the stream of `who` that stands here.
    pub(super) fn close(&mut self, who: &Who) {
        let Some(turn) = self.records.get(who).map(|record| record.turn) else { return };
        *self.closing.entry((Arc::clone(who), turn)).or_default() += 1;
        self.effects.push(Effect::Close(Arc::clone(who), turn));
    }

    /// Changes what is told of `who`, if that is a change.
    pub(super) fn tell(&mut self, who: &Who, change: impl FnOnce(&mut Listing)) {
        let Some(record) = self.records.get_mut(who) else { return };
        let mut listing = (*record.listing).clone();
        change(&mut listing);
        if listing != *record.listing {
            record.listing = Arc::new(listing);
            self.log.note(who, &record.listing.roles);
        }
    }

    /// A process says something. Whether it is known here by that secret.
    pub fn told(&mut self, now: Now, who: &Who, lock: &Lock, told: Told) -> bool {
        let Some(record) = self.records.get_mut(who).filter(|record| record.lock == *lock) else { return false };
        if record.phase == Phase::Over {
            return false;
        }
        record.told = now.mono;
        if record.asked.is_some_and(|(number, _)| told.answers.is_some_and(|answer| answer >= number)) {
            record.asked = None;
        }
        let silent = matches!(record.listing.status, Status::Suspected { cause: Cause::Silent, .. });
        if silent && self.stands_here(who) {
            self.tell(who, |listing| listing.status = Status::Alive);
        }
        if let Some((facts, change)) = told.facts {
            self.facts(who, facts, change);
        }
        true
    }

    fn facts(&mut self, who: &Who, facts: Listing, change: u64) {
        let Some(record) = self.records.get_mut(who).filter(|record| record.change < change) else { return };
        if facts.roles.iter().all(|role| covers(who.0, *role)) {
            record.change = change;
            let (session, status) = (record.listing.session, record.listing.status.clone());
            self.tell(who, |listing| *listing = Listing { session, status, who: listing.who.clone(), ..facts });
        }
    }

    /// A process says that it is about to end.
    pub fn leave(&mut self, now: Now, who: &Who, lock: &Lock) {
        let Some(record) = self.records.get(who).filter(|record| record.lock == *lock) else { return };
        if !record.listing.status.is_final() {
            if self.stands_here(who) {
                self.close(who);
            }
            self.finish(now, who, Status::Left { since: now.wall });
        }
    }

    /// This session will never be alive again.
    pub(super) fn finish(&mut self, now: Now, who: &Who, status: Status) {
        let own = self.own.clone();
        if let Some(record) = self.records.get_mut(who) {
            record.holder = own;
            record.said = None;
        }
        self.move_to(who, Phase::Over);
        self.tell(who, |listing| listing.status = status);
        self.wake(now, who, self.settings.remember);
    }

    /// The stream of `who` that stood since `turn` has ended: by itself, or because it was closed. Said once of each.
    pub fn broken(&mut self, now: Now, who: &Who, turn: u64) {
        // Every process counts its turns from one, so the stream of the next one here may have the turn of one that was closed.
        if let Entry::Occupied(mut closing) = self.closing.entry((Arc::clone(who), turn)) {
            *closing.get_mut() -= 1;
            if *closing.get() == 0 {
                closing.remove();
            }
            return;
        }
        if self.records.get(who).is_none_or(|record| record.turn != turn) || !self.stands_here(who) {
            return;
        }
        self.move_to(who, Phase::Lost(Tries::new(now.mono)));
        self.tell(who, |listing| {
            if !matches!(listing.status, Status::Unreachable { .. }) {
                listing.status = Status::Suspected { since: now.wall, cause: Cause::Broken };
            }
        });
        self.try_again(now, who, Duration::ZERO);
    }
}
