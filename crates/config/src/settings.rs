//! What a process runs: the newest document that it was handed, as it looks from its own place.
//!
//! Whoever needs a value asks at the moment at which it needs it. Whoever must do something about a change follows
//! [`Settings::changed`], or is called by [`Settings::follow`]. Nobody reads a value once and keeps it.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use world::World;

use crate::document::{Document, Layers};
use crate::key::{Key, Typed};
use crate::scope::Place;

/// The configuration that a process runs. Share it in an [`Arc`].
pub struct Settings {
    place: Place,
    running: RwLock<Running>,
    /// The newest revision that is known to exist, here or elsewhere.
    known: Mutex<u64>,
    changed: Notify,
    behind: Notify,
}

#[derive(Default)]
struct Running {
    document: Arc<Document>,
    layers: Layers,
}

impl Settings {
    /// For a process at `place`, which runs the defaults until it is handed a document.
    pub fn new(place: Place) -> Arc<Settings> {
        Arc::new(Settings {
            place,
            running: RwLock::default(),
            known: Mutex::new(0),
            changed: Notify::new(),
            behind: Notify::new(),
        })
    }

    /// The defaults, for who is nowhere in particular.
    pub fn defaults() -> Arc<Settings> {
        Settings::new(Place::default())
    }

    /// Where the process is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Runs `document` from now on, unless what runs is as new; says whether it does.
    pub fn take(&self, document: Document) -> bool {
        let (revision, layers) = (document.revision, Layers::of(&document));
        let fresh = Running { document: Arc::new(document), layers };
        let mut running = self.running.write();
        if running.document.revision >= revision {
            return false;
        }
        *running = fresh;
        drop(running);
        self.changed.notify_waiters();
        self.behind(revision);
        true
    }

    /// What holds for this process.
    pub fn get<T: Typed>(&self, key: &Key<T>) -> T {
        self.get_at(key, &self.place)
    }

    /// What holds at `place`: for who decides about something that is elsewhere.
    pub fn get_at<T: Typed>(&self, key: &Key<T>, place: &Place) -> T {
        let running = self.running.read();
        let (value, _) = running.layers.winner(key.spec(), place);
        T::from_value(&value).expect("the shape of a key makes values of its type only")
    }

    /// The revision of the document that it runs; 0: it has the defaults.
    pub fn revision(&self) -> u64 {
        self.running.read().document.revision
    }

    /// The document that it runs.
    pub fn document(&self) -> Arc<Document> {
        Arc::clone(&self.running.read().document)
    }

    /// Waits until it runs a document that is newer than `seen`, and returns that one's revision.
    pub async fn changed(&self, seen: u64) -> u64 {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let revision = self.revision();
            if revision > seen {
                return revision;
            }
            changed.await;
        }
    }

    /// Calls `apply` now and after every change, as long as the process runs.
    pub fn follow(self: &Arc<Self>, world: &World, apply: impl Fn(&Settings) + Send + 'static) {
        let settings = Arc::clone(self);
        let mut seen = settings.revision();
        apply(&settings);
        world.spawn("settings", async move {
            loop {
                seen = settings.changed(seen).await;
                apply(&settings);
            }
        });
    }

    /// Notes that the cell's configuration is at `revision`, as a reply to some call said.
    pub fn behind(&self, revision: u64) {
        let mut known = self.known.lock();
        if revision > *known {
            *known = revision;
            drop(known);
            self.behind.notify_waiters();
        }
    }

    /// Waits until a newer document is known to exist than the one that it runs, and returns that one's revision.
    pub async fn wanted(&self) -> u64 {
        loop {
            let mut behind = std::pin::pin!(self.behind.notified());
            behind.as_mut().enable();
            let known = *self.known.lock();
            if known > self.revision() {
                return known;
            }
            behind.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::document::{Held, Slot};
    use crate::keys;
    use crate::scope::Scope;

    fn document(revision: u64, calls: &str) -> Document {
        let slot = Slot { key: "rpc.calls_max".into(), scope: Scope::Cell };
        Document { revision, values: [(slot, Held { schema: 1, text: calls.into() })].into() }
    }

    #[test]
    fn an_older_document_changes_nothing() {
        let settings = Settings::defaults();
        assert_eq!((settings.revision(), settings.get(&keys::CALLS_MAX)), (0, 4096));
        assert!(settings.take(document(7, "100")));
        assert!(!settings.take(document(7, "200")) && !settings.take(document(6, "200")));
        assert_eq!((settings.revision(), settings.get(&keys::CALLS_MAX)), (7, 100));
        assert_eq!(settings.changed(6).now_or_never(), Some(7));
        let mut waiting = Box::pin(settings.changed(7));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        settings.take(document(9, "300"));
        assert_eq!(waiting.now_or_never(), Some(9));
    }

    #[test]
    fn who_is_behind_wants_the_newer_one_until_it_has_it() {
        let settings = Settings::defaults();
        let mut waiting = Box::pin(settings.wanted());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        settings.behind(7);
        settings.behind(5);
        assert_eq!(waiting.now_or_never(), Some(7));
        settings.take(document(6, "100"));
        assert_eq!(settings.wanted().now_or_never(), Some(7));
        settings.take(document(8, "100"));
        assert_eq!(settings.wanted().now_or_never(), None);
    }
}
