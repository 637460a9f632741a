//! The engine over journals that are slow or fail, and the conformance suite over one that keeps nothing.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use world::{BoxFuture, World};

use super::{AppendError, Engine, Journal, WAITING_COMMITS_MAX};
use crate::conformance::{self, Fault, Faults, Subject};
use crate::core::{Core, Pending};
use crate::memory;
use crate::port::{CommitError, Key, KeyRange, Revision, Store, Txn, WatchError};

fn world() -> World {
    world::os::OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"))
}

fn create(name: &str) -> Txn {
    let mut txn = Txn::new();
    txn.create(Key::from(name), "");
    txn
}

/// A journal that writes nothing, one group for each permit, and that fails on request.
#[derive(Clone)]
struct Gate {
    permits: Arc<Semaphore>,
    groups: Arc<Mutex<Vec<usize>>>,
    fault: Arc<Mutex<Option<Fault>>>,
}

#[async_trait]
impl Journal for Gate {
    async fn append(&mut self, group: &Pending) -> Result<(), AppendError> {
        self.permits.acquire().await.unwrap().forget();
        self.groups.lock().push(group.batches().len());
        match self.fault.lock().take() {
            None => Ok(()),
            Some(Fault::Refused) => Err(AppendError::Refused("on request".into())),
            Some(Fault::Unknown) => Err(AppendError::Unknown("on request".into())),
        }
    }
}

impl Faults for Gate {
    fn fail_next(&self, fault: Fault) {
        *self.fault.lock() = Some(fault);
    }
}

fn gated(world: &World, permits: usize) -> (Engine, Gate) {
    let permits = Arc::new(Semaphore::new(permits));
    let gate = Gate { permits, groups: Arc::default(), fault: Arc::default() };
    let (engine, committer) = Engine::new(Core::default(), gate.clone());
    world.spawn("committer", async move { drop(committer.run().await) });
    (engine, gate)
}

struct Memory;

#[async_trait]
impl Subject for Memory {
    fn world(&self) -> World {
        world()
    }

    async fn open_empty(&self) -> Arc<dyn Store> {
        Arc::new(memory::open(&world()))
    }

    async fn open_faulty(&self) -> Option<(Arc<dyn Store>, Arc<dyn Faults>)> {
        let (engine, gate) = gated(&world(), 1000);
        Some((Arc::new(engine), Arc::new(gate)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&Memory).await;
}

/// Commits `names` at once; all of them are queued when this returns.
fn queued(engine: &Engine, names: &[&str]) -> Vec<BoxFuture<'static, Result<Revision, CommitError>>> {
    let commit = |name: &&str| {
        let (engine, txn) = (engine.clone(), create(name));
        let mut commit: BoxFuture<'static, _> = Box::pin(async move { engine.commit(txn).await });
        assert!(commit.as_mut().now_or_never().is_none(), "it waits for the journal");
        commit
    };
    names.iter().map(commit).collect()
}

#[tokio::test]
async fn what_waits_shares_one_write_and_nobody_is_told_before_it() {
    let (engine, gate) = gated(&world(), 0);
    let first = queued(&engine, &["a"]);
    tokio::task::yield_now().await;
    // "a" again rests on a commit that is not durable yet: even its refusal has to wait.
    let rest = queued(&engine, &["b", "a", "c"]);
    let mut watch = engine.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    assert_eq!(engine.get(&Key::from("a")).await, Ok(None), "not durable, so not visible");
    assert!(watch.next().now_or_never().is_none());

    gate.permits.add_permits(1);
    assert_eq!(watch.next().await.unwrap().len(), 1);
    gate.permits.add_permits(1);
    for task in first {
        assert_eq!(task.await, Ok(Revision::from_u64(1)));
    }
    let mut results = Vec::new();
    for task in rest {
        results.push(task.await);
    }
    let conflict = Err(CommitError::Conflict { index: 0, key: Key::from("a") });
    assert_eq!(results, [Ok(Revision::from_u64(2)), conflict, Ok(Revision::from_u64(3))]);
    assert_eq!(*gate.groups.lock(), [1, 2]);
}

#[tokio::test]
async fn a_refused_group_takes_back_also_what_rested_on_it() {
    let (engine, gate) = gated(&world(), 0);
    let group = queued(&engine, &["a", "a"]);
    gate.fail_next(Fault::Refused);
    gate.permits.add_permits(2);
    for task in group {
        let result = task.await;
        assert!(matches!(result, Err(CommitError::NotNow { .. })), "the second conflicts with nothing: {result:?}");
    }
    assert_eq!(engine.commit(create("a")).await, Ok(Revision::from_u64(1)));
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let (engine, gate) = gated(&world(), 0);
    let names: Vec<String> = (0..WAITING_COMMITS_MAX + 1000).map(|number| number.to_string()).collect();
    let mut commits: Vec<_> = names.iter().map(|name| engine.commit(create(name))).collect();
    // Without yielding in between, so that the committer takes none out.
    let refused = commits.iter_mut().filter_map(|commit| commit.now_or_never()).count();
    assert_eq!(refused, 1000, "refused at once, not queued");
    gate.permits.add_permits(1000);
}

#[tokio::test]
async fn large_transactions_are_bounded_in_bytes() {
    let (engine, _gate) = gated(&world(), 0);
    let value = bytes::Bytes::from(vec![0; 250 * 1024]);
    let large = |name: String| {
        let mut txn = create(&name);
        txn.put(Key::from(format!("{name}/1")), value.clone()).put(Key::from(format!("{name}/2")), value.clone());
        engine.commit(txn)
    };
    let mut commits: Vec<_> = (0..200).map(|number| large(number.to_string())).collect();
    let refused = commits.iter_mut().filter_map(|commit| commit.now_or_never()).count();
    assert!((60..80).contains(&refused), "64 MiB may wait, of 98: {refused} were refused");
}

#[tokio::test]
async fn closing_commits_what_waits_and_then_ends_everything() {
    let (engine, gate) = gated(&world(), 0);
    let waiting = queued(&engine, &["a", "b"]);
    let mut watch = engine.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    let mut close = Box::pin(engine.close());
    assert!(close.as_mut().now_or_never().is_none());
    gate.permits.add_permits(10);
    close.await;
    for task in waiting {
        task.await.expect("it was queued before the end");
    }
    assert!(matches!(engine.commit(create("c")).await, Err(CommitError::NotNow { .. })));
    assert_eq!(watch.next().await.unwrap().len(), 2);
    assert!(matches!(watch.next().await, Err(WatchError::Closed { .. })));
    engine.get(&Key::from("a")).await.expect_err("closed");
    engine.close().await;
}

#[tokio::test]
async fn a_committer_that_is_cancelled_ends_the_engine() {
    let (engine, committer) = Engine::new(Core::default(), memory::Nowhere);
    let mut watch = engine.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    drop(committer);
    assert!(matches!(watch.next().await, Err(WatchError::Closed { .. })));
    assert!(matches!(engine.commit(create("a")).await, Err(CommitError::NotNow { .. })));
}
