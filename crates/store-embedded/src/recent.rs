//! Changes that are in the file, and not yet in their place: what makes a group of commits cheap.
//!
//! Keys are scattered, so writing each change at its key's place in the table costs a page of 4 KiB for a hundred bytes.
//! Changes are therefore appended to a table of recent rows, which fills page after page. When enough have gathered,
//! the next changes go to a second such table, and the first one is folded: its newest values are brought to their
//! places in the order of the keys, a slice with each group of commits. Neighbours share a page then, and what changed
//! often is written once. When all are in their places the table is emptied.
//!
//! Rows are numbered through both tables, so which one is older needs no record: the numbers say it, and reading the
//! places, then the older rows, then the younger ones always gives the newest state, wherever folding was cut off.
//!
//! Here is only what is remembered and decided; `journal` runs the statements.

use std::collections::BTreeMap;

use store::{Entry, Key};

/// Values of at least this many bytes are written to their places at once: they fill pages of their own anyway.
const LARGE_BYTES: usize = 2048;
/// Keys brought to their places with a group, beside twice as many as the group has changes: folding is done before
/// the other table is full.
const FOLD_KEYS_MIN: usize = 16;

/// One of the two tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Table {
    /// The first to be used.
    #[default]
    A,
    /// The other.
    B,
}

impl Table {
    pub(crate) fn other(self) -> Table {
        match self {
            Table::A => Table::B,
            Table::B => Table::A,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::A => "recent_a",
            Table::B => "recent_b",
        }
    }
}

/// What the newest row of a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The key has this value.
    Is(Entry),
    /// The key is gone.
    Gone,
    /// The key's value is in its place already.
    InPlace,
}

impl Said {
    /// What the row of a change says. `at_once`: the change was made in its place too.
    pub(crate) fn of(entry: Option<&Entry>, at_once: bool) -> Said {
        match entry {
            Some(_) if at_once => Said::InPlace,
            Some(entry) => Said::Is(entry.clone()),
            None => Said::Gone,
        }
    }
}

/// The rows that are not in their places, newest for each key.
#[derive(Debug)]
pub(crate) struct Recent {
    /// Rows after which the next table is begun.
    rows_max: u64,
    table: Table,
    rows: u64,
    next_row: i64,
    changes: BTreeMap<Key, Said>,
    /// The older table's, in the order of the keys, and how many of them are in their places.
    folding: Vec<(Key, Said)>,
    folded: usize,
}

/// What is to be done for one group beside its rows.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// To be brought to their places: [`Said::InPlace`] never occurs.
    pub(crate) keys: std::ops::Range<usize>,
    /// This table is empty of news then.
    pub(crate) empties: Option<Table>,
}

impl Recent {
    /// What a file holds: the rows of both tables, the older ones in `folding`.
    pub(crate) fn load(rows_max: u64, table: Table, last_row: i64, young: Rows, folding: Rows) -> Recent {
        Recent {
            rows_max,
            table,
            rows: young.count,
            next_row: last_row + 1,
            changes: young.newest,
            folding: folding.newest.into_iter().collect(),
            folded: 0,
        }
    }

    /// What the newest row of each key says.
    pub(crate) fn newest(&self) -> impl Iterator<Item = (&Key, &Said)> {
        let older = self.folding.iter().filter(|(key, _)| !self.changes.contains_key(key));
        older.map(|(key, said)| (key, said)).chain(&self.changes)
    }

    /// The table that rows go to.
    pub(crate) fn table(&self) -> Table {
        self.table
    }

    /// The number of the next row.
    pub(crate) fn next_row(&self) -> i64 {
        self.next_row
    }

    /// Whether a change goes to its place at once.
    pub(crate) fn at_once(entry: Option<&Entry>) -> bool {
        entry.and_then(Entry::record).is_some_and(|bytes| bytes.len() >= LARGE_BYTES)
    }

    /// What a group of so many changes folds.
    pub(crate) fn slice(&self, changes: usize) -> Slice {
        if self.folding.is_empty() {
            return Slice::default();
        }
        let end = (self.folded + FOLD_KEYS_MIN + 2 * changes).min(self.folding.len());
        let empties = (end == self.folding.len()).then(|| self.table.other());
        Slice { keys: self.folded..end, empties }
    }

    /// What the keys of a slice are to become in their places; those of which newer rows say more are left out.
    pub(crate) fn folds(&self, slice: &Slice) -> impl Iterator<Item = (&Key, Option<&Entry>)> {
        let due = self.folding.get(slice.keys.clone()).unwrap_or_default();
        let still = due.iter().filter(|(key, _)| !self.changes.contains_key(key));
        still.filter_map(|(key, said)| match said {
            Said::Is(entry) => Some((key, Some(entry))),
            Said::Gone => Some((key, None)),
            Said::InPlace => None,
        })
    }

    /// A group and its slice are durable.
    pub(crate) fn done(&mut self, group: Vec<(Key, Said)>, slice: &Slice) {
        if slice.empties.is_some() {
            (self.folding, self.folded) = (Vec::new(), 0);
        } else {
            self.folded = self.folded.max(slice.keys.end);
        }
        self.rows += group.len() as u64;
        self.next_row += i64::try_from(group.len()).unwrap_or(i64::MAX);
        self.changes.extend(group);
        if self.rows >= self.rows_max && self.folding.is_empty() {
            self.folding = std::mem::take(&mut self.changes).into_iter().collect();
            (self.table, self.rows) = (self.table.other(), 0);
        }
    }
}

/// The rows of one table.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// How many there are.
    pub(crate) count: u64,
    /// The number of the last one; 0: there is none.
    pub(crate) last: i64,
    /// What the newest of each key says.
    pub(crate) newest: BTreeMap<Key, Said>,
}
