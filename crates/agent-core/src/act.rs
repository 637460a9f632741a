//! Acts on guests: entering their stages, their failures, their ends. Which stage follows which is [`Doing`]'s.
//!
//! Removals and undoing are tried again for ever, with growing pauses; everything else a few times.

use std::sync::Arc;
use std::time::Duration;

use driver::{DriverError, GuestId, GuestSpec, NetworkId, Observed};
use planted::Bug;

use crate::core::{CallFor, Core, Effect, Op, Phase, Then, Timer, seen};
use crate::doing::{Cause, Stage};
use crate::entry::Entry;
use crate::nets::Waiter;
use crate::order::{Life, Outcome, Refusal};

/// Tries of a stage that failed in a way that may pass, before it counts as impossible.
pub(crate) const TRIES_MAX: u32 = 3;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The pause after the `tries`-th failure.
pub(crate) fn pause(tries: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(PAUSE_MAX)
}

impl Core {
    /// The log says that the act of `guest` has begun.
    pub(crate) fn begun(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        self.strangers.remove(&guest);
        if planted::is(Bug::AnswersWhenBegun)
            && let Some(doing) = self.doing.get_mut(&guest)
        {
            let stood = self.state.guests.get(&guest).map_or(Life::Absent, |guest| guest.life);
            let (tickets, answer) = (std::mem::take(&mut doing.tickets), doing.outcome(stood).answer());
            self.answer(tickets, &answer, out);
        }
        self.advance(guest, out);
    }

    /// The log knows the number of the run that the act starts.
    pub(crate) fn raised(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        self.advance(guest, out);
    }

    /// The log had no room for the beginning: nothing has happened.
    pub(crate) fn not_begun(&mut self, guest: GuestId, full: &str, out: &mut Vec<Effect>) {
        if let Some(doing) = self.doing.remove(&guest) {
            self.answer(doing.tickets, &Err(Refusal::No(full.into())), out);
        }
        self.next_order(guest, out);
    }

    /// The log had no room for something that has happened or must: it is tried again.
    pub(crate) fn not_recorded(
        &mut self,
        guest: GuestId,
        entries: Vec<Entry>,
        then: Then,
        full: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(doing) = self.doing.get_mut(&guest) else { return };
        doing.owed = Some((entries, then));
        doing.tries += 1;
        let when = self.now + pause(doing.tries);
        let tickets = std::mem::take(&mut doing.tickets);
        self.answer(tickets, &Err(Refusal::Unknown(full.into())), out);
        self.wake(when, Timer::Act(guest), out);
    }

    pub(crate) fn advance(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.get(&guest) else { return };
        let next = doing.following();
        self.enter(guest, next, out);
    }

    pub(crate) fn enter(&mut self, guest: GuestId, stage: Stage, out: &mut Vec<Effect>) {
        let removal_waits = self.removal_waits(guest);
        let Some(doing) = self.doing.get_mut(&guest) else { return };
        if doing.stage != stage {
            doing.tries = 0;
        }
        doing.stage = stage;
        doing.resting = false;
        let (run, undoing) = (doing.run(), doing.undoing.is_some());
        if removal_waits && !doing.removes() && stage != Stage::Recording {
            return self.abandon(guest, out);
        }
        let op = match stage {
            Stage::Logging => return,
            Stage::Recording => return self.finish(guest, out),
            Stage::Networks => return self.await_own_networks(guest, out),
            Stage::Unplug => return self.unplug(guest, out),
            Stage::Look => return self.look(guest, out),
            Stage::Halt => Some(Op::Stop(guest, if undoing { None } else { doing.grace() })),
            Stage::Prepare => self.spec(guest).map(Op::Prepare),
            Stage::Run => self.spec(guest).map(|spec| Op::Run(spec, run)),
            Stage::Hold => Some(Op::Pause(guest, doing.holds())),
            Stage::Snapshot => doing.image().map(|image| Op::Snapshot(guest, image)),
            Stage::Absent => Some(Op::Absent(guest)),
        };
        match op {
            Some(op) => self.call(CallFor::Act(guest), op, out),
            None => self.act_called(guest, Err(DriverError::Refused("this node has no such guest".into())), out),
        }
    }

    fn spec(&self, guest: GuestId) -> Option<Arc<GuestSpec>> {
        self.state.guests.get(&guest).map(|guest| Arc::clone(&guest.spec))
    }

