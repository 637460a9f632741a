//! Between the wire's types and the port's. What a peer of another release sends and nobody here understands is an error
//! with a text, never a guess.

use proto::store::v1 as wire;
use store::{Batch, CommitError, Entry, Event, Key, KeyRange, Op, Precondition, Revision, Txn, TxnError, Value};
use wire::commit_response::Outcome;
use wire::operation::Change;
use wire::precondition::Condition;

use crate::fence::{Kept, Place};

/// A message that makes no sense here.
pub(crate) type Nonsense = String;

pub(crate) fn entry_to_wire(key: &Key, entry: &Entry) -> wire::Entry {
    let value = match &entry.value {
        Value::Record(bytes) => wire::entry::Value::Record(bytes.clone()),
        Value::Counter(number) => wire::entry::Value::Counter(*number),
    };
    wire::Entry {
        key: key.to_bytes(),
        value: Some(value),
        created: entry.created.as_u64(),
        modified: entry.modified.as_u64(),
    }
}

pub(crate) fn entry_from_wire(entry: wire::Entry) -> Result<(Key, Entry), Nonsense> {
    let value = match entry.value {
        Some(wire::entry::Value::Record(bytes)) => Value::Record(bytes),
        Some(wire::entry::Value::Counter(number)) => Value::Counter(number),
        None => return Err("an entry has no value".into()),
    };
    let (created, modified) = (Revision::from_u64(entry.created), Revision::from_u64(entry.modified));
    Ok((Key::new(entry.key), Entry { value, created, modified }))
}

pub(crate) fn entries_from_wire(entries: Vec<wire::Entry>) -> Result<Vec<(Key, Entry)>, Nonsense> {
    entries.into_iter().map(entry_from_wire).collect()
}

pub(crate) fn range_to_wire(range: &KeyRange) -> wire::KeyRange {
    wire::KeyRange { start: range.start.to_bytes(), end: range.end.as_ref().map(Key::to_bytes) }
}

pub(crate) fn range_from_wire(range: Option<wire::KeyRange>) -> Result<KeyRange, Nonsense> {
    let range = range.ok_or("a range is missing")?;
    Ok(KeyRange { start: Key::new(range.start), end: range.end.map(Key::new) })
}

pub(crate) fn batch_to_wire(batch: &Batch) -> wire::Batch {
    let event = |event: &Event| match &event.entry {
        Some(entry) => wire::Event { entry: Some(entry_to_wire(&event.key, entry)), ..wire::Event::default() },
        None => wire::Event { entry: None, deleted: event.key.to_bytes() },
    };
    wire::Batch { revision: batch.revision.as_u64(), events: batch.events.iter().map(event).collect() }
}

pub(crate) fn batch_from_wire(batch: wire::Batch) -> Result<Batch, Nonsense> {
    let event = |event: wire::Event| match event.entry {
        Some(entry) => entry_from_wire(entry).map(|(key, entry)| Event { key, entry: Some(entry) }),
        None => Ok(Event { key: Key::new(event.deleted), entry: None }),
    };
    let events = batch.events.into_iter().map(event).collect::<Result<_, Nonsense>>()?;
    Ok(Batch { revision: Revision::from_u64(batch.revision), events })
}

pub(crate) fn txn_to_wire(txn: Txn, place: Place) -> wire::CommitRequest {
    let precondition = |precondition: Precondition| {
        let key = precondition.key().to_bytes();
        let condition = match precondition {
            Precondition::Absent(_) => Condition::Absent(wire::Absent {}),
            Precondition::Exists(_) => Condition::Exists(wire::Exists {}),
            Precondition::RevisionIs(_, revision) => Condition::RevisionIs(revision.as_u64()),
            Precondition::CounterIs(_, number) => Condition::CounterIs(number),
        };
        wire::Precondition { key, condition: Some(condition) }
    };
    let operation = |op: Op| {
        let key = op.key().to_bytes();
        let change = match op {
            Op::Put(_, value) => Change::Put(value),
            Op::Delete(_) => Change::Delete(wire::Delete {}),
            Op::Add { delta, limit, .. } => Change::Add(wire::Add { delta, limit }),
        };
        wire::Operation { key, change: Some(change) }
    };
    wire::CommitRequest {
        preconditions: txn.preconditions.into_iter().map(precondition).collect(),
        operations: txn.ops.into_iter().map(operation).collect(),
        place: Some(wire::Place {
            life: place.life,
            client: place.client,
            number: place.number,
            waits_from: place.waits_from,
        }),
    }
}

/// A request that says nothing of its place is meant for no life of any store.
pub(crate) fn place_from_wire(place: Option<&wire::Place>) -> Place {
    let place = place.copied().unwrap_or_default();
    Place { life: place.life, client: place.client, number: place.number, waits_from: place.waits_from }
}

pub(crate) fn kept_to_wire(kept: Kept) -> wire::CommitResponse {
    let outcome = match kept {
        Kept::OtherLife(life) => Outcome::OtherLife(life),
        Kept::Overtaken => Outcome::NotNow("this request came too late, or is a copy".into()),
    };
    wire::CommitResponse { outcome: Some(outcome) }
}

