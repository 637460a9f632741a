//! What this process has chosen and not yet seen committed.
//!
//! Two creates that run side by side in one process would otherwise draw from the same view and could choose the same
//! address; one would conflict and have to choose again. Between processes only the store's preconditions decide.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use store::Key;

/// The picks of one process. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Picks {
    held: Arc<Mutex<BTreeSet<Key>>>,
}

/// Picks of one request; given back when dropped. Keep it until the commit's outcome is known.
#[derive(Debug)]
pub struct Picked {
    picks: Picks,
    keys: Vec<Key>,
}

impl Picks {
    /// A holder of picks, still empty.
    pub fn begin(&self) -> Picked {
        Picked { picks: self.clone(), keys: Vec::new() }
    }
}

impl Picked {
    /// Holds `key`, unless another request of this process does.
    pub fn take(&mut self, key: &Key) -> bool {
        let fresh = self.picks.held.lock().insert(key.clone());
        if fresh {
            self.keys.push(key.clone());
        }
        fresh
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        let mut held = self.picks.held.lock();
        for key in &self.keys {
            held.remove(key);
        }
    }
}
