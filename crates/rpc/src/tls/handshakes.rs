//! Handshakes in progress: they are bounded, and who is slow keeps nobody out.
//!
//! Anybody who reaches the port may begin one, with or without a certificate. When all places are taken, one more takes
//! that of the oldest, which has had its time by then: an honest handshake is a matter of milliseconds.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use parking_lot::Mutex;
use tokio::sync::Notify;
use world::{Mono, World};

/// Handshakes in progress; further connections wait in the kernel's queue.
const PLACES: usize = 512;
/// Nobody's place is taken sooner: not even when everybody comes at once, after an outage.
const TIME_LEAST: Duration = Duration::from_secs(1);

/// The places of one listener.
pub(super) struct Handshakes {
    world: World,
    open: Mutex<Open>,
    /// A place has become free.
    freed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: BTreeMap<u64, (Mono, Arc<Notify>)>,
}

impl Handshakes {
    pub(super) fn new(world: &World) -> Arc<Handshakes> {
        Arc::new(Handshakes { world: world.clone(), open: Mutex::default(), freed: Notify::new() })
    }

    /// A place, as soon as there is one.
    pub(super) async fn place(self: &Arc<Self>) -> Place {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            match self.try_place() {
                Ok(place) => return place,
                Err(wait) => drop(select(freed, self.world.sleep(wait)).await),
            }
        }
    }

    /// A place, or how long to wait until the oldest has had its time.
    fn try_place(self: &Arc<Self>) -> Result<Place, Duration> {
        let now = self.world.now();
        let mut open = self.open.lock();
        if open.all.len() >= PLACES {
            let age = open.all.first_key_value().map_or(TIME_LEAST, |(_, (since, _))| now.since(*since));
            if age < TIME_LEAST {
                return Err(TIME_LEAST - age);
            }
            if let Some((_, (_, taken))) = open.all.pop_first() {
                taken.notify_one();
            }
        }
        open.next += 1;
        let (number, taken) = (open.next, Arc::new(Notify::new()));
        open.all.insert(number, (now, Arc::clone(&taken)));
        Ok(Place { handshakes: Arc::clone(self), number, taken })
    }
}

/// One of the places; free when it is dropped.
pub(super) struct Place {
    handshakes: Arc<Handshakes>,
    number: u64,
    taken: Arc<Notify>,
}

impl Place {
    /// Completes when somebody else has it.
    pub(super) async fn taken(&self) {
        self.taken.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handshakes.open.lock().all.remove(&self.number);
        self.handshakes.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use world::os::OsHost;

    use super::*;

    #[tokio::test]
    async fn one_more_takes_the_place_of_the_oldest_when_that_has_had_its_time() {
        let dir = std::env::temp_dir();
        let world = OsHost::world(tokio::runtime::Handle::current(), &dir);
        let handshakes = Handshakes::new(&world);
        let mut places = Vec::new();
        for _ in 0..PLACES {
            places.push(handshakes.place().await);
        }
        assert!(handshakes.try_place().is_err(), "the oldest has not had its time");
        let begun = world.now();
        let more = handshakes.place().await;
        assert!(world.now().since(begun) <= TIME_LEAST * 2);
        places[0].taken().await;
        assert_eq!(handshakes.open.lock().all.len(), PLACES);
        // One that is free is had at once.
        drop(more);
        drop(handshakes.try_place().expect("a place is free"));
    }
}
