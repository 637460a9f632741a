//! When somebody is not heard: who is asked, and what is said of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use names::{Cause, Dying, Listing, Observer, Status};

use super::record::{Phase, Tries};
use super::{Core, Effect, Now, Tried, Who};

/// A look comes a moment after the kernel's next probe would have been answered.
const LOOK_LATER: Duration = Duration::from_millis(50);
const LOOK_SOONEST: Duration = Duration::from_millis(100);
/// A nudge is answered within this, if the host is there. Most doubts end so, and others are troubled by the rest only.
const NUDGED: Duration = Duration::from_millis(50);
/// An instance that hears no other, and doubts more than half of so many sessions, holds itself for cut off.
const MANY: usize = 4;

impl Core {
    /// Time has passed: looks, asks, tries and judges.
    pub fn tick(&mut self, now: Now) {
        let mut late = Duration::ZERO;
        while let Some((when, who)) = self.due.first().cloned() {
            if when > now.mono {
                return;
            }
            late = late.max(now.mono.since(when));
            self.due.pop_first();
            if let Some(record) = self.records.get_mut(&who) {
                record.due = None;
                self.look_after(now, &who, late > self.settings.held);
            }
        }
    }

    fn look_after(&mut self, now: Now, who: &Who, held: bool) {
        let Some(record) = self.records.get(who) else { return };
        match record.phase.clone() {
            Phase::Standing => {
                let turn = record.turn;
                self.effects.push(Effect::Look(Arc::clone(who), turn));
                self.ask_if_due(now, who, held);
                self.wake(now, who, self.settings.doubt_after);
            }
            // What seems late may lie in this process's own buffers: another round, and nobody is judged by this one.
            Phase::Doubted(_) | Phase::Lost(_) if held => {
                if let Some(Phase::Doubted(tries) | Phase::Lost(tries)) =
                    self.records.get_mut(who).map(|record| &mut record.phase)
                {
                    tries.since = tries.since.max(now.mono);
                }
                self.try_again(now, who, self.settings.verdict_after);
            }
            Phase::Doubted(tries) => self.judge_doubted(now, who, &tries),
            Phase::Lost(tries) => self.judge_lost(now, who, &tries),
            Phase::Elsewhere => {}
            Phase::Over => {
                let roles = record.listing.roles.clone();
                self.records.remove(who);
                self.log.note(who, &roles);
            }
        }
    }

    /// The host of `who`, whose stream stands since `turn`, was heard so long ago; nothing, where it cannot be absent.
    pub fn heard(&mut self, now: Now, who: &Who, turn: u64, ago: Option<Duration>) {
        let Some(record) = self.records.get(who).filter(|record| record.turn == turn) else { return };
        if ago.is_none() && record.phase == Phase::Standing {
            // Nothing but its silence is to be looked for.
            let quiet = now.mono.since(record.told);
            let next = match record.asked {
                Some(_) => self.settings.answer_within,
                None => self.settings.ask_every.saturating_sub(quiet).max(self.settings.answer_within),
            };
            self.wake(now, who, next);
            return;
        }
        let ago = ago.unwrap_or_default();
        let fresh = ago < self.settings.doubt_after;
        match &record.phase {
            Phase::Standing if fresh => {
                let next = (self.settings.doubt_after + LOOK_LATER).saturating_sub(ago).max(LOOK_SOONEST);
                self.wake(now, who, next);
            }
            Phase::Standing => {
                self.move_to(who, Phase::Doubted(Tries::new(now.mono)));
                self.effects.push(Effect::Nudge(Arc::clone(who)));
                self.wake(now, who, NUDGED);
            }
            Phase::Doubted(tries) if now.mono.since(tries.since) >= ago => {
                // It was heard after the doubt had begun.
                self.move_to(who, Phase::Standing);
                self.wake(now, who, LOOK_SOONEST);
            }
            Phase::Doubted(tries) => {
                let tries = tries.clone();
                self.doubt_holds(now, who, tries);
            }
            Phase::Lost(_) | Phase::Elsewhere | Phase::Over => {}
        }
    }