pub(crate) fn txn_from_wire(request: wire::CommitRequest) -> Result<Txn, Nonsense> {
    let precondition = |precondition: wire::Precondition| {
        let key = Key::new(precondition.key);
        match precondition.condition {
            Some(Condition::Absent(_)) => Ok(Precondition::Absent(key)),
            Some(Condition::Exists(_)) => Ok(Precondition::Exists(key)),
            Some(Condition::RevisionIs(revision)) => Ok(Precondition::RevisionIs(key, Revision::from_u64(revision))),
            Some(Condition::CounterIs(number)) => Ok(Precondition::CounterIs(key, number)),
            None => Err(format!("this release does not know the precondition on {key}")),
        }
    };
    let op = |operation: wire::Operation| {
        let key = Key::new(operation.key);
        match operation.change {
            Some(Change::Put(value)) => Ok(Op::Put(key, value)),
            Some(Change::Delete(_)) => Ok(Op::Delete(key)),
            Some(Change::Add(add)) => Ok(Op::Add { key, delta: add.delta, limit: add.limit }),
            None => Err(format!("this release does not know the change of {key}")),
        }
    };
    Ok(Txn {
        preconditions: request.preconditions.into_iter().map(precondition).collect::<Result<_, Nonsense>>()?,
        ops: request.operations.into_iter().map(op).collect::<Result<_, Nonsense>>()?,
    })
}

pub(crate) fn outcome_to_wire(result: Result<Revision, CommitError>) -> wire::CommitResponse {
    let outcome = match result {
        Ok(revision) => Outcome::Revision(revision.as_u64()),
        Err(CommitError::Conflict { index, key }) => {
            Outcome::Conflict(wire::Conflict { index: u32::try_from(index).unwrap_or(u32::MAX), key: key.to_bytes() })
        }
        Err(CommitError::OverLimit { key, current, delta, limit }) => {
            Outcome::OverLimit(wire::OverLimit { key: key.to_bytes(), current, delta, limit })
        }
        Err(CommitError::NotNow { reason }) => Outcome::NotNow(reason),
        Err(CommitError::Unknown { reason }) => Outcome::Unknown(reason),
        Err(CommitError::Invalid(error)) => Outcome::Invalid(invalid_to_wire(error)),
    };
    wire::CommitResponse { outcome: Some(outcome) }
}

/// An outcome that makes no sense here is an unknown one: something may have happened.
pub(crate) fn outcome_from_wire(response: wire::CommitResponse) -> Result<Revision, CommitError> {
    let unknown = |reason: &str| CommitError::Unknown { reason: reason.to_owned() };
    Err(match response.outcome {
        Some(Outcome::Revision(revision)) => return Ok(Revision::from_u64(revision)),
        Some(Outcome::Conflict(conflict)) => CommitError::Conflict {
            index: usize::try_from(conflict.index).unwrap_or(usize::MAX),
            key: Key::new(conflict.key),
        },
        Some(Outcome::OverLimit(over)) => CommitError::OverLimit {
            key: Key::new(over.key),
            current: over.current,
            delta: over.delta,
            limit: over.limit,
        },
        Some(Outcome::NotNow(reason)) => CommitError::NotNow { reason },
        Some(Outcome::OtherLife(_)) => CommitError::NotNow { reason: "the store was opened again".into() },
        Some(Outcome::Unknown(reason)) => CommitError::Unknown { reason },
        Some(Outcome::Invalid(invalid)) => match invalid_from_wire(invalid) {
            Some(error) => CommitError::Invalid(error),
            // Refused for a reason of a newer release: nothing happened.
            None => CommitError::NotNow { reason: "the store has a rule that this release does not know".into() },
        },
        None => unknown("the store answered something that this release does not know"),
    })
}

fn invalid_to_wire(error: TxnError) -> wire::Invalid {
    use wire::InvalidReason as Reason;
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let (reason, key, number) = match error {
        TxnError::TooManyOperations { count } => (Reason::TooManyOperations, None, number(count)),
        TxnError::TooLarge { bytes } => (Reason::TooLarge, None, number(bytes)),
        TxnError::ValueTooLarge { key, bytes } => (Reason::ValueTooLarge, Some(key), number(bytes)),
        TxnError::BadKey { key } => (Reason::BadKey, Some(key), 0),
        TxnError::KeyTwice { key } => (Reason::KeyTwice, Some(key), 0),
        TxnError::WrongKind { key } => (Reason::WrongKind, Some(key), 0),
        TxnError::Repeatable => (Reason::Repeatable, None, 0),
    };
    wire::Invalid { reason: reason.into(), key: key.map_or_else(Default::default, |key| key.to_bytes()), number }
}

fn invalid_from_wire(invalid: wire::Invalid) -> Option<TxnError> {
    use wire::InvalidReason as Reason;
    let (key, number) = (Key::new(invalid.key), usize::try_from(invalid.number).unwrap_or(usize::MAX));
    Some(match Reason::try_from(invalid.reason).ok()? {
        Reason::Unspecified => return None,
        Reason::TooManyOperations => TxnError::TooManyOperations { count: number },
        Reason::TooLarge => TxnError::TooLarge { bytes: number },
        Reason::ValueTooLarge => TxnError::ValueTooLarge { key, bytes: number },
        Reason::BadKey => TxnError::BadKey { key },
        Reason::KeyTwice => TxnError::KeyTwice { key },
        Reason::WrongKind => TxnError::WrongKind { key },
        Reason::Repeatable => TxnError::Repeatable,
    })
}
