//! The view over real engines: indexes, linearizable reads, and catching up when the history is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use world::World;

use super::{Index, Reader, View};
use crate::engine::Engine;
use crate::memory;
use crate::port::{
    CommitError, Entry, Key, KeyRange, Page, ReadError, Revision, Snapshot, Store, Txn, Watch, WatchError,
};

fn world() -> World {
    world::os::OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"))
}

/// A pet's value is its tags, with blanks between them.
fn tags(_: &Key, value: &Bytes) -> Vec<String> {
    String::from_utf8_lossy(value).split_whitespace().map(str::to_owned).collect()
}

fn indexes() -> Vec<Index> {
    vec![Index::new("tag", "pet/", tags)]
}

async fn put(store: &dyn Store, name: &str, value: &str) -> Revision {
    let key = Key::from(name);
    let before = store.get(&key).await.unwrap();
    let mut txn = Txn::new();
    match before {
        Some(entry) => txn.replace(key, entry.modified, value.to_owned()),
        None => txn.create(key, value.to_owned()),
    };
    store.commit(txn).await.unwrap()
}

async fn remove(store: &dyn Store, name: &str) {
    let key = Key::from(name);
    let revision = store.get(&key).await.unwrap().unwrap().modified;
    let mut txn = Txn::new();
    txn.remove(key, revision);
    store.commit(txn).await.unwrap();
}

fn tagged(reader: &Reader<'_>, tag: &str) -> Vec<String> {
    reader.keys_by("tag", tag).map(|key| key.to_text().into_owned()).collect()
}

async fn check(view: &View, tag: &str, expected: &[&str]) {
    let found = view.read(|reader| tagged(reader, tag)).await.unwrap();
    assert_eq!(found, expected, "tagged {tag}");
}

#[tokio::test]
async fn indexes_follow_the_records() {
    let (world, store) = (world(), Arc::new(memory::open(&world())));
    put(&*store, "pet/rex", "big dog").await;
    let view = View::open(&world, Arc::clone(&store) as Arc<dyn Store>, indexes()).await.unwrap();
    check(&view, "dog", &["pet/rex"]).await;

    put(&*store, "pet/ada", "dog").await;
    put(&*store, "toy/ball", "dog").await;
    check(&view, "dog", &["pet/ada", "pet/rex"]).await;
    check(&view, "do", &[]).await;
    put(&*store, "pet/rex", "big cat").await;
    check(&view, "dog", &["pet/ada"]).await;
    check(&view, "cat", &["pet/rex"]).await;
    check(&view, "big", &["pet/rex"]).await;
    remove(&*store, "pet/rex").await;
    for tag in ["cat", "big"] {
        check(&view, tag, &[]).await;
    }
    // A tag that stands twice in one record is found once, and is gone with it.
    put(&*store, "pet/eve", "cat cat").await;
    check(&view, "cat", &["pet/eve"]).await;
    put(&*store, "pet/eve", "").await;
    check(&view, "cat", &[]).await;
}

