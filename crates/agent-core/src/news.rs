//! What guests do by themselves, and telling the cell of it until it has taken note.

use driver::{GuestId, Observed, Run, StopCause};

use crate::core::{Core, Effect, Then};
use crate::entry::Entry;
use crate::order::{Life, Note};

impl Core {
    /// A run has ended by itself. Told after an act that is under way, and only if it is still true then.
    pub(crate) fn ended(&mut self, guest: GuestId, run: Run, cause: &StopCause, out: &mut Vec<Effect>) {
        if let Some(doing) = self.doing.get_mut(&guest) {
            if doing.news.as_ref().is_none_or(|(earlier, _)| *earlier <= run) {
                doing.news = Some((run, cause.clone()));
            }
            return;
        }
        if let Some(stranger) = self.strangers.get_mut(&guest) {
            *stranger = Observed::Stopped;
        }
        let Some(known) = self.state.guests.get(&guest) else { return };
        if known.run != run || !known.life.is_up() {
            return;
        }
        let cause = match cause {
            StopCause::PoweredOff => "the guest powered itself off".to_owned(),
            StopCause::Died(how) => how.clone(),
        };
        self.append(vec![Entry::RunEnded { guest, run, cause }], Then::News(guest), out);
    }

    pub(crate) fn news_recorded(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        self.tell(guest, out);
    }

    /// Tells the cell what it does not know of `guest` yet.
    pub(crate) fn tell(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        let news = self.state.guests.get(&guest).and_then(|guest| guest.news.clone());
        if let Some((run, cause)) = news {
            out.push(Effect::Report(Note { guest, life: Life::Stopped, run, cause, known: true }));
        }
    }

    /// The cell has taken note of the end of `run`.
    pub(crate) fn reported(&mut self, guest: GuestId, run: Run, out: &mut Vec<Effect>) {
        let news = self.state.guests.get(&guest).and_then(|guest| guest.news.as_ref());
        if news.is_some_and(|(told, _)| *told <= run) {
            self.append(vec![Entry::Reported { guest, run }], Then::Nothing, out);
        }
    }
}