    /// A stage has come to its end.
    pub(crate) fn act_called(&mut self, guest: GuestId, result: Result<(), DriverError>, out: &mut Vec<Effect>) {
        let error = match result {
            Ok(()) => return self.advance(guest, out),
            Err(error) => error,
        };
        let Some(doing) = self.doing.get_mut(&guest) else { return };
        doing.tries += 1;
        let reason = error.to_string();
        let for_ever = doing.removes() || doing.undoing.is_some();
        let passing = match error {
            DriverError::Failed(_) => doing.tries < TRIES_MAX,
            DriverError::Refused(_) => false,
        };
        if !for_ever && !passing {
            doing.undoing = Some(reason.clone());
            if !doing.logs_its_undoing() {
                return self.undo(guest, out);
            }
            doing.stage = Stage::Logging;
            return self.append(vec![Entry::Undoing { guest, reason }], Then::Undoing(guest), out);
        }
        let tickets = if doing.tries >= TRIES_MAX { std::mem::take(&mut doing.tickets) } else { Vec::new() };
        let told = match &doing.undoing {
            Some(first) => format!("{first}; and it could not be undone yet: {reason}"),
            None => format!("it could not be removed yet: {reason}"),
        };
        doing.resting = true;
        let when = self.now + pause(doing.tries);
        self.answer(tickets, &Err(Refusal::Unknown(told)), out);
        if self.removal_waits(guest) && self.doing.get(&guest).is_some_and(|doing| !doing.removes()) {
            return self.abandon(guest, out);
        }
        self.wake(when, Timer::Act(guest), out);
    }

    /// Begins to undo, or goes on with what an earlier process had begun to undo.
    pub(crate) fn undo(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.get(&guest) else { return };
        let undo = doing.undo();
        self.enter(guest, undo, out);
    }

    /// How the guest of an act that failed stands: what failed may have been done all the same.
    pub(crate) fn looked(
        &mut self,
        guest: GuestId,
        result: Result<Option<Observed>, DriverError>,
        out: &mut Vec<Effect>,
    ) {
        let Some(doing) = self.doing.get_mut(&guest) else { return };
        match result {
            Ok(observed) => {
                doing.seen = Some(observed.map_or(Life::Stopped, |observed| seen(observed).0));
                self.advance(guest, out);
            }
            Err(error) => self.act_called(guest, Err(error), out),
        }
    }

    /// The pause after a failure is over.
    pub(crate) fn rested(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.get_mut(&guest) else { return };
        if let Some((mut entries, then)) = doing.owed.take() {
            for entry in &mut entries {
                if let Entry::Ended { networks_gone, .. } = entry {
                    // Another guest may have come to be on one of them meanwhile.
                    *networks_gone = self.gone_networks(std::mem::take(networks_gone));
                }
            }
            return self.append(entries, then, out);
        }
        if doing.resting {
            let stage = doing.stage;
            self.enter(guest, stage, out);
        }
    }

    /// A removal has come to wait for `guest`: what only pauses makes way at once, the rest at its next boundary.
    pub(crate) fn make_way(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        if self.doing.get(&guest).is_some_and(|doing| doing.resting && !doing.removes()) {
            self.abandon(guest, out);
        }
    }

    fn removal_waits(&self, guest: GuestId) -> bool {
        self.queues.get(&guest).is_some_and(|queue| queue.iter().any(|(order, _)| order.act.removes()))
    }

    fn abandon(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.get_mut(&guest) else { return };
        // Taken: what is abandoned is not undone, and its guest is still on its networks.
        let reason = match doing.undoing.take() {
            Some(reason) => format!("{reason}; the guest is being removed"),
            None => "given up, because the guest is to be removed".to_owned(),
        };
        self.record(guest, Outcome::Abandoned { reason }, Vec::new(), out);
    }

    fn finish(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.get(&guest) else { return };
        let stood = self.state.guests.get(&guest).map_or(Life::Absent, |guest| guest.life);
        let outcome = doing.outcome(stood);
        let gone = if doing.leaves() { doing.unplugged() } else { Vec::new() };
        let gone = self.gone_networks(gone);
        self.record(guest, outcome, gone, out);
    }

