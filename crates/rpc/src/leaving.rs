//! How a process leaves without failing a call: it takes no new ones, those under way end, then it hangs up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It takes calls.
    Serving,
    /// It takes none. Connections that were there are ended when their calls have ended; who comes now is told.
    Left,
    /// No call is under way. Nobody is listened to any more, and answers that have no end are ended.
    Closed,
}

/// The stage, what is under way, and who is connected. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Leaving(Arc<Inner>);

struct Inner {
    stage: watch::Sender<Stage>,
    calls: Arc<Count>,
    connections: Arc<Count>,
}

impl Leaving {
    pub(crate) fn new() -> Leaving {
        let (stage, _) = watch::channel(Stage::Serving);
        Leaving(Arc::new(Inner { stage, calls: Arc::default(), connections: Arc::default() }))
    }

    /// Goes on to `stage`; never back.
    pub(crate) fn go_to(&self, stage: Stage) {
        self.0.stage.send_if_modified(|now| std::mem::replace(now, stage.max(*now)) < stage);
    }

    pub(crate) fn has_left(&self) -> bool {
        *self.0.stage.borrow() >= Stage::Left
    }

    /// Completes when it is as far as `stage`.
    pub(crate) async fn reached(self, stage: Stage) {
        let mut now = self.0.stage.subscribe();
        // The sender is held here, so that it cannot be gone.
        let _never_fails = now.wait_for(|now| *now >= stage).await;
    }

    /// Calls that are under way. Whoever begins one asks afterwards whether it still may: the other way round one could
    /// slip in between the last look at this and the end.
    pub(crate) fn calls(&self) -> &Arc<Count> {
        &self.0.calls
    }

    /// Connections that are open, or about to be.
    pub(crate) fn connections(&self) -> &Arc<Count> {
        &self.0.connections
    }
}

/// Counts what has begun and has not ended.
#[derive(Default)]
pub(crate) struct Count {
    now: AtomicUsize,
    /// Told each time when there is nothing any more.
    none: Notify,
}

impl Count {
    /// One more, until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Counted {
        self.now.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(self))
    }

    /// Completes when there is nothing.
    pub(crate) async fn none(&self) {
        loop {
            let mut none = std::pin::pin!(self.none.notified());
            none.as_mut().enable();
            if self.now.load(Ordering::SeqCst) == 0 {
                return;
            }
            none.await;
        }
    }
}

/// One that is counted.
pub(crate) struct Counted(Arc<Count>);

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.now.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
