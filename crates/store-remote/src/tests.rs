//! The remote store without a socket: the conformance suite, questions that are shared, connections that break.

mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use http::{Request, Response};
use pki::{Identity, Role};
use rpc::{Channel, Limits, Peers, Server, Target, Wire};
use store::conformance::{self, Fault, Faults, Subject};
use store::core::{Core, Pending};
use store::engine::{AppendError, Engine, Journal};
use store::{CommitError, Key, KeyRange, Revision, Store, Txn, WatchError, memory};
use telemetry::metrics::Metrics;
use telemetry::{Cx, Ring};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use world::{BoxFuture, World};

use crate::{RemoteStore, service};

fn world() -> World {
    world::os::OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"))
}

/// The way to one server, which can be cut, and counts what goes over it.
struct Line {
    server: Arc<dyn Wire>,
    sent: AtomicUsize,
    /// The request arrives, the answer does not.
    cut: AtomicBool,
}

impl Wire for Line {
    fn send(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let (answer, cut) = (self.server.send(request), self.cut.load(Ordering::Relaxed));
        Box::pin(async move {
            // A real line never answers at once.
            tokio::task::yield_now().await;
            let answer = answer.await;
            if cut { Err(Status::unavailable("the connection broke")) } else { answer }
        })
    }
}

struct OneLine(Arc<Line>);

impl Peers for OneLine {
    fn channel(&self, _: &Target, cx: &Cx) -> Channel {
        Channel::new(Arc::clone(&self.0) as Arc<dyn Wire>, cx)
    }
}

fn remote_as(role: Role, store: Arc<dyn Store>) -> (RemoteStore, Arc<Line>) {
    let world = world();
    let ring = Ring::new(&world, "test");
    let routes = Routes::new(service(&world, store));
    let server = Server::new(&ring, &Metrics::default(), Limits::default(), routes);
    let caller = Identity { cell: "c".into(), role, name: "caller".into() };
    let line = Line { server: server.local(caller), sent: AtomicUsize::new(0), cut: AtomicBool::new(false) };
    let line = Arc::new(line);
    let target = Target { role: Role::Store, name: "store".into(), endpoint: String::new() };
    (RemoteStore::new(Arc::new(OneLine(Arc::clone(&line))), target, &ring), line)
}

fn create(name: &str) -> Txn {
    let mut txn = Txn::new();
    txn.create(Key::from(name), "");
    txn
}

/// A journal that fails on request.
#[derive(Clone, Default)]
struct Failing(Arc<parking_lot::Mutex<Option<Fault>>>);

#[async_trait]
impl Journal for Failing {
    async fn append(&mut self, _: &Pending) -> Result<(), AppendError> {
        match self.0.lock().take() {
            None => Ok(()),
            Some(Fault::Refused) => Err(AppendError::Refused("on request".into())),
            Some(Fault::Unknown) => Err(AppendError::Unknown("on request".into())),
        }
    }
}

impl Faults for Failing {
    fn fail_next(&self, fault: Fault) {
        *self.0.lock() = Some(fault);
    }
}

struct Remote;

#[async_trait]
impl Subject for Remote {
    fn world(&self) -> World {
        world()
    }

    async fn open_empty(&self) -> Arc<dyn Store> {
        Arc::new(remote_as(Role::Coordinator, Arc::new(memory::open(&world()))).0)
    }

