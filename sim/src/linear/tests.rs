//! The checker against one that tries every order; and a view that answers from what it has, caught by it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use planted::Bug;
use store::port::Snapshot;
use store::{Batch, CommitError, Entry, Key, KeyRange, Page, ReadError, Revision, Store, Txn, View, Watch, WatchError};
use world::World;

use super::{Call, Model, Unexplained, check};
use crate::disk::SimDisk;
use crate::exec::{Exec, Limits};
use crate::rng::Rng;

/// A register that holds a small number.
struct Register;

#[derive(Clone, Copy, Debug)]
enum Op {
    Read,
    Write(u8),
}

impl Model for Register {
    type State = u8;
    type Op = Op;
    type Ret = u8;

    fn start(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, op: &Op, ret: Option<&u8>) -> Option<u8> {
        match op {
            Op::Read => ret.is_none_or(|ret| ret == state).then_some(*state),
            Op::Write(value) => Some(*value),
        }
    }
}

/// Tries every order that keeps what ended before another began in front of it.
fn tried_out(history: &[Call<Op, u8>], left: &[usize], state: u8) -> bool {
    if left.iter().all(|number| history[*number].ended.is_none()) {
        return true;
    }
    left.iter().any(|next| {
        let call = &history[*next];
        let behind = |other: &usize| history[*other].ended.is_some_and(|(ended, _)| ended < call.begun);
        let rest: Vec<usize> = left.iter().copied().filter(|other| other != next).collect();
        !rest.iter().any(behind)
            && Register
                .step(&state, &call.op, call.ended.as_ref().map(|(_, ret)| ret))
                .is_some_and(|after| tried_out(history, &rest, after))
    })
}

fn random(rng: &mut Rng) -> Vec<Call<Op, u8>> {
    let calls = 1 + rng.index(6);
    let call = |client: usize| {
        let begun = rng.below(12);
        let value = u8::try_from(rng.below(3)).unwrap();
        let op = if rng.chance(1, 2) { Op::Read } else { Op::Write(value) };
        let ended = rng.chance(5, 6).then(|| (begun + rng.below(5), value));
        Call { client, op, begun, ended }
    };
    (0..calls).map(call).collect()
}

#[test]
fn it_agrees_with_trying_every_order() {
    let mut rng = Rng::new(1, "histories");
    let mut counts = [0, 0];
    for _ in 0..30_000 {
        let history = random(&mut rng);
        let all: Vec<usize> = (0..history.len()).collect();
        let (want, got) = (tried_out(&history, &all, 0), check(&Register, &history));
        assert_eq!(got.is_ok(), want, "{history:?}");
        counts[usize::from(want)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 5_000), "the histories are all of one kind: {counts:?}");
}

#[test]
fn a_long_history_with_unknown_outcomes_takes_no_time() {
    // Three clients write side by side, a fourth reads behind them; every tenth write is never answered.
    let mut history = Vec::new();
    for round in 0..200_u64 {
        for client in 0..3_u64 {
            let value = u8::try_from((round * 3 + client) % 251).unwrap();
            let ended = ((round * 3 + client) % 10 != 0).then_some((round * 100 + 50, value));
            history.push(Call { client: client as usize, op: Op::Write(value), begun: round * 100 + client, ended });
        }
        let last = u8::try_from((round * 3 + 1) % 251).unwrap();
        history.push(Call { client: 3, op: Op::Read, begun: round * 100 + 10, ended: Some((round * 100 + 60, last)) });
    }
    assert_eq!(check(&Register, &history), Ok(()));
}

/// A store as another process sees it: what it watches arrives late.
struct Late {
    store: Arc<dyn Store>,
    world: World,
}

struct LateWatch {
    watch: Box<dyn Watch>,
    world: World,
}

#[async_trait]
impl Watch for LateWatch {
    async fn next(&mut self) -> Result<Vec<Arc<Batch>>, WatchError> {
        let batches = self.watch.next().await;
        self.world.sleep(Duration::from_micros(self.world.random_below(5_000))).await;
        batches
    }
}

