//! Revisions, what a reply promises, and states that are of one piece.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{join, join_all};

use super::{contents, counter, create, key, once, replay, told};
use crate::port::{Key, KeyRange, Revision, Store};

pub(super) async fn revisions(store: Arc<dyn Store>) {
    assert_eq!(store.head().await, Ok(Revision::ZERO), "an empty store has seen no commit");
    let first = store.commit(create("first", "")).await;
    assert_eq!(first, Ok(Revision::ZERO.next()));

    // Every third one is refused, and takes no revision.
    let txns = (0..300).map(|number| match number % 3 {
        0 => create("first", ""),
        _ => create(&format!("{number}"), ""),
    });
    let results = join_all(txns.map(|txn| store.commit(txn))).await;
    let mut revisions: Vec<u64> = results.into_iter().filter_map(Result::ok).map(Revision::as_u64).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=201).collect::<Vec<_>>());
    assert_eq!(store.head().await, Ok(Revision::from_u64(201)));
}

pub(super) async fn replies_are_visible(store: Arc<dyn Store>) {
    let writers = join_all((0..8).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            for round in 0..25 {
                let name = format!("{writer}/{round}");
                let txn = once(&name, |txn| txn.put(key(&name), "").add(key("counter"), 1, None));
                let revision = store.commit(txn).await.unwrap();
                let entry = store.get(&key(&name)).await.unwrap().expect("a get after the reply sees the commit");
                assert_eq!((entry.created, entry.modified), (revision, revision));
                let page = store.range(&KeyRange::prefix(name.as_bytes()), 1).await.unwrap();
                assert_eq!(page.entries, [(key(&name), entry)], "a range after the reply sees the commit");
                assert!(page.revision >= revision);
                assert!(store.head().await.unwrap() >= revision, "the head after the reply is not older than it");
                assert!(store.snapshot().await.unwrap().revision() >= revision);
            }
        }
    }));
    writers.await;
    assert_eq!(counter(&store, "counter").await, 200);
}

pub(super) async fn head(store: Arc<dyn Store>) {
    assert_eq!(store.get(&Key::HEAD).await, Ok(None), "an empty store has no head yet");
    let revision = store.commit(create("a", "")).await.unwrap();
    let entry = store.get(&Key::HEAD).await.unwrap().unwrap();
    assert_eq!(entry.modified, revision);
    let revision = store.commit(create("b", "")).await.unwrap();
    assert_eq!(store.get(&Key::HEAD).await.unwrap().unwrap().modified, revision, "every commit moves the head");
    assert_eq!(store.head().await, Ok(revision));
    store.commit(create("b", "")).await.unwrap_err();
    assert_eq!(store.head().await, Ok(revision), "a refused one does not");

    let mut watch = store.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    let events = told(&mut watch, revision).await;
    assert!(events.iter().flat_map(|batch| &batch.events).all(|event| event.key != Key::HEAD), "no watch tells of it");
    assert_eq!(contents(&store).await.len(), 2, "no range shows it");
}

pub(super) async fn snapshot(store: Arc<dyn Store>) {
    // More entries than any page holds, and two counters whose sum stays the same.
    for part in 0..40 {
        let mut txn = create(&format!("many/{part}"), "");
        for number in 0..80 {
            txn.put(key(&format!("many/{part}/{number}")), "x");
        }
        store.commit(txn).await.unwrap();
    }
    store.commit(once("fill", |txn| txn.add(key("left"), 1000, None))).await.unwrap();
    let mut history = store.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();

    let moves = async {
        for number in 0..100 {
            let txn = once(&number.to_string(), |txn| txn.add(key("left"), -1, None).add(key("right"), 1, None));
            store.commit(txn).await.unwrap();
        }
    };
    let snapshots = async {
        let mut taken = Vec::new();
        for _ in 0..5 {
            let mut snapshot = store.snapshot().await.unwrap();
            let mut entries = Vec::new();
            loop {
                let page = snapshot.next().await.unwrap();
                if page.is_empty() {
                    break;
                }
                entries.extend(page);
                // Something happens between two pages.
                store.commit(once(&format!("s/{}/{}", taken.len(), entries.len()), |txn| txn)).await.unwrap();
            }
            assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0), "in the order of the keys, each once");
            taken.push((snapshot.revision(), entries.into_iter().collect::<BTreeMap<_, _>>()));
        }
        taken
    };
    let ((), taken) = join(moves, snapshots).await;

    let all = told(&mut history, store.head().await.unwrap()).await;
    for (revision, entries) in taken {
        let number = |name| entries.get(&key(name)).map_or(0, crate::port::Entry::counter);
        assert_eq!(number("left") + number("right"), 1000, "the snapshot of {revision} is torn");
        let mut state = BTreeMap::new();
        let until = all.partition_point(|batch| batch.revision <= revision);
        replay(&mut state, &all[..until]);
        assert!(state == entries, "the snapshot of {revision} is not what the history makes of it");
    }
}
