//! What this process has under way with whom, and who has just refused something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pki::Identity;
use world::{Mono, World};

use super::choice::{choose, rank};
use crate::listing::Listing;

/// Who has refused a call is passed over for this long while there are others. By then liveness knows more.
const AVOID: Duration = Duration::from_secs(1);
/// So many more entries than there is need for are kept before they are looked through.
const SLACK: usize = 64;

#[derive(Default)]
pub(super) struct Books(Mutex<BTreeMap<Identity, Entry>>);

#[derive(Default)]
struct Entry {
    in_flight: usize,
    /// The session that has refused something, and how long that counts: another one has refused nothing.
    refuses: Option<(u64, Mono)>,
}

impl Books {
    /// Chooses one of `known` and counts a call to it.
    pub(super) fn take(self: &Arc<Self>, mut known: Vec<Arc<Listing>>, zone: &str, world: &World) -> Option<Taken> {
        let now = world.now();
        let mut entries = self.0.lock();
        let rank_of = |listing: &Arc<Listing>| {
            let entry = entries.get(&listing.who);
            let in_flight = entry.map_or(0, |entry| entry.in_flight);
            rank(listing, zone, in_flight, entry.is_some_and(|entry| entry.refuses(listing.session, now)))
        };
        let ranks: Vec<_> = known.iter().map(rank_of).collect();
        let chosen = choose(&ranks, |below| world.random_below(below))?;
        if entries.len() > known.len() + SLACK {
            entries.retain(|_, entry| entry.in_flight > 0 || entry.refuses.is_some_and(|(_, until)| now < until));
        }
        let listing = known.swap_remove(chosen);
        entries.entry(listing.who.clone()).or_default().in_flight += 1;
        Some(Taken { books: Arc::clone(self), listing })
    }
}

impl Entry {
    fn refuses(&self, session: u64, now: Mono) -> bool {
        self.refuses.is_some_and(|(refused, until)| refused == session && now < until)
    }
}

/// A call that was given to somebody; under way until this is dropped.
pub(super) struct Taken {
    books: Arc<Books>,
    pub(super) listing: Arc<Listing>,
}

impl Taken {
    /// To whom.
    pub(super) fn session(&self) -> (Identity, u64) {
        (self.listing.who.clone(), self.listing.session)
    }

    /// It was refused, at `now`.
    pub(super) fn avoid(&self, now: Mono) {
        if let Some(entry) = self.books.0.lock().get_mut(&self.listing.who) {
            entry.refuses = Some((self.listing.session, now + AVOID));
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut entries = self.books.0.lock();
        let Some(entry) = entries.get_mut(&self.listing.who) else { return };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if entry.in_flight == 0 && entry.refuses.is_none() {
            entries.remove(&self.listing.who);
        }
    }
}
