//! Watches over the commits that the core still holds.
//!
//! A watch is only a position in the history, so a slow watcher costs nothing but its own place: it is told
//! `Compacted` when the history has moved past it.

use std::sync::Arc;

use async_trait::async_trait;
use planted::Bug;

use super::Shared;
use crate::port::{Batch, KeyRange, Revision, Watch, WatchError};

/// Commits that a watch looks through at once.
const WATCH_COMMITS_MAX: usize = 1024;

pub(super) fn open(shared: &Arc<Shared>, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
    if let Some(reason) = &*shared.closed.read() {
        return Err(WatchError::Closed { reason: reason.clone() });
    }
    match shared.core.read().since(after, 0) {
        Some(_) => Ok(Box::new(EngineWatch { shared: Arc::clone(shared), range: range.clone(), after })),
        None => Err(WatchError::Compacted { after }),
    }
}

struct EngineWatch {
    shared: Arc<Shared>,
    range: KeyRange,
    /// Everything up to this commit was handed out, or does not touch the range.
    after: Revision,
}

#[async_trait]
impl Watch for EngineWatch {
    async fn next(&mut self) -> Result<Vec<Arc<Batch>>, WatchError> {
        loop {
            let mut applied = std::pin::pin!(self.shared.applied.notified());
            // From here on no commit can pass unnoticed between the look below and the wait.
            applied.as_mut().enable();
            let batches = self.shared.core.read().since(self.after, WATCH_COMMITS_MAX);
            let Some(batches) = batches else { return Err(WatchError::Compacted { after: self.after }) };
            if let Some(last) = batches.last() {
                self.after = last.revision;
                let mut touched: Vec<_> = batches.iter().filter_map(|batch| narrowed(batch, &self.range)).collect();
                if planted::is(Bug::WatchLosesTheRest) {
                    touched.truncate(1);
                }
                if !touched.is_empty() {
                    return Ok(touched);
                }
                continue;
            }
            if let Some(reason) = &*self.shared.closed.read() {
                return Err(WatchError::Closed { reason: reason.clone() });
            }
            applied.await;
        }
    }
}

/// The part of `batch` that lies in `range`, if any; the batch itself where that is all of it.
fn narrowed(batch: &Arc<Batch>, range: &KeyRange) -> Option<Arc<Batch>> {
    let inside = batch.events.iter().filter(|event| range.contains(&event.key)).count();
    if inside == 0 {
        return None;
    }
    if inside == batch.events.len() {
        return Some(Arc::clone(batch));
    }
    let events = batch.events.iter().filter(|event| range.contains(&event.key)).cloned().collect();
    Some(Arc::new(Batch { revision: batch.revision, events }))
}
