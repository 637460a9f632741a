//! A transaction, and the rules that every engine holds it to.

use bytes::Bytes;

use super::{Key, Revision};

/// What no transaction may exceed, on any engine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Preconditions and operations together.
    pub operations: usize,
    /// Bytes of all keys and values together.
    pub bytes: usize,
    /// Bytes of one value.
    pub value_bytes: usize,
    /// Bytes of one key.
    pub key_bytes: usize,
}

/// The limits. They leave room for `head` and the bookkeeping within etcd's 128 operations.
pub const LIMITS: Limits = Limits { operations: 100, bytes: 512 * 1024, value_bytes: 256 * 1024, key_bytes: 512 };

/// The most that a counter can hold: what every engine's numbers can hold.
pub const COUNTER_MAX: u64 = i64::MAX as u64;

/// What must be true when the transaction happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The key holds nothing.
    Absent(Key),
    /// The key holds something.
    Exists(Key),
    /// The key was last written by this commit.
    RevisionIs(Key, Revision),
    /// The counter holds this number (an absent counter holds 0).
    CounterIs(Key, u64),
}

impl Precondition {
    /// The key that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Precondition::Absent(key)
            | Precondition::Exists(key)
            | Precondition::RevisionIs(key, _)
            | Precondition::CounterIs(key, _) => key,
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a record.
    Put(Key, Bytes),
    /// Removes a key, if it is there.
    Delete(Key),
    /// Moves a counter. An increase is refused if the result would exceed `limit`; a decrease only below zero, so that
    /// a limit may be lowered under what is in use.
    Add {
        /// The counter.
        key: Key,
        /// The change.
        delta: i64,
        /// The most that an increase may reach; `None`: [`COUNTER_MAX`].
        limit: Option<u64>,
    },
}

impl Op {
    /// The key that it changes.
    pub fn key(&self) -> &Key {
        match self {
            Op::Put(key, _) | Op::Delete(key) | Op::Add { key, .. } => key,
        }
    }
}

/// Preconditions and changes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must be true.
    pub preconditions: Vec<Precondition>,
    /// What changes.
    pub ops: Vec<Op>,
}

/// Why no engine takes a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// More than [`Limits::operations`].
    #[error("{count} operations; at most {} are possible", LIMITS.operations)]
    TooManyOperations {
        /// Preconditions and operations.
        count: usize,
    },
    /// More than [`Limits::bytes`].
    #[error("{bytes} bytes; at most {} are possible", LIMITS.bytes)]
    TooLarge {
        /// Bytes of all keys and values.
        bytes: usize,
    },
    /// More than [`Limits::value_bytes`] in one value.
    #[error("the value of {key} has {bytes} bytes; at most {} are possible", LIMITS.value_bytes)]
    ValueTooLarge {
        /// The key.
        key: Key,
        /// Its value's size.
        bytes: usize,
    },
    /// A key that is empty, too long, or reserved.
    #[error("the key {key:?} is empty, longer than {} bytes, or reserved", LIMITS.key_bytes)]
    BadKey {
        /// The key.
        key: Key,
    },
    /// A key is changed more than once.
    #[error("{key} is changed twice")]
    KeyTwice {
        /// The key.
        key: Key,
    },
    /// A record used as a counter, or the other way round.
    #[error("{key} is of the other kind (record or counter)")]
    WrongKind {
        /// The key.
        key: Key,
    },
    /// No precondition turns false by the transaction's own success, so an unknown outcome could not be decided.
    #[error("no precondition turns false when the transaction happens")]
    Repeatable,
}

impl Txn {
    /// An empty transaction.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Requires that `key` holds nothing.
    pub fn absent(&mut self, key: Key) -> &mut Txn {
        self.require(Precondition::Absent(key))
    }

    /// Requires that `key` holds something.
    pub fn exists(&mut self, key: Key) -> &mut Txn {
        self.require(Precondition::Exists(key))
    }

    /// Requires that `key` was last written at `revision`.
    pub fn unchanged(&mut self, key: Key, revision: Revision) -> &mut Txn {
        self.require(Precondition::RevisionIs(key, revision))
    }

    /// Requires that the counter `key` holds `number`.
    pub fn counter_is(&mut self, key: Key, number: u64) -> &mut Txn {
        self.require(Precondition::CounterIs(key, number))
    }

    /// Adds a precondition; one that is there already is not added twice.
    pub fn require(&mut self, precondition: Precondition) -> &mut Txn {
        if !self.preconditions.contains(&precondition) {
            self.preconditions.push(precondition);
        }
        self
    }

