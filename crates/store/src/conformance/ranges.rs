//! Ranges and pages, at their edges.

use std::sync::Arc;

use super::{contents, create, key};
use crate::port::{Key, KeyRange, Store, Txn};

async fn names(store: &Arc<dyn Store>, range: &KeyRange, limit: usize) -> (Vec<Vec<u8>>, bool) {
    let page = store.range(range, limit).await.unwrap();
    assert_eq!(page.revision, store.head().await.unwrap());
    (page.entries.iter().map(|(key, _)| key.as_bytes().to_vec()).collect(), page.more)
}

fn texts(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

pub(super) async fn pages(store: Arc<dyn Store>) {
    assert_eq!(names(&store, &KeyRange::all(), 10).await, (vec![], false), "an empty store");
    let mut txn = create("b/1", "");
    for name in ["a", "b/2", "b/3", "b", "c", "z"] {
        txn.put(key(name), "");
    }
    store.commit(txn).await.unwrap();

    let all = ["a", "b", "b/1", "b/2", "b/3", "c", "z"];
    assert_eq!(names(&store, &KeyRange::all(), 100).await, (texts(&all), false), "in order, and without the head");
    let range = |start: &str, end: Option<&str>| KeyRange { start: key(start), end: end.map(key) };
    assert_eq!(names(&store, &range("b/1", Some("b/3")), 100).await, (texts(&["b/1", "b/2"]), false), "end excluded");
    assert_eq!(names(&store, &range("b/11", None), 2).await, (texts(&["b/2", "b/3"]), true), "start between keys");
    assert_eq!(names(&store, &range("b", Some("b")), 100).await, (vec![], false), "empty range");
    assert_eq!(names(&store, &range("c", Some("a")), 100).await, (vec![], false), "ends before it starts");
    assert_eq!(names(&store, &range("zz", None), 100).await, (vec![], false), "behind everything");
    assert_eq!(names(&store, &KeyRange::all(), 0).await, (vec![], true), "no room for any");
    assert_eq!(names(&store, &KeyRange::all(), 7).await, (texts(&all), false), "just enough room");
    assert_eq!(names(&store, &KeyRange::all(), 6).await, (texts(&all[..6]), true), "one too few");

    for size in 1..=3 {
        let (mut range, mut found) = (KeyRange::prefix(b"b"), Vec::new());
        loop {
            let page = store.range(&range, size).await.unwrap();
            found.extend(page.entries.iter().map(|(key, _)| key.as_bytes().to_vec()));
            if !page.more {
                break;
            }
            range = range.after(&page.entries.last().unwrap().0);
        }
        assert_eq!(found, texts(&["b", "b/1", "b/2", "b/3"]), "page by page, {size} at a time");
    }
}

pub(super) async fn prefixes(store: Arc<dyn Store>) {
    let mut txn = Txn::new();
    txn.create(key("a"), "");
    let keys: [&[u8]; 7] = [b"\0", b"a\0", b"a\xff", b"a\xff\xffz", b"b", b"\xff", b"\xff\xff\0"];
    for key in keys {
        txn.put(Key::new(key.to_vec()), "");
    }
    store.commit(txn).await.unwrap();
    let stored = contents(&store).await;
    let prefixes: [&[u8]; 9] = [b"", b"\0", b"a", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b"c"];
    for prefix in prefixes {
        let expected = stored.keys().map(|key| key.as_bytes().to_vec()).filter(|key| key.starts_with(prefix));
        let found = names(&store, &KeyRange::prefix(prefix), 100).await;
        assert_eq!(found, (expected.collect(), false), "prefix {prefix:?}");
    }
}
