//! How a process leaves without failing a call: it takes no new ones, and those under way end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// What is under way, and whether more is taken. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Leaving(Arc<Inner>);

struct Inner {
    left: watch::Sender<bool>,
    under_way: AtomicUsize,
    /// Told each time when nothing is under way any more.
    idle: tokio::sync::Notify,
}

impl Leaving {
    pub(crate) fn new() -> Leaving {
        let (left, _) = watch::channel(false);
        Leaving(Arc::new(Inner { left, under_way: AtomicUsize::new(0), idle: tokio::sync::Notify::new() }))
    }

    /// No new calls from now on.
    pub(crate) fn leave(&self) {
        self.0.left.send_replace(true);
    }

    pub(crate) fn has_left(&self) -> bool {
        *self.0.left.borrow()
    }

    /// Completes when [`Leaving::leave`] was called.
    pub(crate) async fn left(&self) {
        let mut left = self.0.left.subscribe();
        // The sender is held here, so that it cannot be gone.
        let _never_fails = left.wait_for(|left| *left).await;
    }

    /// A call has begun; it ends when what is returned is dropped. Whoever begins asks afterwards whether it still may:
    /// the other way round one could slip in between the last look at what is under way and the end.
    pub(crate) fn begin(&self) -> UnderWay {
        self.0.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(self.clone())
    }

    /// Completes when nothing is under way.
    pub(crate) async fn drained(&self) {
        loop {
            let mut idle = std::pin::pin!(self.0.idle.notified());
            idle.as_mut().enable();
            if self.0.under_way.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// A call that is under way.
pub(crate) struct UnderWay(Leaving);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.0.under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.0.idle.notify_waiters();
        }
    }
}