#[tokio::test]
async fn an_index_is_read_in_order_and_from_anywhere() {
    let (world, store) = (world(), Arc::new(memory::open(&world())));
    for (name, tags) in [("pet/a", "d/3"), ("pet/b", "d/1 c/9"), ("pet/c", "d/2"), ("pet/d", "d/2 e/0")] {
        put(&*store, name, tags).await;
    }
    let view = View::open(&world, Arc::clone(&store) as Arc<dyn Store>, indexes()).await.unwrap();
    let under = |prefix: &str, after: Option<(&str, &str)>| {
        let after = after.map(|(term, key)| (term.to_owned(), Key::from(key)));
        view.peek(|reader| {
            reader.keys_under("tag", prefix.to_owned(), after).map(|key| key.to_text().into_owned()).collect::<Vec<_>>()
        })
    };
    assert_eq!(under("d/", None), ["pet/b", "pet/c", "pet/d", "pet/a"]);
    assert_eq!(under("d/", Some(("d/2", "pet/c"))), ["pet/d", "pet/a"]);
    assert_eq!(under("d/", Some(("d/3", "pet/a"))), Vec::<String>::new());
    assert_eq!(under("x/", None), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_wrote_the_view_of_another_shows() {
    let (world, store) = (world(), Arc::new(memory::open(&world())));
    let open = || View::open(&world, Arc::clone(&store) as Arc<dyn Store>, indexes());
    let (one, other) = (open().await.unwrap(), open().await.unwrap());
    for round in 0..200 {
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let name = format!("pet/{round}");
        let revision = put(&**writer.store(), &name, "new").await;
        let (found, seen) =
            reader.read(|reader| (reader.entry(&Key::from(name.as_str())).cloned(), reader.revision())).await.unwrap();
        assert_eq!(found.map(|entry| entry.modified), Some(revision));
        assert!(seen >= revision);
    }
}

#[tokio::test]
async fn ranges_of_a_reader_have_edges_too() {
    let (world, store) = (world(), Arc::new(memory::open(&world())));
    put(&*store, "a", "").await;
    put(&*store, "b", "").await;
    let view = View::open(&world, store, indexes()).await.unwrap();
    let count = |start: &str, end: Option<&str>| {
        let range = KeyRange { start: Key::from(start), end: end.map(Key::from) };
        view.peek(|reader| reader.range(range).count())
    };
    assert_eq!([count("", None), count("a", Some("b")), count("b", Some("a")), count("b", Some("b"))], [2, 1, 0, 0]);
}

#[tokio::test]
async fn waiting_for_the_view_ends_with_the_commit_that_is_waited_for() {
    let (world, store) = (world(), Arc::new(memory::open(&world())));
    let view = View::open(&world, Arc::clone(&store) as Arc<dyn Store>, indexes()).await.unwrap();
    let seen = view.revision();
    let mut dropped = Box::pin(view.advanced(seen));
    assert!(dropped.as_mut().now_or_never().is_none());
    drop(dropped);
    let waiting = view.advanced(seen);
    let revision = put(&*store, "a", "").await;
    assert_eq!(waiting.await, revision);
    assert_eq!(view.advanced(seen).await, revision, "what has happened is not waited for");
    view.reach(revision).await.unwrap();
}

/// A store whose watches can be broken, or told that their history is gone.
struct Shaky {
    store: Engine,
    /// What the next look of every watch ends with.
    breaking: Mutex<Option<WatchError>>,
    broken: tokio::sync::Notify,
    deaf: AtomicBool,
    snapshots: AtomicUsize,
}

struct ShakyWatch {
    store: Arc<Shaky>,
    watch: Box<dyn Watch>,
}

#[async_trait]
impl Watch for ShakyWatch {
    async fn next(&mut self) -> Result<Vec<Arc<crate::port::Batch>>, WatchError> {
        loop {
            if let Some(error) = self.store.breaking.lock().take() {
                return Err(error);
            }
            let broken = std::pin::pin!(self.store.broken.notified());
            if self.store.deaf.load(Ordering::Relaxed) {
                broken.await;
            } else if let futures_util::future::Either::Left((batches, _)) =
                futures_util::future::select(self.watch.next(), broken).await
            {
                return batches;
            }
        }
    }
}

struct Shared(Arc<Shaky>);

#[async_trait]
impl Store for Shared {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.0.store.get(key).await
    }
    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.0.store.range(range, limit).await
    }
    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        let watch = self.0.store.watch(range, after).await?;
        Ok(Box::new(ShakyWatch { store: Arc::clone(&self.0), watch }))
    }
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.0.snapshots.fetch_add(1, Ordering::Relaxed);
        self.0.store.snapshot().await
    }
    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        self.0.store.commit(txn).await
    }
}

/// The watch stops telling, things happen, and then it ends with `error`: the view must come to the same state.
async fn catches_up(error: WatchError) -> usize {
    let world = world();
    let shaky = Arc::new(Shaky {
        store: memory::open(&world),
        breaking: Mutex::new(None),
        broken: tokio::sync::Notify::new(),
        deaf: AtomicBool::new(false),
        snapshots: AtomicUsize::new(0),
    });
    let store: Arc<dyn Store> = Arc::new(Shared(Arc::clone(&shaky)));
    put(&*store, "pet/old", "dog").await;
    put(&*store, "pet/rex", "dog").await;
    let view = View::open(&world, Arc::clone(&store), indexes()).await.unwrap();
    check(&view, "dog", &["pet/old", "pet/rex"]).await;

    shaky.deaf.store(true, Ordering::Relaxed);
    shaky.broken.notify_waiters();
    remove(&*store, "pet/old").await;
    put(&*store, "pet/rex", "cat").await;
    put(&*store, "pet/new", "dog").await;
    *shaky.breaking.lock() = Some(error);
    shaky.deaf.store(false, Ordering::Relaxed);
    shaky.broken.notify_waiters();
    check(&view, "dog", &["pet/new"]).await;
    check(&view, "cat", &["pet/rex"]).await;
    assert_eq!(view.peek(|reader| reader.range(KeyRange::all()).count()), 2);
    // And it goes on following.
    put(&*store, "pet/eve", "cat").await;
    check(&view, "cat", &["pet/eve", "pet/rex"]).await;
    shaky.snapshots.load(Ordering::Relaxed)
}

#[tokio::test]
async fn catches_up_when_the_history_is_gone() {
    let snapshots = catches_up(WatchError::Compacted { after: Revision::ZERO }).await;
    assert_eq!(snapshots, 2, "it listed again");
}

#[tokio::test]
async fn catches_up_when_the_watch_breaks() {
    let snapshots = catches_up(WatchError::Closed { reason: "on request".into() }).await;
    assert_eq!(snapshots, 1, "it had no need to list again");
}

#[tokio::test]
async fn a_view_that_nobody_holds_lets_go_of_its_store() {
    let (world, store) = (world(), Arc::new(memory::open(&world())));
    let view = View::open(&world, Arc::clone(&store) as Arc<dyn Store>, indexes()).await.unwrap();
    let mut watch = store.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    drop(view);
    drop(store);
    // The last handle is gone, so the committer ends, and with it every watch.
    assert!(matches!(watch.next().await, Err(WatchError::Closed { .. })));
}
