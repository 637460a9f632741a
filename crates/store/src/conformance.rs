//! What every engine of the store must pass.
//!
//! Each scenario gets an empty store and judges it through the port alone, so one suite serves engines in this process,
//! behind a network and in the simulator. An engine's crate has one test that calls [`run`]. What needs more than the port
//! (a crash, a full disk) is each engine's own test.

#![expect(clippy::unwrap_used, reason = "this is test code: a panic is its way to fail")]

mod consistency;
mod counters;
mod faults;
mod limits;
mod ranges;
mod transactions;
mod watches;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use world::{BoxFuture, World};

use crate::core::HISTORY_BYTES_MAX;
use crate::port::{Batch, CommitError, Entry, Key, KeyRange, LIMITS, Revision, Store, Txn, Watch};

pub use faults::{Fault, Faults};

/// A scenario that takes longer hangs. Generous: the slowest is bound by thousands of commits on a slow disk.
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(120);

/// An engine under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The world that the scenarios wait in.
    fn world(&self) -> World;

    /// A new, empty store.
    async fn open_empty(&self) -> Arc<dyn Store>;

    /// A new, empty store whose writes can be made to fail; `None`: this engine has no such switch.
    async fn open_faulty(&self) -> Option<(Arc<dyn Store>, Arc<dyn Faults>)> {
        None
    }

    /// Makes `store` forget its present history, so that a watch from the present revision is `Compacted`.
    async fn forget_history(&self, store: &Arc<dyn Store>) {
        // The bound in bytes is reached with fewer commits than the one in number.
        let value = bytes::Bytes::from(vec![0; LIMITS.value_bytes]);
        let large = |number| once(&format!("history/{number}"), |txn| txn.put(key("history"), value.clone()));
        let commits = (0..=HISTORY_BYTES_MAX / LIMITS.value_bytes).map(|number| store.commit(large(number)));
        assert!(join_all(commits).await.iter().all(Result::is_ok), "the history is made of commits");
    }
}

type Scenario = fn(Arc<dyn Store>) -> BoxFuture<'static, ()>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("each precondition", |store| Box::pin(transactions::each_precondition(store))),
    ("the first failing precondition is named", |store| Box::pin(transactions::first_failing(store))),
    ("all or nothing", |store| Box::pin(transactions::all_or_nothing(store))),
    ("created and modified", |store| Box::pin(transactions::created_and_modified(store))),
    ("kinds do not mix", |store| Box::pin(transactions::kinds(store))),
    ("bounds", |store| Box::pin(counters::bounds(store))),
    ("bounded adds that race", |store| Box::pin(counters::race(store))),
    ("moves of one counter are summed", |store| Box::pin(counters::summed(store))),
    ("sizes", |store| Box::pin(limits::sizes(store))),
    ("keys", |store| Box::pin(limits::keys(store))),
    ("repeatable transactions", |store| Box::pin(limits::repeatable(store))),
    ("pages", |store| Box::pin(ranges::pages(store))),
    ("prefixes", |store| Box::pin(ranges::prefixes(store))),
    ("a watch tells everything once and in order", |store| Box::pin(watches::everything_once(store))),
    ("a watch of a part", |store| Box::pin(watches::filtered(store))),
    ("many watchers", |store| Box::pin(watches::many(store))),
    ("a dropped wait loses nothing", |store| Box::pin(watches::dropped_waits(store))),
    ("revisions rise by one", |store| Box::pin(consistency::revisions(store))),
    ("a reply is visible", |store| Box::pin(consistency::replies_are_visible(store))),
    ("head", |store| Box::pin(consistency::head(store))),
    ("a snapshot is one state", |store| Box::pin(consistency::snapshot(store))),
];

/// Runs the whole suite; panics where the engine is wrong.
pub async fn run(subject: &dyn Subject) {
    let world = subject.world();
    for (name, scenario) in SCENARIOS {
        let store = subject.open_empty().await;
        assert!(world.timeout(SCENARIO_TIME_MAX, scenario(store)).await.is_ok(), "{name:?} hangs");
    }
    let forgotten = world.timeout(SCENARIO_TIME_MAX, watches::forgotten(subject)).await;
    assert!(forgotten.is_ok(), "a watch of forgotten history hangs");
    let faults = world.timeout(SCENARIO_TIME_MAX, faults::run(subject)).await;
    assert!(faults.is_ok(), "a store whose writes fail hangs");
}

fn key(text: &str) -> Key {
    Key::from(text)
}

fn create(name: &str, value: &str) -> Txn {
    let mut txn = Txn::new();
    txn.create(key(name), value.to_owned());
    txn
}

/// A transaction that does what `change` says, and can happen once, because of a key of its own.
fn once(name: &str, change: impl FnOnce(&mut Txn) -> &mut Txn) -> Txn {
    let mut txn = Txn::new();
    change(&mut txn);
    txn.create(key(&format!("once/{name}")), "");
    txn
}

fn conflict(index: usize, name: &str) -> Result<Revision, CommitError> {
    Err(CommitError::Conflict { index, key: key(name) })
}

async fn counter(store: &Arc<dyn Store>, name: &str) -> u64 {
    store.get(&key(name)).await.unwrap().map_or(0, |entry| entry.counter())
}

async fn contents(store: &Arc<dyn Store>) -> BTreeMap<Key, Entry> {
    let page = store.range(&KeyRange::all(), usize::MAX).await.unwrap();
    assert!(!page.more, "nothing can follow an unlimited page");
    page.entries.into_iter().collect()
}

/// What `watch` tells up to `until`, which must be the revision of something that it tells.
async fn told(watch: &mut Box<dyn Watch>, until: Revision) -> Vec<Arc<Batch>> {
    let mut all: Vec<Arc<Batch>> = Vec::new();
    while all.last().is_none_or(|last| last.revision < until) {
        let some = watch.next().await.unwrap();
        assert!(!some.is_empty(), "a watch returned without anything to tell");
        all.extend(some);
    }
    assert_eq!(all.last().unwrap().revision, until, "the watch told of a commit that was not made");
    all
}

/// What `batches` make of `state`; they must continue it in order.
fn replay(state: &mut BTreeMap<Key, Entry>, batches: &[Arc<Batch>]) {
    assert!(batches.windows(2).all(|pair| pair[0].revision < pair[1].revision), "out of order: {batches:?}");
    for event in batches.iter().flat_map(|batch| &batch.events) {
        match &event.entry {
            Some(entry) => state.insert(event.key.clone(), entry.clone()),
            None => state.remove(&event.key),
        };
    }
}