    fn record(&mut self, guest: GuestId, outcome: Outcome, gone: Vec<NetworkId>, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.get_mut(&guest) else { return };
        doing.stage = Stage::Recording;
        doing.resting = false;
        doing.tries = 0;
        match &doing.cause {
            Cause::Order(begun) => {
                let (work, step) = (begun.work, begun.step);
                let ended = Entry::Ended { work, step, guest, outcome, networks_gone: gone };
                self.append(vec![ended], Then::Ended(guest), out);
            }
            Cause::Boot { run, .. } => {
                let run = *run;
                let entries = match outcome {
                    // The log has it as running under this number already.
                    Outcome::Done(_) => Vec::new(),
                    Outcome::Refused { reason: cause, .. } | Outcome::Abandoned { reason: cause } => {
                        vec![Entry::RunEnded { guest, run, cause }]
                    }
                };
                self.append(entries, Then::Resumed(guest), out);
            }
        }
    }

    /// The log knows how the act of `guest` ended.
    pub(crate) fn recorded(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.remove(&guest) else { return };
        match &doing.cause {
            Cause::Order(begun) => {
                let ended = self.state.works.get(&begun.work).and_then(|work| work.ended.get(&begun.step));
                if let Some(outcome) = ended.cloned() {
                    self.answer(doing.tickets, &outcome.answer(), out);
                }
                if begun.created < self.state.floor {
                    self.forget();
                }
                self.tell(guest, out);
            }
            Cause::Boot { guest, .. } => {
                let guest = *guest;
                self.tell(guest, out);
                self.resumed(guest, out);
            }
        }
        if let Some((run, cause)) = doing.news {
            self.ended(guest, run, &cause, out);
        }
        self.next_order(guest, out);
    }

    /// Waits until the networks of `guest` are as they must be.
    fn await_own_networks(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let known = self.state.guests.get(&guest);
        let nics = known.map(|guest| guest.spec.nics.as_slice()).unwrap_or_default();
        let wanted = nics.iter().filter(|nic| self.state.described.networks.contains_key(&nic.network));
        let wanted: Vec<_> = wanted.map(|nic| (nic.network, self.version_of(nic.network))).collect();
        let Some(doing) = self.doing.get_mut(&guest) else { return };
        for (network, version) in wanted {
            doing.needs.entry(network).or_insert(version);
        }
        let mut pending: Vec<_> = doing.needs.iter().map(|(network, version)| (*network, *version)).collect();
        pending.retain(|(network, version)| !self.is_made(*network, *version));
        if pending.is_empty() {
            return self.advance(guest, out);
        }
        for (network, _) in pending {
            self.await_network(network, Waiter::Act(guest), out);
        }
    }

    /// Whether a guest other than those being removed is on `network` or about to be.
    pub(crate) fn is_used(&self, network: NetworkId) -> bool {
        let on = |spec: &GuestSpec| spec.nics.iter().any(|nic| nic.network == network);
        let leaves = |guest: &GuestId| {
            self.doing
                .get(guest)
                .is_some_and(|doing| matches!(doing.stage, Stage::Unplug | Stage::Recording) && doing.leaves())
        };
        self.state.guests.iter().any(|(id, guest)| on(&guest.spec) && !leaves(id))
            || self.doing.values().any(|doing| doing.stage == Stage::Logging && doing.builds().is_some_and(on))
    }

    fn unplug(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.get(&guest) else { return };
        let mut pending = doing.unplugged();
        pending.retain(|network| !self.is_used(*network) && !self.is_gone(*network));
        if pending.is_empty() {
            return self.advance(guest, out);
        }
        for network in pending {
            self.remove_network(network, Waiter::Act(guest), out);
        }
    }

    /// Something that the act waits for among the networks has changed.
    pub(crate) fn networks_changed(&mut self, guest: GuestId, result: Result<(), DriverError>, out: &mut Vec<Effect>) {
        let Some(doing) = self.doing.get(&guest) else { return };
        match (doing.stage, doing.resting) {
            (Stage::Networks | Stage::Unplug, false) => match result {
                Ok(()) => {
                    let stage = doing.stage;
                    self.enter(guest, stage, out);
                }
                Err(error) => self.act_called(guest, Err(error), out),
            },
            (Stage::Networks | Stage::Unplug, true)
            | (
                Stage::Logging
                | Stage::Halt
                | Stage::Prepare
                | Stage::Run
                | Stage::Hold
                | Stage::Look
                | Stage::Snapshot
                | Stage::Absent
                | Stage::Recording,
                _,
            ) => {}
        }
    }

    /// A guest that a boot had stopped runs again, or will not.
    fn resumed(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        if let Phase::Up { resuming } = &mut self.phase {
            resuming.remove(&guest);
        }
        self.boot_is_over(out);
    }
}
