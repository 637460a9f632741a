//! The core against a model that is too simple to be wrong: random transactions, grouped at random.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Core, HISTORY_BYTES_MAX, HISTORY_COMMITS_MAX, Pending};
use crate::port::{Batch, CommitError, Entry, Key, KeyRange, Op, Precondition, Revision, Txn, TxnError, Value};

/// One map from names to (value, created, modified), and every state that it ever had.
#[derive(Clone, Default)]
struct Model {
    state: BTreeMap<String, (Value, u64, u64)>,
    revision: u64,
}

impl Model {
    fn commit(&mut self, txn: &Txn) -> Result<Revision, CommitError> {
        for (index, precondition) in txn.preconditions.iter().enumerate() {
            let found = self.state.get(&*precondition.key().to_text());
            let holds = match precondition {
                Precondition::Absent(_) => found.is_none(),
                Precondition::Exists(_) => found.is_some(),
                Precondition::RevisionIs(_, revision) => found.map(|found| found.2) == Some(revision.as_u64()),
                Precondition::CounterIs(_, number) => {
                    found.map_or(Value::Counter(0), |found| found.0.clone()) == Value::Counter(*number)
                }
            };
            if !holds {
                return Err(CommitError::Conflict { index, key: precondition.key().clone() });
            }
        }
        let mut after = self.clone();
        after.revision += 1;
        for op in &txn.ops {
            after.change(op)?;
        }
        *self = after;
        Ok(Revision::from_u64(self.revision))
    }

    fn change(&mut self, op: &Op) -> Result<(), CommitError> {
        let name = op.key().to_text().into_owned();
        let before = self.state.remove(&name);
        let created = before.as_ref().map_or(self.revision, |before| before.1);
        let wrong = || CommitError::Invalid(TxnError::WrongKind { key: op.key().clone() });
        let value = match (op, before.map(|before| before.0)) {
            (Op::Delete(_), _) => return Ok(()),
            (Op::Put(_, value), None | Some(Value::Record(_))) => Value::Record(value.clone()),
            (Op::Put(..), Some(Value::Counter(_))) | (Op::Add { .. }, Some(Value::Record(_))) => return Err(wrong()),
            (Op::Add { key, delta, limit }, before @ (None | Some(Value::Counter(_)))) => {
                let current = before.map_or(0, |value| if let Value::Counter(number) = value { number } else { 0 });
                let sum = i128::from(current) + i128::from(*delta);
                let top = limit.unwrap_or(u64::MAX).min(i64::MAX as u64);
                let limit = if *delta > 0 { top } else { u64::MAX };
                if sum < 0 || sum > i128::from(limit) {
                    return Err(CommitError::OverLimit { key: key.clone(), current, delta: *delta, limit });
                }
                Value::Counter(u64::try_from(sum).unwrap())
            }
        };
        self.state.insert(name, (value, created, self.revision));
        Ok(())
    }

    fn entries(&self) -> Vec<(Key, Entry)> {
        let entry = |(value, created, modified): &(Value, u64, u64)| Entry {
            value: value.clone(),
            created: Revision::from_u64(*created),
            modified: Revision::from_u64(*modified),
        };
        self.state.iter().map(|(name, found)| (Key::from(name.as_str()), entry(found))).collect()
    }
}

fn key() -> impl Strategy<Value = Key> {
    select(vec!["a", "b", "b/1", "c", "d"]).prop_map(Key::from)
}

fn precondition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        key().prop_map(Precondition::Absent),
        key().prop_map(Precondition::Exists),
        (key(), 0..12_u64).prop_map(|(key, revision)| Precondition::RevisionIs(key, Revision::from_u64(revision))),
        (key(), 0..4_u64).prop_map(|(key, number)| Precondition::CounterIs(key, number)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let limit = prop_oneof![Just(None), (0..6_u64).prop_map(Some)];
    let delta = prop_oneof![-3..5_i64, Just(i64::MAX), Just(i64::MIN)];
    prop_oneof![
        (key(), 0..100_u8).prop_map(|(key, value)| Op::Put(key, Bytes::copy_from_slice(&[value]))),
        key().prop_map(Op::Delete),
        (key(), delta, limit).prop_map(|(key, delta, limit)| Op::Add { key, delta, limit }),
    ]
}

prop_compose! {
    /// Mostly without preconditions, so that much of it happens: the core takes what has passed its check, and asks not.
    fn txn()(
        preconditions in prop::collection::vec(precondition(), 0..2),
        ops in prop::collection::btree_map(key(), op(), 1..4),
    ) -> Txn {
        let ops: BTreeMap<Key, Op> = ops.into_values().map(|op| (op.key().clone(), op)).collect();
        Txn { preconditions, ops: ops.into_values().collect() }
    }
}