    /// Time is up for somebody who is doubted: one more look decides.
    fn judge_doubted(&mut self, now: Now, who: &Who, tries: &Tries) {
        let nudged = tries.round == 0;
        if !nudged && now.mono.since(tries.since) < self.settings.verdict_after {
            self.wake(now, who, self.settings.verdict_after.saturating_sub(now.mono.since(tries.since)));
            return;
        }
        let Some(record) = self.records.get(who) else { return };
        self.effects.push(Effect::Look(Arc::clone(who), record.turn));
        self.wake(now, who, self.settings.verdict_after);
    }

    /// Nothing was heard of its host since the doubt began, and it was looked at.
    fn doubt_holds(&mut self, now: Now, who: &Who, tries: Tries) {
        if tries.round == 0 {
            self.try_again(now, who, self.settings.verdict_after);
            return;
        }
        if now.mono.since(tries.since) < self.settings.verdict_after {
            return;
        }
        // Where its host answers this instance, the way is there, and what was sent is sent again by the transport. Where it
        // answers others, a few rounds may be lost by chance.
        let patience = match (tries.reached.contains(&self.own), tries.reached.is_empty()) {
            (true, _) => self.settings.answer_within,
            (false, false) => self.settings.verdict_after * 3,
            (false, true) => Duration::ZERO,
        };
        if now.mono.since(tries.since) < patience {
            self.try_again(now, who, self.settings.verdict_after);
            return;
        }
        self.close(who);
        let status = self.verdict(now, &tries, Cause::CutOff);
        self.move_to(who, Phase::Lost(Tries { since: now.mono, cut: true, ..tries }));
        self.say_of(who, status);
        self.try_again(now, who, self.settings.verdict_after);
    }

    /// What is to be said of somebody whom some could reach and others not.
    fn verdict(&self, now: Now, tries: &Tries, reached: Cause) -> Status {
        let alone = !self.others.is_empty() && self.others.values().all(|heard| !heard);
        // Also those count that were given up: the first verdicts must not make the next ones bolder.
        let (all, missed) = (self.held() + self.cut, self.doubted + self.cut);
        let cut_off_itself = alone && all >= MANY && missed * 2 > all;
        if !tries.reached.is_empty() {
            return Status::Suspected { since: now.wall, cause: reached };
        }
        if cut_off_itself {
            return Status::Suspected { since: now.wall, cause: Cause::CutOff };
        }
        let mut by = tries.silent.clone();
        by.insert(self.own.clone());
        Status::Unreachable { since: now.wall, by }
    }

    /// Says it, unless that has been said: what lasts keeps its beginning.
    fn say_of(&mut self, who: &Who, status: Status) {
        self.tell(who, |listing| {
            let same = match (&listing.status, &status) {
                (Status::Suspected { cause: one, .. }, Status::Suspected { cause: two, .. }) => one == two,
                (Status::Unreachable { by: one, .. }, Status::Unreachable { by: two, .. }) => one.is_superset(two),
                (one, two) => one == two,
            };
            if same {
                return;
            }
            let since = match (&listing.status, &status) {
                (Status::Unreachable { since, .. }, Status::Unreachable { .. }) => Some(*since),
                _ => None,
            };
            listing.status = status;
            if let (Some(earlier), Status::Unreachable { since, .. }) = (since, &mut listing.status) {
                *since = earlier;
            }
        });
    }

    /// A new round of tries for `who`; it is looked at again after `wait`.
    pub(super) fn try_again(&mut self, now: Now, who: &Who, wait: Duration) {
        let round = self.number();
        let Some(record) = self.records.get_mut(who) else { return };
        let (Phase::Doubted(tries) | Phase::Lost(tries)) = &mut record.phase else { return };
        tries.next_round(round);
        let pause = tries.pause.max(wait).max(self.settings.verdict_after);
        if let Some(endpoint) = record.listing.endpoints.get(Listing::RPC) {
            self.effects.push(Effect::Try(Arc::clone(who), endpoint.clone(), round));
        }
        self.wake(now, who, pause);
    }