#[async_trait]
impl Store for Late {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.store.get(key).await
    }

    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.store.range(range, limit).await
    }

    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        let watch = self.store.watch(range, after).await?;
        Ok(Box::new(LateWatch { watch, world: self.world.clone() }))
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.store.snapshot().await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        self.store.commit(txn).await
    }

    async fn head(&self) -> Result<Revision, ReadError> {
        self.store.head().await
    }
}

/// Two processes with a view each write and read one register.
fn two_views(seed: u64) -> Result<(), Unexplained> {
    let exec = Exec::new(seed, false);
    let (process, world) = exec.process("views", &SimDisk::new(seed, "views"));
    let history: Arc<Mutex<Vec<Call<Op, u8>>>> = Arc::default();
    let (clock, calls) = (exec.clone(), Arc::clone(&history));
    let limits = Limits { steps: 1_000_000, nanos: 3600 * 1_000_000_000 };
    let work = async move {
        let store: Arc<dyn Store> = Arc::new(store::memory::open(&world));
        let mut clients = Vec::new();
        for client in 0..2 {
            let late = Late { store: Arc::clone(&store), world: world.clone() };
            let view = View::open(&world, Arc::new(late), Vec::new()).await.unwrap();
            let (world, clock, calls) = (world.clone(), clock.clone(), Arc::clone(&calls));
            clients.push(async move {
                let key = || Key::from("register");
                for turn in 0..50_u8 {
                    world.sleep(Duration::from_micros(world.random_below(3_000))).await;
                    let begun = clock.now();
                    let (op, ret) = if turn % 2 == 0 {
                        let value = 2 * turn + client + 1;
                        let mut txn = Txn::new();
                        txn.create(Key::from(format!("written/{value}")), "");
                        txn.put(key(), vec![value]);
                        view.store().commit(txn).await.unwrap();
                        (Op::Write(value), value)
                    } else {
                        let read =
                            view.read(|reader| reader.entry(&key()).and_then(Entry::record).map(|bytes| bytes[0]));
                        (Op::Read, read.await.unwrap().unwrap_or(0))
                    };
                    let call = Call { client: usize::from(client), op, begun, ended: Some((clock.now(), ret)) };
                    calls.lock().push(call);
                }
            });
        }
        futures_util::future::join_all(clients).await;
    };
    exec.block_on(process, limits, work).expect("both come to their end");
    exec.end();
    let history = history.lock();
    assert_eq!(history.len(), 100);
    check(&Register, &history)
}

#[test]
fn a_view_that_does_not_wait_is_found_out_and_one_that_does_is_not() {
    for seed in 0..20 {
        assert_eq!(two_views(seed), Ok(()), "seed {seed}");
    }
    let _planted = planted::plant(Some(Bug::ReadsDoNotWait));
    assert!((0..20).all(|seed| two_views(seed).is_err()));
}

