//! Preconditions, and that a transaction happens as a whole or not at all.

use std::sync::Arc;

use super::{conflict, contents, counter, create, key, once};
use crate::port::{CommitError, Precondition, Revision, Store, Txn, TxnError, Value};

pub(super) async fn each_precondition(store: Arc<dyn Store>) {
    let old = store.commit(create("record", "1")).await.unwrap();
    let mut change = Txn::new();
    change.replace(key("record"), old, "2").add(key("counter"), 7, None).add(key("zero"), 0, None);
    let now = store.commit(change).await.unwrap();
    let unborn = now.next().next();

    let absent = |name| Precondition::Absent(key(name));
    let exists = |name| Precondition::Exists(key(name));
    let revision = |name, revision| Precondition::RevisionIs(key(name), revision);
    let number = |name, number| Precondition::CounterIs(key(name), number);
    let cases = [
        (true, absent("nothing")),
        (false, absent("record")),
        (false, absent("counter")),
        (false, absent("zero")),
        (true, exists("record")),
        (true, exists("zero")),
        (false, exists("nothing")),
        (true, revision("record", now)),
        (true, revision("counter", now)),
        (false, revision("record", old)),
        (false, revision("record", unborn)),
        (false, revision("nothing", now)),
        (false, revision("nothing", Revision::ZERO)),
        (true, number("counter", 7)),
        (true, number("zero", 0)),
        (true, number("nothing", 0)),
        (false, number("counter", 8)),
        (false, number("nothing", 1)),
        (false, number("record", 0)),
    ];
    for (case, (holds, wanted)) in cases.into_iter().enumerate() {
        let txn = once(&case.to_string(), |txn| txn.require(wanted.clone()));
        let head = store.head().await.unwrap();
        let expected =
            if holds { Ok(head.next()) } else { Err(CommitError::Conflict { index: 0, key: wanted.key().clone() }) };
        assert_eq!(store.commit(txn).await, expected, "{wanted:?}");
    }
}

pub(super) async fn first_failing(store: Arc<dyn Store>) {
    store.commit(create("there", "")).await.unwrap();
    let mut txn = Txn::new();
    txn.absent(key("a")).exists(key("there")).absent(key("there")).exists(key("b")).create(key("c"), "");
    assert_eq!(store.commit(txn).await, conflict(2, "there"), "the third is the first that fails");

    // A failing precondition comes before a bound that does not hold: the bound may be outdated for the same reason.
    let txn = once("bound", |txn| txn.exists(key("b")).add(key("counter"), 2, Some(1)));
    assert_eq!(store.commit(txn).await, conflict(0, "b"));
}

pub(super) async fn all_or_nothing(store: Arc<dyn Store>) {
    let old = store.commit(create("old", "1")).await.unwrap();
    let before = contents(&store).await;
    let mut refused = Txn::new();
    refused.absent(key("old")).delete(key("old")).put(key("new"), "1").add(key("counter"), 1, None);
    refused.create(key("once"), "");
    assert_eq!(store.commit(refused).await, conflict(0, "old"));
    let over = once("over", |txn| txn.delete(key("old")).put(key("new"), "1").add(key("counter"), 2, Some(1)));
    store.commit(over).await.unwrap_err();
    assert_eq!(contents(&store).await, before, "a refused transaction left something behind");
    assert_eq!(store.head().await, Ok(old), "a refused transaction took a revision");

    let mut accepted = Txn::new();
    accepted.remove(key("old"), old).put(key("new"), "1").add(key("counter"), 1, None).delete(key("never there"));
    let revision = store.commit(accepted).await.unwrap();
    let after = contents(&store).await;
    let found: Vec<_> = after.iter().map(|(key, entry)| (key.to_text(), entry.modified)).collect();
    assert_eq!(found, [("counter".into(), revision), ("new".into(), revision)]);
}

pub(super) async fn created_and_modified(store: Arc<dyn Store>) {
    let first = store.commit(create("key", "1")).await.unwrap();
    let mut change = Txn::new();
    change.replace(key("key"), first, "2");
    let second = store.commit(change).await.unwrap();
    let entry = store.get(&key("key")).await.unwrap().unwrap();
    assert_eq!((entry.value, entry.created, entry.modified), (Value::Record("2".into()), first, second));

    let mut delete = Txn::new();
    delete.remove(key("key"), second);
    store.commit(delete).await.unwrap();
    assert_eq!(store.get(&key("key")).await, Ok(None));
    let again = store.commit(create("key", "3")).await.unwrap();
    let entry = store.get(&key("key")).await.unwrap().unwrap();
    assert_eq!((entry.created, entry.modified), (again, again), "a key that was deleted begins anew");
}

pub(super) async fn kinds(store: Arc<dyn Store>) {
    store.commit(once("0", |txn| txn.put(key("record"), "").add(key("counter"), 3, None))).await.unwrap();
    let wrong = |name| Err(CommitError::Invalid(TxnError::WrongKind { key: key(name) }));
    let put = once("1", |txn| txn.put(key("counter"), ""));
    assert_eq!(store.commit(put).await, wrong("counter"));
    let add = once("2", |txn| txn.add(key("record"), 1, None));
    assert_eq!(store.commit(add).await, wrong("record"));
    assert_eq!(counter(&store, "counter").await, 3);

    // Once deleted, a key may become either.
    store.commit(once("3", |txn| txn.delete(key("record")).delete(key("counter")))).await.unwrap();
    store.commit(once("4", |txn| txn.put(key("counter"), "").add(key("record"), 1, None))).await.unwrap();
    assert_eq!(counter(&store, "record").await, 1);
}
