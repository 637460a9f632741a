//! The store of a cell, read from its file.
//!
//! A cell locks its store while it runs, so this is for cells that were stopped or killed. What is read is a copy: a look
//! must not complete what a kill has left half done.

use std::collections::BTreeMap;
use std::path::Path;

use coordinator::progress::{Next, Progress};
use coordinator::{JournalEntry, Work};
use rusqlite::Connection;
use store::Record;

/// What a store holds.
#[derive(Debug, Default)]
pub struct Records {
    /// Records by key.
    pub records: BTreeMap<String, Vec<u8>>,
    /// Counters by key.
    pub counters: BTreeMap<String, i64>,
}

/// Reads the store of the cell in `home`.
pub fn read(home: &Path) -> Records {
    let copy = tempfile::tempdir().expect("a directory for a copy");
    for name in ["cell.db", "cell.db-wal"] {
        let from = home.join("store").join(name);
        if from.exists() {
            std::fs::copy(&from, copy.path().join(name)).expect("the store can be copied");
        }
    }
    let connection = Connection::open(copy.path().join("cell.db")).expect("the store can be opened");
    let mut found = Records::default();
    let mut query = connection.prepare("SELECT key, kind = 'record', value FROM readable").expect("the store's layout");
    let mut rows = query.query(()).expect("the store can be read");
    while let Some(row) = rows.next().expect("the store can be read") {
        let key: String = row.get(0).expect("a key is text");
        if row.get(1).expect("a kind is known") {
            found.records.insert(key, row.get(2).expect("a record is bytes"));
        } else {
            found.counters.insert(key, row.get(2).expect("a counter is a number"));
        }
    }
    found
}

/// Sets a counter behind the back of a cell that is stopped.
pub fn set_counter(home: &Path, key: &str, number: i64) {
    change(home, "UPDATE {} SET value = ?2 WHERE key = CAST(?1 AS BLOB) AND kind = 1", (key, number));
}

/// Removes a key behind the back of a cell that is stopped.
pub fn remove(home: &Path, key: &str) {
    change(home, "DELETE FROM {} WHERE key = CAST(?1 AS BLOB)", (key,));
}

/// A key may be in its place and among what was written recently.
fn change(home: &Path, what: &str, with: impl rusqlite::Params + Clone) {
    let connection = Connection::open(home.join("store/cell.db")).expect("the store can be opened");
    let changed = ["entry", "recent_a", "recent_b"].into_iter().map(|table| {
        let changed = connection.execute(&what.replace("{}", table), with.clone());
        changed.expect("the store can be changed")
    });
    assert!(changed.sum::<usize>() > 0, "nothing has that key");
}

impl Records {
    /// Keys that begin with `prefix`.
    pub fn under(&self, prefix: &str) -> Vec<&str> {
        self.records.keys().map(String::as_str).filter(|key| key.starts_with(prefix)).collect()
    }

    /// Counters under any of these prefixes that are not zero.
    pub fn held(&self, prefixes: &[&str]) -> BTreeMap<&str, i64> {
        let of = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
        self.counters
            .iter()
            .filter(|(key, held)| of(key) && **held != 0)
            .map(|(key, held)| (key.as_str(), *held))
            .collect()
    }

    /// The step at which each work was, by its name. `guests`: what was there on the nodes then, and how it stood.
    ///
    /// The journal tells of a step on a node only together with the step after it. So a boot whose guest runs was being
    /// handed over, and a delete whose guest is gone was returning claims.
    pub fn steps_under_way(&self, guests: &BTreeMap<String, String>) -> Vec<String> {
        let mut found = Vec::new();
        for (key, bytes) in self.records.iter().filter(|(key, _)| key.starts_with(Work::TABLE)) {
            let work = Work::decode(bytes).expect("a work is readable");
            let id = &key[Work::TABLE.len()..];
            if self.records.contains_key(&format!("w/next/{}", work.subject)) && work.abort.is_none() {
                // It waits until another one has been undone.
                continue;
            }
            let journal = self.under(&format!("w/journal/{id}/")).into_iter();
            let journal: Vec<_> =
                journal.map(|key| JournalEntry::decode(&self.records[key]).expect("a journal is readable")).collect();
            let guest = guests.get(&work.subject).map_or("gone", String::as_str);
            found.extend(step_under_way(&work.kind, &journal, guest));
        }
        found
    }
}

fn step_under_way(kind: &str, journal: &[JournalEntry], guest: &str) -> Option<String> {
    let steps: &[&str] = match kind {
        "server.boot" => &["claim manifest", "build on node", "hand over"],
        "server.delete" => &["destroy on node", "return claims"],
        _ => return None,
    };
    let done = if kind == "server.boot" { guest.starts_with("running") } else { guest == "gone" };
    match Progress::replay(steps.len(), journal).next() {
        Next::Run(step) if steps[step].ends_with("on node") && done => Some(steps[step + 1].to_owned()),
        Next::Run(step) => Some(steps[step].to_owned()),
        Next::Undo(step) => Some(format!("undo of {}", steps[step])),
        Next::Succeed | Next::Fail(_) => None,
    }
}