#[test]
fn a_server_is_one_server_to_all() {
    use super::servers::{Histories, Op, Ret};

    let shown = |text: &str| Ret::Shown { description: (!text.is_empty()).then(|| text.to_owned()), deleting: false };
    let going = || Ret::Shown { description: None, deleting: true };
    let wrong = |calls: &[(Op, Option<Ret>)]| {
        let mut histories = Histories::default();
        for (begun, (op, ret)) in (0..).step_by(10).zip(calls) {
            let call = Call { client: 0, op: op.clone(), begun, ended: ret.clone().map(|ret| (begun + 5, ret)) };
            histories.note("s", call);
        }
        histories.complaints()
    };
    let create = || (Op::Create, Some(Ret::There));
    let describe = |text: &str, ret| (Op::Describe(text.to_owned()), ret);
    let delete = |ret| (Op::Delete, ret);
    let look = |ret| (Op::Look, Some(ret));

    let vanished = wrong(&[create(), look(shown("")), look(Ret::Missing)]);
    assert_eq!(vanished.len(), 1);
    assert!(vanished[0].starts_with("s was not one server") && vanished[0].lines().count() == 4, "{vanished:?}");
    let there = Some(Ret::There);
    assert!(wrong(&[create(), describe("a", there.clone()), look(shown("a"))]).is_empty());
    assert_eq!(wrong(&[create(), describe("a", there.clone()), look(shown(""))]).len(), 1, "an old description");
    // Nobody knows whether it was written: it may be read later, and then stays.
    assert!(wrong(&[create(), describe("a", None), look(shown("")), look(shown("a"))]).is_empty());
    assert_eq!(wrong(&[create(), describe("a", None), look(shown("a")), look(shown(""))]).len(), 1);
    assert!(wrong(&[create(), delete(there.clone()), look(going()), look(Ret::Missing)]).is_empty());
    assert!(wrong(&[create(), delete(None), look(shown("")), look(Ret::Missing)]).is_empty());
    assert_eq!(wrong(&[create(), delete(there.clone()), look(shown(""))]).len(), 1, "it is being deleted");
    assert_eq!(wrong(&[create(), delete(there), look(Ret::Missing), look(going())]).len(), 1, "it came back");
}

#[test]
fn a_quota_is_neither_exceeded_nor_refused_too_early() {
    use super::quota::{Counted, Created};

    let complaints = |limit: u64, going: Option<u64>, gone: Option<u64>| {
        let mut counted = Counted::new(limit);
        counted.created("a", 0, 1, Created::Accepted);
        counted.created("b", 2, 3, Created::Accepted);
        counted.created("c", 4, 5, Created::OverQuota);
        going.into_iter().for_each(|when| counted.going("a", when));
        gone.into_iter().for_each(|when| counted.gone("a", when));
        counted.complaints().len()
    };
    assert_eq!(complaints(2, None, None), 0);
    assert_eq!(complaints(1, None, None), 1, "b is one too many");
    assert_eq!(complaints(3, None, None), 1, "c was refused while there was room");
    assert_eq!(complaints(1, Some(2), None), 0, "a may have gone before b came");
    assert_eq!(complaints(2, Some(2), Some(3)), 1, "a was gone when c was refused");
}

#[test]
fn a_limit_that_moves_holds_from_its_answer_and_may_hold_before() {
    use super::quota::{Counted, Created};

    // It is lowered from 2 to 1, and raised again; nobody hears whether it was raised to 3 in between.
    let mut counted = Counted::new(2);
    let lowered = counted.limiting(1, 10);
    counted.limited(lowered, 20);
    let refused = counted.limiting(9, 21);
    counted.not_limited(refused);
    let _never_answered = counted.limiting(3, 30);
    let raised = counted.limiting(2, 40);
    counted.limited(raised, 50);
    for (from, to, limits) in [
        (0, 9, vec![2]),
        (0, 10, vec![1, 2]),
        (20, 20, vec![1, 2]),
        (21, 29, vec![1]),
        (21, 30, vec![1, 3]),
        (31, 45, vec![1, 2, 3]),
        (51, 60, vec![2]),
    ] {
        assert_eq!(counted.limits_between(from, to).into_iter().collect::<Vec<_>>(), limits, "{from} to {to}");
    }
    counted.created("a", 0, 1, Created::Accepted);
    counted.created("b", 22, 25, Created::Accepted);
    assert_eq!(counted.complaints().len(), 1, "b came while one was allowed");
    counted.created("b", 22, 30, Created::Accepted);
    assert!(counted.complaints().is_empty(), "b may have come with the change that nobody heard of");
    counted.created("c", 15, 16, Created::OverQuota);
    assert!(counted.complaints().is_empty(), "the lower limit may have held already");
    counted.created("c", 51, 52, Created::OverQuota);
    assert!(counted.complaints().is_empty(), "two are there of two");
    counted.going("a", 45);
    counted.gone("a", 46);
    assert_eq!(counted.complaints().len(), 1, "one is there of two, and one was allowed only before");
}
