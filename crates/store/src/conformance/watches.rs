//! Watches: every event exactly once and in order, for whoever asks and however they wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{Either, join, join_all, select};

use super::{Subject, contents, create, key, once, replay, told};
use crate::port::{Batch, KeyRange, Revision, Store, Txn, Watch, WatchError};

/// Some commits of every kind, one after the other; returns their revisions.
async fn history(store: &Arc<dyn Store>, name: &str) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for number in 0..20_usize {
        let (record, before) = (key(&format!("{name}/{}", number % 7)), number.checked_sub(7));
        let txn = once(&format!("{name}/{number}"), |txn| match before {
            Some(before) if number % 3 == 0 => txn.unchanged(record.clone(), revisions[before]).delete(record),
            Some(_) | None => txn.put(record, number.to_string()).add(key("counter"), 1, None),
        });
        // A key that an earlier round deleted makes the precondition fail; that is a commit less and as good.
        if let Ok(revision) = store.commit(txn).await {
            revisions.push(revision);
        } else {
            revisions.push(Revision::ZERO);
        }
    }
    revisions.retain(|revision| *revision > Revision::ZERO);
    revisions
}

fn revisions(batches: &[Arc<Batch>]) -> Vec<Revision> {
    batches.iter().map(|batch| batch.revision).collect()
}

pub(super) async fn everything_once(store: Arc<dyn Store>) {
    let start = store.head().await.unwrap();
    let mut early = store.watch(&KeyRange::all(), start).await.unwrap();
    let before = history(&store, "before").await;
    let middle = *before.last().unwrap();
    let at_middle = contents(&store).await;
    let mut late = store.watch(&KeyRange::all(), middle).await.unwrap();
    let after = history(&store, "after").await;
    let end = *after.last().unwrap();

    let all = told(&mut early, end).await;
    assert_eq!(revisions(&all), [before.clone(), after.clone()].concat(), "from the start");
    let mut state = BTreeMap::new();
    replay(&mut state, &all);
    assert_eq!(state, contents(&store).await, "what the watch told is what is there");

    let rest = told(&mut late, end).await;
    assert_eq!(revisions(&rest), after, "from where it was asked to begin");
    let mut state = at_middle;
    replay(&mut state, &rest);
    assert_eq!(state, contents(&store).await);

    let mut again = store.watch(&KeyRange::all(), before[4]).await.unwrap();
    assert_eq!(revisions(&told(&mut again, end).await), [&before[5..], &after].concat(), "from a past revision");
    let mut ahead = store.watch(&KeyRange::all(), end.next()).await.unwrap();
    store.commit(create("skipped", "")).await.unwrap();
    let told_of = store.commit(create("told", "")).await.unwrap();
    assert_eq!(revisions(&told(&mut ahead, told_of).await), [told_of], "from a revision that was still to come");
}

pub(super) async fn filtered(store: Arc<dyn Store>) {
    let mut part = store.watch(&KeyRange::prefix(b"a/"), Revision::ZERO).await.unwrap();
    store.commit(create("b/1", "")).await.unwrap();
    let both = store.commit(once("0", |txn| txn.put(key("a/1"), "").put(key("b/2"), "").delete(key("b/1")))).await;
    store.commit(create("a", "")).await.unwrap();
    store.commit(create("a0", "")).await.unwrap();
    let mut delete = Txn::new();
    delete.remove(key("a/1"), both.clone().unwrap());
    let gone = store.commit(delete).await.unwrap();

    let found = told(&mut part, gone).await;
    assert_eq!(revisions(&found), [both.unwrap(), gone], "only what touches the range");
    let events: Vec<_> = found.iter().flat_map(|batch| &batch.events).collect();
    assert!(events.iter().all(|event| event.key == key("a/1")), "only the part inside the range: {events:?}");
    assert!(events.len() == 2 && events[0].entry.is_some() && events[1].entry.is_none(), "put, then deleted");
}

pub(super) async fn many(store: Arc<dyn Store>) {
    let watches = join_all((0..40).map(|_| {
        let store = Arc::clone(&store);
        async move { store.watch(&KeyRange::prefix(b"once/"), Revision::ZERO).await.unwrap() }
    }));
    let watches = watches.await;
    let ids: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let commits = join_all(ids.iter().map(|id| store.commit(once(id, |txn| txn.add(key("counter"), 1, None)))));
    // The last revision is known beforehand: nobody else commits here.
    let last = Revision::from_u64(store.head().await.unwrap().as_u64() + 200);
    let watching = join_all(watches.into_iter().map(|mut watch| async move { told(&mut watch, last).await }));
    let (committed, seen) = join(commits, watching).await;
    let mut expected: Vec<_> = committed.into_iter().map(|result| result.unwrap()).collect();
    expected.sort_unstable();
    for batches in seen {
        assert_eq!(revisions(&batches), expected);
    }
}

pub(super) async fn dropped_waits(store: Arc<dyn Store>) {
    let mut watch = store.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    let mut seen = Vec::new();
    let mut made = Vec::new();
    for round in 0..100 {
        // Polled once, or after some work, and then dropped.
        let commit = store.commit(create(&round.to_string(), ""));
        match select(watch.next(), commit).await {
            Either::Left((batches, commit)) => {
                seen.extend(revisions(&batches.unwrap()));
                made.push(commit.await.unwrap());
            }
            Either::Right((revision, _dropped)) => made.push(revision.unwrap()),
        }
        if let Some(batches) = watch.next().now_or_never() {
            seen.extend(revisions(&batches.unwrap()));
        }
    }
    let end = store.commit(create("end", "")).await.unwrap();
    made.push(end);
    seen.extend(revisions(&told(&mut watch, end).await));
    assert_eq!(seen, made);
}

pub(super) async fn forgotten(subject: &dyn Subject) {
    let store = subject.open_empty().await;
    let old = store.commit(create("old", "")).await.unwrap();
    let mut idle: Box<dyn Watch> = store.watch(&KeyRange::all(), Revision::ZERO).await.unwrap();
    subject.forget_history(&store).await;

    let late = match store.watch(&KeyRange::all(), Revision::ZERO).await {
        Ok(mut watch) => watch.next().await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(late, Err(WatchError::Compacted { after: Revision::ZERO }), "a watch of what is forgotten");

    // A watch that nobody read may have kept what it had not told yet; it may not skip it.
    match idle.next().await {
        Err(WatchError::Compacted { after }) => assert_eq!(after, Revision::ZERO),
        Ok(batches) => assert_eq!(batches[0].revision, old, "an idle watch skipped something"),
        Err(WatchError::Closed { reason }) => panic!("the watch ended: {reason}"),
    }

    // What one does then: list, and watch from there.
    let head = store.head().await.unwrap();
    let mut fresh = store.watch(&KeyRange::all(), head).await.unwrap();
    let new = store.commit(create("new", "")).await.unwrap();
    assert_eq!(revisions(&told(&mut fresh, new).await), [new]);
}
