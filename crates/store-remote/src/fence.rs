//! What keeps a late commit out: after a client has been answered, nothing that it sent before and gave up can happen.
//!
//! A request can stay on its way for long: in the buffers of a host that stands still, in a copy that a network made. A
//! transaction's preconditions alone do not stop it, because the world may come back to where they hold: a server is
//! created, deleted, and a late copy of its creation finds all its keys absent. So every client numbers its commits, and
//! tells with each the oldest number that it still waits for; the store refuses what is older, and what it has seen. All
//! of that holds for one life of the store, whose number a request carries too. (Client sessions, as in Ongaro's
//! dissertation on Raft, section 6.3, without the stored answers: here a duplicate's answer goes to nobody.)

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use world::World;

/// Clients that are remembered; each life of a process is one. The one that was silent for longest is forgotten first.
const CLIENTS_MAX: usize = 4096;

/// Where a request stands among those of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The life of the store that it is meant for.
    pub(crate) life: u64,
    /// The client.
    pub(crate) client: u64,
    /// Its number.
    pub(crate) number: u64,
    /// The oldest number that the client still waits for.
    pub(crate) waits_from: u64,
}

/// Why a request is kept out. Nothing of it has happened, nor will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is meant for another life of the store; this one's number.
    OtherLife(u64),
    /// Its client does not wait for it any more, or it is a copy.
    Overtaken,
}

#[derive(Default)]
struct Client {
    waits_from: u64,
    seen: BTreeSet<u64>,
    /// When it was heard of last, in requests.
    heard: u64,
}

#[derive(Default)]
struct Clients {
    known: BTreeMap<u64, Client>,
    requests: u64,
}

/// The store's side.
pub(crate) struct Gate {
    life: u64,
    clients: Mutex<Clients>,
}

impl Gate {
    pub(crate) fn new(world: &World) -> Gate {
        // Zero is what a client says that has not been told yet.
        Gate { life: u64::from_le_bytes(world.random()) | 1, clients: Mutex::default() }
    }

    pub(crate) fn admit(&self, place: Place) -> Result<(), Kept> {
        if place.life != self.life {
            return Err(Kept::OtherLife(self.life));
        }
        let clients = &mut *self.clients.lock();
        clients.requests += 1;
        let client = clients.known.entry(place.client).or_default();
        client.heard = clients.requests;
        if place.number < client.waits_from || !client.seen.insert(place.number) {
            return Err(Kept::Overtaken);
        }
        client.waits_from = client.waits_from.max(place.waits_from);
        client.seen = client.seen.split_off(&client.waits_from);
        if clients.known.len() > CLIENTS_MAX {
            let silent = clients.known.iter().min_by_key(|(_, client)| client.heard).map(|(id, _)| *id);
            silent.and_then(|id| clients.known.remove(&id));
        }
        Ok(())
    }
}

#[derive(Default)]
struct Waiting {
    next: u64,
    numbers: BTreeSet<u64>,
    life: u64,
}

/// The client's side.
pub(crate) struct Queue {
    client: u64,
    waiting: Mutex<Waiting>,
}

/// A commit whose answer is waited for; dropping it is giving it up.
pub(crate) struct Turn<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Queue {
    pub(crate) fn new(world: &World) -> Queue {
        Queue { client: u64::from_le_bytes(world.random()), waiting: Mutex::default() }
    }

    pub(crate) fn turn(&self) -> Turn<'_> {
        let waiting = &mut *self.waiting.lock();
        waiting.next += 1;
        waiting.numbers.insert(waiting.next);
        Turn { queue: self, number: waiting.next }
    }

    /// The store has told which life it is in.
    pub(crate) fn in_life(&self, life: u64) {
        self.waiting.lock().life = life;
    }
}

impl Turn<'_> {
    pub(crate) fn place(&self) -> Place {
        let waiting = self.queue.waiting.lock();
        let waits_from = waiting.numbers.first().copied().unwrap_or(self.number);
        Place { life: waiting.life, client: self.queue.client, number: self.number, waits_from }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.queue.waiting.lock().numbers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_given_up_and_what_is_a_copy_is_kept_out() {
        let world = world::os::OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir());
        let (gate, queue, other) = (Gate::new(&world), Queue::new(&world), Queue::new(&world));
        let stranger = queue.turn().place();
        let Err(Kept::OtherLife(life)) = gate.admit(stranger) else { panic!("it has not been told the life yet") };
        queue.in_life(life);
        other.in_life(life);

        // Two that wait side by side may come in any order, each once.
        let (one, two) = (queue.turn(), queue.turn());
        let (first, second) = (one.place(), two.place());
        assert_eq!(gate.admit(second), Ok(()));
        assert_eq!(gate.admit(second), Err(Kept::Overtaken), "a copy");
        // The first is given up while it is on its way; once a later one has come, it is too late.
        drop(one);
        drop(two);
        assert_eq!(gate.admit(queue.turn().place()), Ok(()));
        assert_eq!(gate.admit(first), Err(Kept::Overtaken));
        assert_eq!(gate.admit(other.turn().place()), Ok(()), "clients do not stand in each other's way");
        // A store that was opened again knows nobody, and takes nothing that was meant for its earlier life.
        let again = Gate::new(&world);
        assert!(matches!(again.admit(queue.turn().place()), Err(Kept::OtherLife(now)) if now != life));
    }
}
