//! Bounded adds: what claims are made of.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{counter, key, once};
use crate::port::{COUNTER_MAX, CommitError, Revision, Store};

async fn add(store: &Arc<dyn Store>, id: &str, delta: i64, limit: Option<u64>) -> Result<Revision, CommitError> {
    store.commit(once(id, |txn| txn.add(key("counter"), delta, limit))).await
}

fn over(current: u64, delta: i64, limit: u64) -> CommitError {
    CommitError::OverLimit { key: key("counter"), current, delta, limit }
}

pub(super) async fn bounds(store: Arc<dyn Store>) {
    add(&store, "0", 10, Some(10)).await.expect("up to the limit");
    assert_eq!(add(&store, "1", 1, Some(10)).await, Err(over(10, 1, 10)), "one over the limit");
    add(&store, "2", 0, Some(3)).await.expect("no increase, so the limit does not matter");
    add(&store, "3", -2, Some(3)).await.expect("a limit may be lowered under what is in use");
    assert_eq!(add(&store, "4", 1, Some(3)).await, Err(over(8, 1, 3)), "but then nothing more fits");
    add(&store, "5", -8, None).await.expect("down to zero");
    assert_eq!(add(&store, "6", -1, None).await, Err(over(0, -1, u64::MAX)), "below zero");
    assert_eq!(add(&store, "7", 1, Some(0)).await, Err(over(0, 1, 0)), "nothing is allowed");
    assert_eq!(counter(&store, "counter").await, 0);

    add(&store, "8", i64::MAX, None).await.expect("up to what a counter can hold");
    assert_eq!(counter(&store, "counter").await, COUNTER_MAX);
    assert_eq!(add(&store, "9", 1, None).await, Err(over(COUNTER_MAX, 1, COUNTER_MAX)));
    assert_eq!(add(&store, "10", 1, Some(u64::MAX)).await, Err(over(COUNTER_MAX, 1, COUNTER_MAX)));
}

pub(super) async fn race(store: Arc<dyn Store>) {
    let ids: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let results = join_all(ids.iter().map(|id| add(&store, id, 3, Some(32)))).await;
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(accepted, 10, "ten times three fit under 32");
    for refused in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(*refused, over(30, 3, 32), "refused only once it was full");
    }
    assert_eq!(counter(&store, "counter").await, 30);

    // Ups and downs at once: the sum stays what was accepted, and within the bounds.
    let deltas: Vec<i64> = (0..60).map(|number| if number % 3 == 0 { -7 } else { 3 }).collect();
    let ids: Vec<String> = (60..120).map(|number| number.to_string()).collect();
    let results = join_all(ids.iter().zip(&deltas).map(|(id, delta)| add(&store, id, *delta, Some(32)))).await;
    let accepted = results.iter().zip(&deltas).filter(|(result, _)| result.is_ok()).map(|(_, delta)| delta);
    let sum = 30 + accepted.sum::<i64>();
    assert_eq!(i64::try_from(counter(&store, "counter").await), Ok(sum));
    assert!((0..=32).contains(&sum));
}

pub(super) async fn summed(store: Arc<dyn Store>) {
    let mut other = crate::port::Txn::new();
    other.add(key("counter"), 4, Some(9)).add(key("other"), 1, None);
    let txn = once("0", |txn| txn.add(key("counter"), 3, None).add(key("counter"), -1, None).merge(other));
    store.commit(txn).await.unwrap();
    assert_eq!((counter(&store, "counter").await, counter(&store, "other").await), (6, 1));
    let txn = once("1", |txn| txn.add(key("counter"), 2, Some(50)).add(key("counter"), 2, Some(9)));
    assert_eq!(store.commit(txn).await, Err(over(6, 4, 9)), "the sum counts, against the lowest limit");
    let txn = once("2", |txn| txn.add(key("counter"), -1, Some(0)).add(key("counter"), 3, None));
    store.commit(txn).await.expect("a decrease brings no limit along");
    assert_eq!(counter(&store, "counter").await, 8);
    let txn = once("3", |txn| txn.add(key("counter"), i64::MAX, None).add(key("counter"), i64::MAX, None));
    let result = store.commit(txn).await;
    assert!(matches!(result, Err(CommitError::Invalid(_))), "a sum that no counter can hold: {result:?}");
}