    /// Writes a record.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) -> &mut Txn {
        self.ops.push(Op::Put(key, value.into()));
        self
    }

    /// Writes a record under a key that must hold nothing yet.
    pub fn create(&mut self, key: Key, value: impl Into<Bytes>) -> &mut Txn {
        self.absent(key.clone()).put(key, value)
    }

    /// Writes a record that must still be as it was at `revision`.
    pub fn replace(&mut self, key: Key, revision: Revision, value: impl Into<Bytes>) -> &mut Txn {
        self.unchanged(key.clone(), revision).put(key, value)
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Key) -> &mut Txn {
        self.ops.push(Op::Delete(key));
        self
    }

    /// Removes a key that must still be as it was at `revision`.
    pub fn remove(&mut self, key: Key, revision: Revision) -> &mut Txn {
        self.unchanged(key.clone(), revision).delete(key)
    }

    /// Moves a counter; several moves of one counter become one. The lowest limit of an increase counts.
    pub fn add(&mut self, key: Key, delta: i64, limit: Option<u64>) -> &mut Txn {
        // A decrease has no limit of its own, so it must not lower that of an increase it is summed with.
        let limit = limit.filter(|_| delta > 0);
        for op in &mut self.ops {
            match op {
                // A sum that no counter could hold is left as two moves, which every engine refuses.
                Op::Add { key: there, delta: sum, limit: bound } if *there == key => {
                    let Some(both) = sum.checked_add(delta) else { break };
                    *sum = both;
                    *bound = match (*bound, limit) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    };
                    return self;
                }
                Op::Add { .. } | Op::Put(..) | Op::Delete(_) => {}
            }
        }
        self.ops.push(Op::Add { key, delta, limit });
        self
    }

    /// Takes over all of `other`.
    pub fn merge(&mut self, other: Txn) -> &mut Txn {
        for precondition in other.preconditions {
            self.require(precondition);
        }
        for op in other.ops {
            match op {
                Op::Add { key, delta, limit } => {
                    self.add(key, delta, limit);
                }
                Op::Put(..) | Op::Delete(_) => self.ops.push(op),
            }
        }
        self
    }

    /// Whether any engine takes it; every engine asks this first.
    pub fn check(&self) -> Result<(), TxnError> {
        self.weigh().map(drop)
    }

    /// [`Txn::check`], and the bytes of all keys and values.
    pub(crate) fn weigh(&self) -> Result<usize, TxnError> {
        let count = self.preconditions.len() + self.ops.len();
        if count > LIMITS.operations {
            return Err(TxnError::TooManyOperations { count });
        }
        let mut bytes = 0;
        let keys = self.preconditions.iter().map(Precondition::key).chain(self.ops.iter().map(Op::key));
        for key in keys {
            let length = key.as_bytes().len();
            if length == 0 || length > LIMITS.key_bytes || *key == Key::HEAD {
                return Err(TxnError::BadKey { key: key.clone() });
            }
            bytes += length;
        }
        for op in &self.ops {
            if let Op::Put(key, value) = op {
                if value.len() > LIMITS.value_bytes {
                    return Err(TxnError::ValueTooLarge { key: key.clone(), bytes: value.len() });
                }
                bytes += value.len();
            }
        }
        if bytes > LIMITS.bytes {
            return Err(TxnError::TooLarge { bytes });
        }
        if let Some(key) = self.changed_twice() {
            return Err(TxnError::KeyTwice { key: key.clone() });
        }
        if self.preconditions.iter().any(|precondition| self.falsifies(precondition)) {
            Ok(bytes)
        } else {
            Err(TxnError::Repeatable)
        }
    }

    fn changed_twice(&self) -> Option<&Key> {
        let mut keys: Vec<&Key> = self.ops.iter().map(Op::key).collect();
        keys.sort_unstable();
        keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    fn falsifies(&self, precondition: &Precondition) -> bool {
        let Some(op) = self.ops.iter().find(|op| op.key() == precondition.key()) else { return false };
        match (precondition, op) {
            (Precondition::Absent(_), Op::Put(..)) => true,
            (Precondition::Absent(_), Op::Add { .. }) => true,
            (Precondition::Absent(_), Op::Delete(_)) => false,
            (Precondition::Exists(_), Op::Delete(_)) => true,
            (Precondition::Exists(_), Op::Put(..) | Op::Add { .. }) => false,
            (Precondition::RevisionIs(..), Op::Put(..) | Op::Delete(_) | Op::Add { .. }) => true,
            (Precondition::CounterIs(..), Op::Add { delta, .. }) => *delta != 0,
            (Precondition::CounterIs(_, number), Op::Delete(_)) => *number != 0,
            (Precondition::CounterIs(..), Op::Put(..)) => false,
        }
    }
}
