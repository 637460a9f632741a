//! What can be said of a project's quota from what its clients were told.
//!
//! The count of instances is shared by all requests, and a deletion lowers it at a moment that nobody is told: a search
//! over all calls would not end. Two bounds need none. At no moment may more servers be certain to be there than the limit
//! allows; and nobody may be refused while it is certain that fewer were.
//!
//! The limit moves: one operator changes it, one change after the other. A change may hold from when it was asked for, and
//! does from when it was answered; one that was never answered may hold until another is known to. What was accepted is
//! held against the largest limit that may have held meanwhile, what was refused against the smallest.

use std::collections::{BTreeMap, BTreeSet};

/// How a request for a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was accepted.
    Accepted,
    /// Refused, because the limit is reached.
    OverQuota,
    /// Nobody knows.
    Unknown,
}

#[derive(Debug)]
struct Life {
    begun: u64,
    ended: u64,
    created: Created,
    /// When its deletion was first asked for.
    maybe_going: Option<u64>,
    /// When somebody was first told that it is gone.
    gone: Option<u64>,
}

/// A limit that was asked for.
#[derive(Debug)]
struct Limit {
    limit: u64,
    begun: u64,
    /// When it was known to hold.
    ended: Option<u64>,
    /// It is known never to hold.
    refused: bool,
}

/// The servers that a project has asked for, and how many it may have.
#[derive(Debug)]
pub struct Counted {
    lives: BTreeMap<String, Life>,
    /// In the order in which they were asked for.
    limits: Vec<Limit>,
}

impl Counted {
    /// No servers yet, and `limit` of them allowed.
    pub fn new(limit: u64) -> Counted {
        let first = Limit { limit, begun: 0, ended: Some(0), refused: false };
        Counted { lives: BTreeMap::new(), limits: vec![first] }
    }

    /// Another limit is being asked for; returns its number. The one before has been answered, or never will be.
    pub fn limiting(&mut self, limit: u64, when: u64) -> usize {
        self.limits.push(Limit { limit, begun: when, ended: None, refused: false });
        self.limits.len() - 1
    }

    /// This one holds.
    pub fn limited(&mut self, number: usize, when: u64) {
        self.limits[number].ended = Some(when);
    }

    /// This one never will.
    pub fn not_limited(&mut self, number: usize) {
        self.limits[number].refused = true;
    }

    /// All limits that may have held at some moment between these two.
    pub fn limits_between(&self, from: u64, to: u64) -> BTreeSet<u64> {
        let may_hold = |number: usize, limit: &Limit| {
            let replaced = self.limits[number + 1..].iter().find_map(|later| later.ended);
            !limit.refused && limit.begun <= to && replaced.is_none_or(|replaced| replaced >= from)
        };
        let limits = self.limits.iter().enumerate();
        limits.filter(|(number, limit)| may_hold(*number, limit)).map(|(_, limit)| limit.limit).collect()
    }

    /// A request for `server` was made at `begun` and ended at `ended`.
    pub fn created(&mut self, server: &str, begun: u64, ended: u64, created: Created) {
        self.lives.insert(server.to_owned(), Life { begun, ended, created, maybe_going: None, gone: None });
    }

    /// The deletion of `server` was asked for.
    pub fn going(&mut self, server: &str, when: u64) {
        if let Some(life) = self.lives.get_mut(server) {
            life.maybe_going = life.maybe_going.or(Some(when));
        }
    }

    /// Somebody was told that `server` is gone.
    pub fn gone(&mut self, server: &str, when: u64) {
        if let Some(life) = self.lives.get_mut(server) {
            life.gone = life.gone.or(Some(when));
        }
    }

    /// What cannot have been so.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (name, life) in &self.lives {
            let limits = self.limits_between(life.begun, life.ended);
            let (least, most) = (limits.first().copied().unwrap_or(0), limits.last().copied().unwrap_or(0));
            match life.created {
                Created::Accepted => {
                    // Whichever of them came last came while this one was asked for.
                    let certain = self.count(|other| {
                        other.created == Created::Accepted
                            && other.ended <= life.ended
                            && other.maybe_going.is_none_or(|going| going > life.ended)
                    });
                    if certain > most {
                        complaints.push(format!("{name} was accepted as one of {certain}, and {most} are allowed"));
                    }
                }
                Created::OverQuota => {
                    let possible = self.count(|other| {
                        other.created != Created::OverQuota
                            && other.begun <= life.ended
                            && other.gone.is_none_or(|gone| gone > life.begun)
                    });
                    if possible < least {
                        complaints
                            .push(format!("{name} was over a quota of {least}, of which at most {possible} were used"));
                    }
                }
                Created::Unknown => {}
            }
        }
        complaints
    }

    fn count(&self, which: impl Fn(&Life) -> bool) -> u64 {
        self.lives.values().filter(|life| which(life)).count() as u64
    }
}
