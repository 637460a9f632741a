//! What a store says when its writes fail, on engines whose writes can be made to fail.

use super::{Subject, contents, create, key};
use crate::port::{CommitError, KeyRange, Revision, Store, WatchError};

/// How the next durable write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, and the engine knows it.
    Refused,
    /// The engine cannot know whether it was written.
    Unknown,
}

/// Makes a store's writes fail.
pub trait Faults: Send + Sync {
    /// The next write fails like this; those after it do not, if the engine makes any.
    fn fail_next(&self, fault: Fault);
}

pub(super) async fn run(subject: &dyn Subject) {
    let Some((store, faults)) = subject.open_faulty().await else { return };
    let first = store.commit(create("first", "")).await.unwrap();
    let before = contents(&store).await;
    let mut watch = store.watch(&KeyRange::all(), first).await.unwrap();

    faults.fail_next(Fault::Refused);
    let refused = store.commit(create("second", "")).await;
    assert!(matches!(refused, Err(CommitError::NotNow { .. })), "{refused:?}");
    assert_eq!(contents(&store).await, before, "a refused write left something behind");
    let second = store.commit(create("second", "")).await;
    assert_eq!(second, Ok(first.next()), "the same transaction may be sent again");
    let told = watch.next().await.unwrap();
    assert_eq!(told.len(), 1, "watches hear of what happened only: {told:?}");

    faults.fail_next(Fault::Unknown);
    let unknown = store.commit(create("third", "")).await;
    assert!(matches!(unknown, Err(CommitError::Unknown { .. })), "{unknown:?}");
    ended(&*store, &mut *watch).await;
}

/// An engine that does not know its own disk must say nothing more.
async fn ended(store: &dyn Store, watch: &mut dyn crate::port::Watch) {
    let closed = watch.next().await;
    assert!(matches!(closed, Err(WatchError::Closed { .. })), "{closed:?}");
    let later = store.commit(create("fourth", "")).await;
    assert!(matches!(later, Err(CommitError::NotNow { .. } | CommitError::Unknown { .. })), "{later:?}");
    store.get(&key("first")).await.expect_err("a get");
    store.head().await.expect_err("the head");
    store.range(&KeyRange::all(), 1).await.expect_err("a range");
    assert!(store.snapshot().await.is_err(), "a snapshot");
    assert!(store.watch(&KeyRange::all(), Revision::ZERO.next()).await.is_err(), "a watch");
}
