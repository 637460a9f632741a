//! The ledger of a cell, proven from the store alone.
//!
//! Every unit of every limited thing is in one account at every revision: free, claimed by a work, or allocated to a
//! consumer. A counter moves only when a thing is taken or returned, in the commit that writes or removes the record that
//! says who holds it. So the balance of an account is: its counter is the sum of its entries, and each entry is a record
//! with a holder that exists. Nothing here repairs anything; what does not add up is a defect, and is named.
//!
//! - [`account`]: accounts, entries, findings. [`books`]: all records that say who holds what, read once.
//! - [`capacity`], [`charged`], [`ports`]: the accounts of nodes, of quota, of networks and addresses.
//! - [`mod@compare`]: what a node says is on it, beside what is placed there.
//!
//! Deliberately absent: the store's commits, RPC, time; any index, so that whoever has the entries can hold an audit.

pub mod account;
mod books;
mod capacity;
mod charged;
mod compare;
mod ports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use store::{Entry, Key, KeyRange, Reader};

pub use account::{Account, Finding, Holder, Kind, Posting};
pub use compare::{Comparison, compare};

use account::Ledger;
use books::Books;

/// All accounts of the state, in the order of their keys.
pub fn accounts(reader: &Reader<'_>) -> Vec<Account> {
    keep(reader).accounts.into_values().collect()
}

/// Everything that does not add up; on a healthy cell nothing, at any revision.
pub fn balance(reader: &Reader<'_>) -> Vec<Finding> {
    let mut ledger = keep(reader);
    let unbalanced = ledger.accounts.values().filter_map(Account::verdict);
    ledger.findings.extend(unbalanced);
    ledger.findings
}

/// Enters all records, then sets beside them what the store has counted.
fn keep(reader: &Reader<'_>) -> Ledger {
    let mut ledger = Ledger { accounts: BTreeMap::new(), findings: Vec::new() };
    let books = Books::read(reader, &mut ledger.findings);
    capacity::enter(&books, &mut ledger);
    charged::enter(&books, &mut ledger);
    ports::enter(&books, &mut ledger);
    for (key, entry) in reader.range(KeyRange::all()) {
        count(&books, key, entry, &mut ledger);
    }
    ledger
}

/// Notes what the store says of one account, if `entry` is what an account is counted by.
fn count(books: &Books, key: &Key, entry: &Entry, ledger: &mut Ledger) {
    match &entry.value {
        store::Value::Counter(number) => {
            if *key == servers::aggregate::made_key() {
                charged::check_sequence(books, *number, ledger);
            } else if let Some(account) = ledger.accounts.get_mut(key) {
                account.count = *number;
            } else if let Some(mut account) = empty(books, key) {
                account.count = *number;
                ledger.accounts.insert(key.clone(), account);
            } else {
                ledger.findings.push(Finding {
                    kind: Kind::Unexplained,
                    about: key.to_string(),
                    text: format!("the counter stands at {number}, and nothing is known that it counts"),
                    behind: Vec::new(),
                });
            }
        }
        store::Value::Record(owner) => ports::count(key, owner, ledger),
    }
}

/// The account of a counter that no record is entered in.
fn empty(books: &Books, key: &Key) -> Option<Account> {
    capacity::empty(books, key).or_else(|| charged::empty(key)).or_else(|| ports::empty(books, key))
}
