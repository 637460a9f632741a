//! After a start of the agent: what the log says meets what is found.
//!
//! Guests that run are adopted. An act that had begun goes on where it can, and is undone where it cannot: by the same
//! stages as ever. A guest that should run and does not is told of, or started again if the machine itself was booted
//! and the guest is to come back. What the log does not know is kept, and shown.

use std::collections::{BTreeMap, BTreeSet};

use driver::{DriverError, Found, GuestId, Observed, Run, StopCause};
use planted::Bug;

use crate::act::pause;
use crate::core::{CallFor, Core, Effect, Op, Phase, Then, Timer, seen};
use crate::doing::{Doing, Stage};
use crate::entry::{Begun, Entry};

const BOOTED: &str = "the machine that it ran on was restarted";
const AWAY: &str = "it ended while the agent of its node was away";

impl Core {
    pub(crate) fn found(&mut self, result: Result<Vec<Found>, DriverError>, out: &mut Vec<Effect>) {
        let Phase::Finding { tries, early } = &mut self.phase else { return };
        let found = match result {
            Ok(found) => found,
            Err(_) => {
                *tries += 1;
                let when = self.now + pause(*tries);
                return self.wake(when, Timer::Find, out);
            }
        };
        let early = std::mem::take(early);
        let found: BTreeMap<GuestId, Observed> = found.into_iter().map(|found| (found.guest, found.observed)).collect();
        self.phase = Phase::Up { resuming: BTreeSet::new() };
        for observed in found.values() {
            // A number that was given is not given again, whatever has become of the log.
            self.state.run = self.state.run.max(seen(*observed).1);
        }
        let known =
            |guest: &GuestId| self.state.guests.contains_key(guest) || self.state.unfinished.contains_key(guest);
        self.strangers = found.iter().filter(|(guest, _)| !known(guest)).map(|(guest, seen)| (*guest, *seen)).collect();

        if planted::is(Bug::DestroysStrangers) {
            for guest in self.strangers.keys().copied().collect::<Vec<_>>() {
                self.call(CallFor::Act(guest), Op::Absent(guest), out);
            }
        }
        for guest in self.state.guests.keys().copied().collect::<Vec<_>>() {
            self.adopt(guest, found.get(&guest).copied(), out);
        }
        for begun in self.state.unfinished.values().cloned().collect::<Vec<_>>() {
            self.roll_forward(begun, &found, out);
        }
        self.boot_is_over(out);
        out.push(Effect::Ready);
        for input in early {
            self.on(self.now, input, out);
        }
    }

    fn booted(&self) -> bool {
        self.state.boot != self.boot
    }

    fn adopt(&mut self, id: GuestId, observed: Option<Observed>, out: &mut Vec<Effect>) {
        let (booted, busy) = (self.booted(), self.state.unfinished.contains_key(&id));
        let Some(guest) = self.state.guests.get_mut(&id) else { return };
        let (life, run) = observed.map_or((crate::Life::Stopped, Run(0)), seen);
        if life.is_up() {
            if !busy {
                guest.run = run;
            }
            guest.life = life;
            return;
        }
        if busy {
            return;
        }
        let (run, cause) = (guest.run, if booted { BOOTED } else { AWAY });
        if !guest.life.is_up() {
            return self.tell(id, out);
        }
        if booted && self.resume_after_boot {
            let run = self.state.next_run();
            if let Phase::Up { resuming } = &mut self.phase {
                resuming.insert(id);
            }
            self.doing.insert(id, Doing::after_boot(id, run));
            self.append(vec![Entry::RunRaised { guest: id, run }], Then::Raised(id), out);
        } else if !planted::is(Bug::SilentAboutEnds) {
            self.append(vec![Entry::RunEnded { guest: id, run, cause: cause.to_owned() }], Then::News(id), out);
        }
    }

    fn roll_forward(&mut self, begun: Begun, found: &BTreeMap<GuestId, Observed>, out: &mut Vec<Effect>) {
        let guest = begun.guest;
        let (life, run) = found.get(&guest).copied().map_or((crate::Life::Stopped, Run(0)), seen);
        let stood = self.state.guests.get(&guest).map(|guest| (guest.life, guest.run));
        let mut doing = Doing::new(begun.clone(), Vec::new());
        if let Some(reason) = self.state.undoing.get(&guest) {
            doing.undoing = Some(reason.clone());
            self.doing.insert(guest, doing);
            return self.undo(guest, out);
        }
        if !begun.act.starts() {
            if let Some((stood, run)) = stood
                && stood.is_up()
                && !life.is_up()
            {
                doing.news = Some((run, StopCause::Died((if self.booted() { BOOTED } else { AWAY }).to_owned())));
            }
            self.doing.insert(guest, doing);
            return self.advance(guest, out);
        }
        if life.is_up() && run == begun.run {
            // It was started: what is left is to see that all of it is there.
            self.doing.insert(guest, doing);
            return self.enter(guest, Stage::Networks, out);
        }
        // Whether it was started and has ended, or never was, cannot be told: it is started under a number of its own.
        doing.halt_first = life.is_up();
        let run = if planted::is(Bug::StartsUnderTheOldNumber) { begun.run } else { self.state.next_run() };
        doing.raise(run);
        self.doing.insert(guest, doing);
        self.append(vec![Entry::RunRaised { guest, run }], Then::Raised(guest), out);
    }

    /// Records the boot of the machine once every guest has been seen to.
    pub(crate) fn boot_is_over(&mut self, out: &mut Vec<Effect>) {
        let over = match &self.phase {
            Phase::Finding { .. } => false,
            Phase::Up { resuming } => resuming.is_empty(),
        };
        if over && self.booted() {
            self.append(vec![Entry::Boot(self.boot.clone())], Then::Nothing, out);
        }
    }
}
