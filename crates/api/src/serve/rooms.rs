//! Who holds a connection, and who has to give it up when there is no room for the next one.
//!
//! A client that opens connections and says nothing, or says a head letter by letter, could hold all of them while
//! others wait outside. So the newcomer is let in at the expense of whoever has been of least use: the connection on
//! which no request is being answered and to which nothing has been sent for longest. What is being answered is never
//! cut off.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use config::{Permit, Permits};
use futures_util::future::BoxFuture;
use http::Request;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tower::Service;
use world::{Mono, World};

/// A connection to which something was sent within this span is in use.
const IN_USE_SPAN: Duration = Duration::from_secs(1);
/// Between two looks for somebody who can leave.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// All connections.
#[derive(Clone)]
pub(super) struct Rooms {
    world: World,
    slots: Permits,
    held: Arc<Held>,
}

/// The connections that there are.
#[derive(Default)]
struct Held {
    rooms: Mutex<BTreeMap<u64, Arc<Room>>>,
    left: Notify,
}

/// What is known of one connection.
pub(super) struct Room {
    since: Mono,
    /// Requests that are being answered.
    busy: AtomicU32,
    /// When something was last sent, in microseconds after `since`.
    sent: AtomicU64,
    leave: Notify,
}

/// The right to one connection; given back when dropped.
pub(super) struct Key {
    number: u64,
    pub(super) room: Arc<Room>,
    held: Arc<Held>,
    _slot: Permit,
}

impl Rooms {
    pub(super) fn new(world: &World, connections: &Permits) -> Rooms {
        Rooms { world: world.clone(), slots: connections.clone(), held: Arc::default() }
    }

    /// Room for one more, at another's expense if there is no other way.
    pub(super) async fn enter(&self, number: u64) -> Key {
        let slot = loop {
            if let Some(slot) = self.slots.try_acquire() {
                break slot;
            }
            // One makes room for who has come; if the bound was lowered, others have to go before that.
            self.ask_to_leave(self.slots.over() + 1);
            if let Ok(slot) = self.world.timeout(LOOK_PAUSE, self.slots.acquire()).await {
                break slot;
            }
        };
        let since = self.world.now();
        let room = Arc::new(Room { since, busy: AtomicU32::new(0), sent: AtomicU64::new(0), leave: Notify::new() });
        self.held.rooms.lock().insert(number, Arc::clone(&room));
        Key { number, room, held: Arc::clone(&self.held), _slot: slot }
    }

    fn ask_to_leave(&self, count: usize) {
        let now = self.world.now();
        let held = self.held.rooms.lock();
        let idle = held.values().filter(|room| room.busy.load(Ordering::Relaxed) == 0);
        let mut idle: Vec<_> = idle.map(|room| (room.last_use(), room)).collect();
        idle.sort_by_key(|(last, _)| *last);
        // Who has just come may be shaking hands: it is asked only when nobody has been there for longer.
        let can_leave = |(last, room): &(Mono, &Arc<Room>)| now.since(*last) > IN_USE_SPAN || *last == room.since;
        idle.iter().take(count).filter(|one| can_leave(one)).for_each(|(_, room)| room.leave.notify_one());
    }

    /// Returns when nobody is left.
    pub(super) async fn empty(&self) {
        loop {
            let mut left = std::pin::pin!(self.held.left.notified());
            left.as_mut().enable();
            if self.held.rooms.lock().is_empty() {
                return;
            }
            left.await;
        }
    }
}

impl Room {
    /// Notes that something was sent.
    pub(super) fn sent(&self, now: Mono) {
        let micros = u64::try_from(now.since(self.since).as_micros()).unwrap_or(u64::MAX);
        self.sent.store(micros, Ordering::Relaxed);
    }

    fn last_use(&self) -> Mono {
        self.since + Duration::from_micros(self.sent.load(Ordering::Relaxed))
    }

    /// Returns when the room is needed for another.
    pub(super) async fn is_needed(&self) {
        loop {
            self.leave.notified().await;
            // A request may have come meanwhile.
            if self.busy.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.held.rooms.lock().remove(&self.number);
        self.held.left.notify_waiters();
    }
}

/// The router, as one connection uses it: it knows when a request is being answered.
#[derive(Clone)]
pub(super) struct Counted {
    router: Router,
    room: Arc<Room>,
}

/// Counts a request as long as it lives, however it ends.
struct Busy(Arc<Room>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counted {
    pub(super) fn new(router: &Router, room: &Arc<Room>) -> TowerToHyperService<Counted> {
        TowerToHyperService::new(Counted { router: router.clone(), room: Arc::clone(room) })
    }
}

impl Service<Request<hyper::body::Incoming>> for Counted {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<hyper::body::Incoming>>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, request: Request<hyper::body::Incoming>) -> Self::Future {
        self.room.busy.fetch_add(1, Ordering::Relaxed);
        let busy = Busy(Arc::clone(&self.room));
        let answering = self.router.call(request);
        Box::pin(async move {
            let answer = answering.await;
            drop(busy);
            answer
        })
    }
}
