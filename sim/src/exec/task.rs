//! Which tasks can run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct Ready {
    /// Tasks that can run, each once.
    pub(super) queue: Vec<u64>,
    /// The same: those that were woken since their last poll began.
    pub(super) woken: BTreeSet<u64>,
}

pub(super) struct TaskWaker {
    id: u64,
    ready: Arc<Mutex<Ready>>,
}

impl TaskWaker {
    pub(super) fn waker(id: u64, ready: &Arc<Mutex<Ready>>) -> Waker {
        Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(ready) }))
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = self.ready.lock();
        if ready.woken.insert(self.id) {
            ready.queue.push(self.id);
        }
    }
}