    async fn open_faulty(&self) -> Option<(Arc<dyn Store>, Arc<dyn Faults>)> {
        let failing = Failing::default();
        let (engine, committer) = Engine::new(Core::default(), failing.clone());
        world().spawn("committer", async move { drop(committer.run().await) });
        Some((Arc::new(remote_as(Role::Coordinator, Arc::new(engine)).0), Arc::new(failing)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&Remote).await;
}

#[tokio::test]
async fn those_who_wait_for_the_head_share_a_question_but_never_an_older_one() {
    let (store, line) = remote_as(Role::Api, Arc::new(memory::open(&world())));
    let first = store.commit(create("a")).await.unwrap();
    let sent = line.sent.load(Ordering::Relaxed);
    let heads = join_all((0..100).map(|_| store.head())).await;
    assert!(heads.iter().all(|head| *head == Ok(first)));
    assert!(line.sent.load(Ordering::Relaxed) - sent <= 2, "a hundred questions went out one by one");

    // One who gives up does not keep the others from an answer, and what was committed meanwhile is in it.
    let mut dropped = Box::pin(store.head());
    assert!(dropped.as_mut().now_or_never().is_none());
    let waiting = store.head();
    drop(dropped);
    let second = store.commit(create("b")).await.unwrap();
    let (early, late) = join(waiting, store.head()).await;
    assert!(early.unwrap() >= first);
    assert_eq!(late, Ok(second));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_may_be_sent_again() {
    let engine = memory::open(&world());
    let (store, line) = remote_as(Role::Coordinator, Arc::new(engine.clone()));
    // From here on the store's life is known: the first request only asks for it.
    store.commit(create("before")).await.unwrap();
    line.cut.store(true, Ordering::Relaxed);
    let lost = store.commit(create("a")).await;
    assert!(matches!(lost, Err(CommitError::Unknown { .. })), "{lost:?}");
    assert!(engine.get(&Key::from("a")).await.unwrap().is_some(), "it had happened");
    store.head().await.expect_err("a read has no answer either");
    line.cut.store(false, Ordering::Relaxed);
    let again = store.commit(create("a")).await;
    assert_eq!(again, Err(CommitError::Conflict { index: 0, key: Key::from("a") }), "which tells that it had");
}

#[tokio::test]
async fn a_watch_ends_when_the_store_does() {
    let engine = memory::open(&world());
    let (store, _) = remote_as(Role::Coordinator, Arc::new(engine.clone()));
    let mut watch = store.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    engine.commit(create("a")).await.unwrap();
    assert_eq!(watch.next().await.unwrap().len(), 1);
    engine.close().await;
    let closed = watch.next().await;
    assert!(matches!(closed, Err(WatchError::Closed { .. })), "{closed:?}");
}

#[tokio::test]
async fn an_agent_has_no_access() {
    let engine = memory::open(&world());
    let (store, _) = remote_as(Role::Agent, Arc::new(engine.clone()));
    let refused = store.commit(create("a")).await;
    assert!(matches!(refused, Err(CommitError::NotNow { .. })), "{refused:?}");
    assert_eq!(engine.head().await, Ok(Revision::ZERO));
    store.get(&Key::from("a")).await.expect_err("a read");
    assert!(store.watch(&KeyRange::all(), Revision::ZERO).await.is_err());
    assert!(store.snapshot().await.is_err());
}

/// Values as large as they may be: answers of many megabytes come in pieces that everybody takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_come_in_pieces() {
    let (store, _) = remote_as(Role::Coordinator, Arc::new(memory::open(&world())));
    for number in 0..40 {
        let mut txn = create(&format!("{number}"));
        for part in ["a", "b"] {
            txn.put(Key::from(format!("{number}/{part}")), vec![7; 255 * 1024]);
        }
        store.commit(txn).await.unwrap();
    }
    let page = store.range(&KeyRange::all(), usize::MAX).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (120, false));
    let mut snapshot = store.snapshot().await.unwrap();
    let mut entries = Vec::new();
    loop {
        let some = snapshot.next().await.unwrap();
        if some.is_empty() {
            break;
        }
        entries.extend(some);
    }
    assert!(entries == page.entries);
    // As far back as the history reaches: it is bounded by its bytes.
    let mut watch = store.watch(&KeyRange::all(), Revision::from_u64(page.revision.as_u64() - 25)).await.unwrap();
    let mut seen = 0;
    while seen < 25 {
        seen += watch.next().await.unwrap().len();
    }
}