proptest! {
    #[test]
    fn agrees_with_the_model(groups in prop::collection::vec(prop::collection::vec(txn(), 1..6), 1..12)) {
        let (mut core, mut model) = (Core::default(), Model::default());
        let mut states = vec![model.clone()];
        for group in groups {
            let mut pending = Pending::default();
            let before = core.entries();
            for txn in &group {
                prop_assert_eq!(core.prepare(&mut pending, txn), model.commit(txn), "{:?}", txn);
                if model.revision > states.last().unwrap().revision {
                    states.push(model.clone());
                }
            }
            prop_assert_eq!(core.entries(), before, "what is only prepared must not show");
            let mut written: BTreeMap<Key, Entry> = core.entries().into_iter().collect();
            for (key, entry) in pending.changes() {
                match entry {
                    Some(entry) => written.insert(key.clone(), entry.clone()),
                    None => written.remove(key),
                };
            }
            core.apply(pending);
            prop_assert_eq!(core.entries(), model.entries());
            prop_assert_eq!(written.into_iter().collect::<Vec<_>>(), model.entries(), "the changes a journal writes");
            prop_assert_eq!(core.revision().as_u64(), model.revision);
        }
        check_history(&core, &states)?;
        check_reads(&core, &model)?;
    }
}

/// From each past state, the history that follows it leads to the present one.
fn check_history(core: &Core, states: &[Model]) -> Result<(), TestCaseError> {
    for past in states {
        let mut state: BTreeMap<Key, Entry> = past.entries().into_iter().collect();
        let batches = core.since(Revision::from_u64(past.revision), usize::MAX).unwrap();
        let first = Revision::from_u64(past.revision + 1).as_u64();
        let numbers: Vec<_> = batches.iter().map(|batch| batch.revision.as_u64()).collect();
        prop_assert_eq!(&numbers, &(first..=core.revision().as_u64()).collect::<Vec<_>>());
        for event in batches.iter().flat_map(|batch| &batch.events) {
            match &event.entry {
                Some(entry) => state.insert(event.key.clone(), entry.clone()),
                None => state.remove(&event.key),
            };
        }
        prop_assert_eq!(state.into_iter().collect::<Vec<_>>(), core.entries());
    }
    Ok(())
}

fn check_reads(core: &Core, model: &Model) -> Result<(), TestCaseError> {
    let all = model.entries();
    for (key, entry) in &all {
        let found = core.get(key);
        prop_assert_eq!(found.as_ref(), Some(entry));
    }
    for prefix in ["", "a", "b", "b/", "x"] {
        let inside: Vec<_> = all.iter().filter(|(key, _)| key.as_bytes().starts_with(prefix.as_bytes())).collect();
        for limit in 0..4 {
            let page = core.range(&KeyRange::prefix(prefix.as_bytes()), limit);
            prop_assert_eq!(page.entries.iter().collect::<Vec<_>>(), &inside[..limit.min(inside.len())]);
            prop_assert_eq!(page.more, inside.len() > limit);
        }
    }
    Ok(())
}

fn commit(core: &mut Core, key: &str, bytes: usize) {
    let mut txn = Txn::new();
    txn.put(Key::from(key), vec![0; bytes]);
    let mut pending = Pending::default();
    core.prepare(&mut pending, &txn).unwrap();
    core.apply(pending);
}

#[test]
fn the_history_is_bounded_in_commits_and_in_bytes() {
    let mut core = Core::default();
    for _ in 0..=HISTORY_COMMITS_MAX {
        commit(&mut core, "small", 1);
    }
    assert_eq!(core.since(Revision::ZERO, 1), None, "one commit too many");
    let kept = core.since(Revision::from_u64(1), usize::MAX).unwrap();
    assert_eq!(kept.len(), HISTORY_COMMITS_MAX);

    let large = 256 * 1024;
    let count = HISTORY_BYTES_MAX / large;
    let before = core.revision();
    for _ in 0..count {
        commit(&mut core, "large", large);
    }
    assert_eq!(core.since(before, 1), None, "that many bytes do not fit");
    let kept = core.since(before.next(), usize::MAX).unwrap();
    let bytes = |batch: &Arc<Batch>| batch.events[0].entry.as_ref().and_then(Entry::record).map_or(0, Bytes::len);
    assert!(kept.iter().map(bytes).sum::<usize>() <= HISTORY_BYTES_MAX);
    assert_eq!(kept.len(), count - 1, "but one less does");
}
