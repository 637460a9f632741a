//! A bound on how many of something there are at a time, which may be moved while it is in use.
//!
//! When it is lowered, nothing that goes on is cut off: what is over the bound is let run out, and nothing new begins
//! until enough has ended.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bound. Cloning shares it.
#[derive(Clone)]
pub struct Permits(Arc<Inside>);

struct Inside {
    semaphore: Arc<Semaphore>,
    bound: Mutex<Bound>,
}

struct Bound {
    most: usize,
    /// Permits that are out and shall not come back.
    over: usize,
}

/// The right to one; given back when dropped.
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    inside: Arc<Inside>,
}

impl Permits {
    /// At most so many.
    pub fn new(most: usize) -> Permits {
        let most = most.min(Semaphore::MAX_PERMITS);
        let semaphore = Arc::new(Semaphore::new(most));
        Permits(Arc::new(Inside { semaphore, bound: Mutex::new(Bound { most, over: 0 }) }))
    }

    /// At most so many from now on.
    pub fn resize(&self, most: usize) {
        let most = most.min(Semaphore::MAX_PERMITS);
        let mut bound = self.0.bound.lock();
        if most > bound.most {
            let more = most - bound.most;
            let kept = more.min(bound.over);
            bound.over -= kept;
            self.0.semaphore.add_permits(more - kept);
        } else {
            let fewer = bound.most - most;
            bound.over += fewer - self.0.semaphore.forget_permits(fewer);
        }
        bound.most = most;
    }

    /// The bound.
    pub fn most(&self) -> usize {
        self.0.bound.lock().most
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        (self.most() + self.over()).saturating_sub(self.0.semaphore.available_permits())
    }

    /// How many are held beyond the bound, because it was lowered.
    pub fn over(&self) -> usize {
        self.0.bound.lock().over
    }

    /// One, if there is one left.
    pub fn try_acquire(&self) -> Option<Permit> {
        Arc::clone(&self.0.semaphore).try_acquire_owned().ok().map(|permit| self.permit(permit))
    }

    /// Waits until there is one left.
    pub async fn acquire(&self) -> Permit {
        // The semaphore is never closed; if it were, nothing would be left to wait for.
        match Arc::clone(&self.0.semaphore).acquire_owned().await {
            Ok(permit) => self.permit(permit),
            Err(_closed) => std::future::pending().await,
        }
    }

    fn permit(&self, permit: OwnedSemaphorePermit) -> Permit {
        Permit { permit: Some(permit), inside: Arc::clone(&self.0) }
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {}", self.most())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut bound = self.inside.bound.lock();
        if bound.over > 0
            && let Some(permit) = self.permit.take()
        {
            bound.over -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_waits_is_let_in_when_the_bound_rises() {
        let permits = Permits::new(1);
        let held = permits.try_acquire().expect("it is free");
        let mut waiting = Box::pin(permits.acquire());
        assert!(waiting.as_mut().now_or_never().is_none());
        permits.resize(2);
        let second = waiting.now_or_never().expect("there is room");
        permits.resize(1);
        drop(held);
        assert!(permits.try_acquire().is_none(), "what was over the bound does not come back");
        drop(second);
        assert!(permits.try_acquire().is_some());
    }

    proptest! {
        #[test]
        fn never_more_than_the_bound_begin_and_none_is_lost(acts in prop::collection::vec((0_u8..3, 0_usize..6), 1..80)) {
            let permits = Permits::new(3);
            let (mut held, mut most) = (Vec::new(), 3);
            for (act, number) in acts {
                match act {
                    0 => {
                        let got = permits.try_acquire();
                        prop_assert_eq!(got.is_some(), held.len() < most);
                        held.extend(got);
                    }
                    1 if number < held.len() => drop(held.swap_remove(number)),
                    1 => {}
                    _ => {
                        permits.resize(number);
                        most = number;
                    }
                }
            }
            held.clear();
            let all: Vec<Permit> = std::iter::from_fn(|| permits.try_acquire()).take(100).collect();
            prop_assert_eq!(all.len(), most);
        }
    }
}