    /// `observer` tried to connect to `who`. Only an instance is believed to have seen an end.
    pub fn tried(&mut self, now: Now, who: &Who, round: u64, observer: &Observer, instance: bool, tried: Tried) {
        let Some(record) = self.records.get_mut(who) else { return };
        let (Phase::Doubted(tries) | Phase::Lost(tries)) = &mut record.phase else { return };
        if tries.round != round {
            return;
        }
        match tried {
            Tried::Connected => {
                tries.reached.insert(observer.clone());
                // A process that is ending closes one socket after the other: its end is seen by the next try.
                let (soon, lost) = (tries.pause, matches!(record.phase, Phase::Lost(_)));
                if lost && *observer == self.own {
                    self.wake(now, who, soon);
                }
            }
            Tried::Refused if instance => {
                if self.stands_here(who) {
                    self.close(who);
                }
                let status = Status::Dead { since: now.wall, seen: Dying::Refused, by: observer.clone() };
                self.finish(now, who, status);
            }
            Tried::Refused => {}
            Tried::Silent => {
                tries.silent.insert(observer.clone());
            }
        }
    }

    /// Somebody whose session is lost is looked at again.
    fn judge_lost(&mut self, now: Now, who: &Who, tries: &Tries) {
        let Some(record) = self.records.get(who) else { return };
        let lost_for = now.mono.since(tries.since);
        let reached_here = tries.reached.contains(&self.own);
        // Where its instance is gone, and its host answers, nothing speaks against it for long.
        let orphan = record.holder != self.own;
        let patience = if orphan { self.settings.silent_for } else { self.settings.grace };
        if tries.round == 0 {
            // Its instance is gone, and it has not come back through another.
        } else if !tries.reached.is_empty() {
            if reached_here && !orphan && lost_for >= self.settings.silent_for {
                let by = BTreeSet::from([self.own.clone()]);
                self.say_of(who, Status::Unreachable { since: now.wall, by });
            } else if lost_for >= patience {
                let cause = if reached_here { Cause::Silent } else { Cause::CutOff };
                self.say_unless_unreachable(now, who, cause);
            }
        } else if tries.silent.contains(&self.own) && lost_for >= self.settings.verdict_after * 2 {
            let status = self.verdict(now, tries, Cause::CutOff);
            self.say_of(who, status);
        }
        self.try_again(now, who, Duration::ZERO);
    }

    fn say_unless_unreachable(&mut self, now: Now, who: &Who, cause: Cause) {
        let unreachable = self.get(who).is_some_and(|known| matches!(known.status, Status::Unreachable { .. }));
        if !unreachable {
            self.say_of(who, Status::Suspected { since: now.wall, cause });
        }
    }

    /// Asks `who` whether it is there, if it stands here and is not being asked.
    pub(super) fn question(&mut self, now: Now, who: &Who) {
        if !self.stands_here(who) || self.records.get(who).is_none_or(|record| record.asked.is_some()) {
            return;
        }
        let number = self.number();
        if let Some(record) = self.records.get_mut(who) {
            record.asked = Some((number, now.mono));
            self.effects.push(Effect::Ask(Arc::clone(who), number));
        }
        self.wake(now, who, self.settings.doubt_after);
    }

    fn ask_if_due(&mut self, now: Now, who: &Who, held: bool) {
        let (settings, own) = (self.settings, self.own.clone());
        let Some(record) = self.records.get_mut(who) else { return };
        match &mut record.asked {
            None if now.mono.since(record.told) >= settings.ask_every => self.question(now, who),
            None => {}
            Some((_, since)) if held => *since = now.mono,
            Some((_, since)) => {
                let silent = now.mono.since(*since);
                if silent >= settings.silent_for {
                    self.close(who);
                    self.move_to(who, Phase::Lost(Tries::new(now.mono)));
                    self.say_of(who, Status::Unreachable { since: now.wall, by: BTreeSet::from([own]) });
                    self.try_again(now, who, Duration::ZERO);
                } else if silent >= settings.answer_within {
                    self.say_unless_unreachable(now, who, Cause::Silent);
                }
            }
        }
    }
}

impl Core {
    /// The session that stands here in the place `drawn` of [`Core::held`], if its process may be asked to try another.
    pub fn observer(&self, drawn: usize) -> Option<&Who> {
        let who = self.seats.get(drawn)?;
        let good = self.records.get(who).is_some_and(|record| {
            record.phase == Phase::Standing && record.listing.status == Status::Alive && record.asked.is_none()
        });
        good.then_some(who)
    }
}
