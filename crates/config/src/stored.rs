//! The tables: what is set, how far the configuration is, and its history. The one place that knows both forms.

use bytes::Bytes;
use proto::config::state::v1 as stored;
use store::{Record, Revision};
use world::Wall;

use crate::document::{Held, Slot};
use crate::scope::Scope;

/// Everything of the configuration lies under this.
pub const PREFIX: &str = "config/";

/// A value that is set. The change that takes it back removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) slot: Slot,
    pub(crate) held: Held,
}

impl Record for Set {
    const TABLE: &'static str = "config/value/";
    type Stored = stored::Value;

    fn id(&self) -> String {
        self.slot.to_string()
    }

    fn to_stored(&self) -> stored::Value {
        stored::Value {
            key: self.slot.key.clone(),
            scope: self.slot.scope.to_string(),
            schema: self.held.schema,
            text: self.held.text.clone(),
        }
    }

    fn from_stored(stored: stored::Value) -> Result<Set, String> {
        let slot = Slot { key: stored.key, scope: Scope::from_text(&stored.scope) };
        Ok(Set { slot, held: Held { schema: stored.schema, text: stored.text } })
    }
}

/// How far the configuration is. Every change rewrites it, and nothing else does: so there is one change at a time, and
/// the revision of this record is the configuration's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number of the newest change.
    pub(crate) changes: u64,
    /// The revision of the newest change that the history has let go.
    pub(crate) forgotten: Revision,
}

impl Head {
    /// There is one.
    pub(crate) const ID: &'static str = "cell";
}

impl Record for Head {
    const TABLE: &'static str = "config/head/";
    type Stored = stored::Head;

    fn id(&self) -> String {
        Head::ID.to_owned()
    }

    fn to_stored(&self) -> stored::Head {
        stored::Head { changes: self.changes, forgotten: self.forgotten.as_u64() }
    }

    fn from_stored(stored: stored::Head) -> Result<Head, String> {
        Ok(Head { changes: stored.changes, forgotten: Revision::from_u64(stored.forgotten) })
    }
}

/// One value's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub slot: Slot,
    /// What was set before.
    pub old: Option<Held>,
    /// What is set since.
    pub new: Option<Held>,
}

/// A change of the configuration. Its revision is that of its record, which is written once, and removed by the change that
/// comes [`crate::plan::HISTORY_MAX`] later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub number: u64,
    /// When, by the clock of the process that made it; for people.
    pub at: Wall,
    /// Who asked for it.
    pub who: String,
    /// What it changed.
    pub lines: Vec<Line>,
    /// The revision that it went back to, if it is a rollback.
    pub rolled_back_to: Option<u64>,
    /// Drawn for it, by which its writer knows it again.
    pub token: [u8; 16],
}

impl Record for Change {
    const TABLE: &'static str = "config/change/";
    type Stored = stored::Change;

    fn id(&self) -> String {
        Change::id_of(self.number)
    }

    fn to_stored(&self) -> stored::Change {
        let held = |held: &Held| stored::Held { schema: held.schema, text: held.text.clone() };
        let line = |line: &Line| stored::Line {
            key: line.slot.key.clone(),
            scope: line.slot.scope.to_string(),
            old: line.old.as_ref().map(held),
            new: line.new.as_ref().map(held),
        };
        stored::Change {
            number: self.number,
            at_us: self.at.as_micros(),
            who: self.who.clone(),
            lines: self.lines.iter().map(line).collect(),
            rolled_back_to: self.rolled_back_to,
            token: Bytes::copy_from_slice(&self.token),
        }
    }

    fn from_stored(stored: stored::Change) -> Result<Change, String> {
        let held = |held: stored::Held| Held { schema: held.schema, text: held.text };
        let line = |line: stored::Line| Line {
            slot: Slot { key: line.key, scope: Scope::from_text(&line.scope) },
            old: line.old.map(held),
            new: line.new.map(held),
        };
        Ok(Change {
            number: stored.number,
            at: Wall::from_micros(stored.at_us),
            who: stored.who,
            lines: stored.lines.into_iter().map(line).collect(),
            rolled_back_to: stored.rolled_back_to,
            token: stored.token.as_ref().try_into().map_err(|_| "its token is not 16 bytes".to_owned())?,
        })
    }
}

impl Change {
    /// Padded, so that changes lie in their order.
    pub(crate) fn id_of(number: u64) -> String {
        format!("{number:020}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        let slot = Slot { key: "k".into(), scope: Scope::Node("n".into()) };
        let held = Held { schema: 3, text: "höre".into() };
        let set = Set { slot: slot.clone(), held: held.clone() };
        assert_eq!(Set::decode(&set.encode()), Ok(set));
        let head = Head { changes: 7, forgotten: Revision::from_u64(5) };
        assert_eq!(Head::decode(&head.encode()), Ok(head));
        let change = Change {
            number: 8,
            at: Wall::from_micros(9),
            who: "operator/admin".into(),
            lines: vec![
                Line { slot: slot.clone(), old: None, new: Some(held.clone()) },
                Line { slot, old: Some(held), new: None },
            ],
            rolled_back_to: Some(0),
            token: [4; 16],
        };
        assert_eq!(Change::decode(&change.encode()), Ok(change));
    }
}
