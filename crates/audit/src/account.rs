//! Accounts, what is entered in them, and what is found wrong.

use std::collections::BTreeMap;

use coordinator::WorkId;
use store::Key;

/// Works and consumers that a finding names when it is written in one line.
const NAMED_MAX: usize = 8;

/// In whose hands something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A work has claimed it.
    Work(WorkId),
    /// It is allocated to this consumer.
    Consumer(String),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Work(work) => write!(f, "the work {work}"),
            Holder::Consumer(consumer) => write!(f, "the {consumer}"),
        }
    }
}

/// One entry of an account: who holds how much, and the record that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Who.
    pub holder: Holder,
    /// How much.
    pub amount: u64,
    /// The record.
    pub record: Key,
}

impl std::fmt::Display for Posting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} holds {} by {}", self.holder, self.amount, self.record)
    }
}

/// One limited thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The counter; of a thing that is one of a kind, the key of its claim.
    pub key: Key,
    /// What the counter stands at; of one of a kind: 1 if it is claimed.
    pub count: u64,
    /// The most that may be held together, where more can never be right.
    pub capacity: Option<u64>,
    /// Who holds what.
    pub entries: Vec<Posting>,
}

impl Account {
    /// The sum of its entries.
    pub fn sum(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.amount))
    }

    pub(crate) fn verdict(&self) -> Option<Finding> {
        let sum = self.sum();
        let (kind, text) = if self.count != sum {
            (Kind::Unbalanced, format!("the store says {}, and its entries come to {sum}", self.count))
        } else {
            let capacity = self.capacity.filter(|capacity| self.count > *capacity)?;
            (Kind::Overused, format!("{} are held of {capacity}", self.count))
        };
        let behind = self.entries.iter().filter(|entry| entry.amount > 0).map(Posting::to_string).collect();
        Some(Finding { kind, about: self.key.to_string(), text, behind })
    }
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An account whose counter is not the sum of its entries.
    Unbalanced,
    /// More is held than there is.
    Overused,
    /// Something is held by who does not exist, or by who has it nowhere.
    NoHolder,
    /// Somebody who must hold something does not.
    NotHeld,
    /// A counter that nothing is known to be counted by.
    Unexplained,
    /// A record that cannot be read.
    Damaged,
    /// Something on a node that is not placed there.
    Leftover,
    /// Something that is placed on a node and is not there.
    Missing,
}

impl Kind {
    /// Its name, for people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Unbalanced => "unbalanced",
            Kind::Overused => "overused",
            Kind::NoHolder => "no holder",
            Kind::NotHeld => "not held",
            Kind::Unexplained => "unexplained",
            Kind::Damaged => "damaged",
            Kind::Leftover => "leftover",
            Kind::Missing => "missing",
        }
    }

    /// What an operator can do next.
    pub const fn next(self) -> &'static str {
        match self {
            Kind::Unbalanced | Kind::NotHeld | Kind::Unexplained => {
                "nothing of the cell leads here: keep a copy of the store, and report a defect with this finding"
            }
            Kind::Overused => "move or delete servers there, or give the node back what it had when they were placed",
            Kind::NoHolder => {
                "look whether the work or server is named in `mainstay trace`; keep a copy of the store, and report a defect"
            }
            Kind::Damaged => "keep a copy of the store; if a newer release has written it, run that one",
            Kind::Leftover => {
                "nothing removes it by itself: look whose it is with `mainstay node list` before removing it by hand"
            }
            Kind::Missing => "its owner can start or rebuild it if only the guest is gone; a disk that is gone is gone",
        }
    }
}

/// Something that does not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: Kind,
    /// The account, record or guest.
    pub about: String,
    /// What is wrong with it.
    pub text: String,
    /// The works and consumers behind it.
    pub behind: Vec<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.kind.name(), self.about, self.text)?;
        match self.behind.len().saturating_sub(NAMED_MAX) {
            0 if self.behind.is_empty() => Ok(()),
            0 => write!(f, " ({})", self.behind.join("; ")),
            more => write!(f, " ({}; and {more} more)", self.behind[..NAMED_MAX].join("; ")),
        }
    }
}

/// All accounts while they are being kept, and what was noticed on the way.
pub(crate) struct Ledger {
    pub(crate) accounts: BTreeMap<Key, Account>,
    pub(crate) findings: Vec<Finding>,
}

impl Ledger {
    /// Enters in the account of `key` that `holder` holds `amount`, as `record` says.
    pub(crate) fn enter(&mut self, key: Key, holder: Holder, amount: u64, record: Key) -> &mut Account {
        let account = self.accounts.entry(key).or_insert_with_key(|key| Account::empty(key.clone()));
        account.entries.push(Posting { holder, amount, record });
        account
    }

    pub(crate) fn complain(&mut self, kind: Kind, about: impl std::fmt::Display, text: String, behind: Vec<String>) {
        self.findings.push(Finding { kind, about: about.to_string(), text, behind });
    }
}

impl Account {
    pub(crate) fn empty(key: Key) -> Account {
        Account { key, count: 0, capacity: None, entries: Vec::new() }
    }
}
