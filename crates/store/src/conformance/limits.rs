//! What no engine takes: the limits exactly, one over, and transactions that could not be sent again.

use std::sync::Arc;

use bytes::Bytes;

use super::{create, key, once};
use crate::port::{CommitError, Key, LIMITS, Op, Revision, Store, Txn, TxnError};

async fn refused(store: &Arc<dyn Store>, txn: Txn) -> TxnError {
    let head = store.head().await.unwrap();
    let result = store.commit(txn).await;
    assert_eq!(store.head().await, Ok(head), "a refused transaction took a revision");
    match result {
        Err(CommitError::Invalid(error)) => error,
        Ok(_)
        | Err(CommitError::Conflict { .. })
        | Err(CommitError::OverLimit { .. })
        | Err(CommitError::NotNow { .. })
        | Err(CommitError::Unknown { .. }) => panic!("must be refused as invalid, but: {result:?}"),
    }
}

fn zeros(count: usize) -> Bytes {
    Bytes::from(vec![0; count])
}

pub(super) async fn sizes(store: Arc<dyn Store>) {
    let many = |count: usize| {
        let mut txn = create(&format!("once/{count}"), "");
        for number in 2..count {
            txn.put(key(&format!("many/{number}")), "");
        }
        txn
    };
    store.commit(many(LIMITS.operations)).await.expect("as many operations as are allowed");
    let count = LIMITS.operations + 1;
    assert_eq!(refused(&store, many(count)).await, TxnError::TooManyOperations { count });

    // "k" is counted twice: in the precondition and in the operation.
    let large = |bytes: usize| {
        let mut txn = create("k", "");
        let keys = 2 + "large/x".len() * 2;
        txn.put(key("large/a"), zeros(LIMITS.value_bytes))
            .put(key("large/b"), zeros(bytes - LIMITS.value_bytes - keys));
        txn
    };
    let bytes = LIMITS.bytes + 1;
    assert_eq!(refused(&store, large(bytes)).await, TxnError::TooLarge { bytes });
    store.commit(large(LIMITS.bytes)).await.expect("as many bytes as are allowed");
    let entry = store.get(&key("large/a")).await.unwrap().unwrap();
    assert_eq!(entry.record().map(Bytes::len), Some(LIMITS.value_bytes));

    let bytes = LIMITS.value_bytes + 1;
    let value = once("value", |txn| txn.put(key("value"), zeros(bytes)));
    assert_eq!(refused(&store, value).await, TxnError::ValueTooLarge { key: key("value"), bytes });
}

pub(super) async fn keys(store: Arc<dyn Store>) {
    let longest = Key::new(vec![b'k'; LIMITS.key_bytes]);
    let mut txn = Txn::new();
    txn.create(longest.clone(), "v");
    let revision = store.commit(txn).await.expect("a key as long as is allowed");
    assert_eq!(store.get(&longest).await.unwrap().unwrap().modified, revision);

    for bad in [Key::new(vec![b'k'; LIMITS.key_bytes + 1]), Key::new(""), Key::HEAD] {
        let op = once("op", |txn| txn.put(bad.clone(), ""));
        assert_eq!(refused(&store, op).await, TxnError::BadKey { key: bad.clone() });
        let precondition = once("precondition", |txn| txn.absent(bad.clone()));
        assert_eq!(refused(&store, precondition).await, TxnError::BadKey { key: bad.clone() });
    }

    let add = Op::Add { key: key("twice"), delta: 1, limit: None };
    let put = Op::Put(key("twice"), "".into());
    let delete = Op::Delete(key("twice"));
    for pair in [[&put, &put], [&put, &delete], [&delete, &add], [&add, &put], [&add, &add], [&delete, &delete]] {
        let mut txn = create("once/twice", "");
        txn.ops.extend(pair.map(Op::clone));
        assert_eq!(refused(&store, txn).await, TxnError::KeyTwice { key: key("twice") }, "{pair:?}");
    }
    // Named by a precondition and changed is not twice.
    store.commit(once("fine", |txn| txn.absent(key("x")).counter_is(key("x"), 0).put(key("x"), ""))).await.unwrap();
}

pub(super) async fn repeatable(store: Arc<dyn Store>) {
    let revision = store.commit(create("record", "")).await.unwrap();
    store.commit(once("counter", |txn| txn.add(key("counter"), 5, None))).await.unwrap();
    let head = store.head().await.unwrap();

    type Case = fn(&mut Txn, Revision, Revision) -> &mut Txn;
    let repeatable: &[Case] = &[
        |txn, _, _| txn,
        |txn, _, _| txn.put(key("new"), ""),
        |txn, _, _| txn.absent(key("new")),
        |txn, _, _| txn.absent(key("new")).put(key("other"), ""),
        |txn, _, _| txn.absent(key("new")).delete(key("new")),
        |txn, _, _| txn.exists(key("record")).put(key("record"), ""),
        |txn, _, _| txn.exists(key("counter")).add(key("counter"), 1, None),
        |txn, revision, _| txn.unchanged(key("record"), revision).put(key("other"), ""),
        |txn, _, _| txn.counter_is(key("counter"), 5).add(key("counter"), 0, None),
        |txn, _, _| txn.counter_is(key("new"), 0).delete(key("new")),
    ];
    for (number, case) in repeatable.iter().enumerate() {
        let mut txn = Txn::new();
        case(&mut txn, revision, head);
        assert_eq!(refused(&store, txn).await, TxnError::Repeatable, "case {number}");
    }
    let decidable: &[Case] = &[
        |txn, _, _| txn.absent(key("new")).add(key("new"), 0, None),
        |txn, revision, _| txn.unchanged(key("record"), revision).put(key("record"), ""),
        |txn, _, _| txn.exists(key("record")).delete(key("record")),
        |txn, _, _| txn.counter_is(key("counter"), 5).add(key("counter"), -1, None),
        |txn, _, head| txn.unchanged(key("counter"), head.next().next().next().next()).delete(key("counter")),
    ];
    for (number, case) in decidable.iter().enumerate() {
        let mut txn = Txn::new();
        case(&mut txn, revision, head);
        store.commit(txn.clone()).await.unwrap_or_else(|error| panic!("case {number}: {error}"));
        let again = store.commit(txn).await;
        assert!(matches!(again, Err(CommitError::Conflict { .. })), "case {number}, sent again: {again:?}");
    }
}
