//! What can be said of a project's quota from what its clients were told.
//!
//! The count of instances is shared by all requests, and a deletion lowers it at a moment that nobody is told: a search
//! over all calls would not end. Two bounds need none. At no moment may more servers be certain to be there than the limit
//! allows; and nobody may be refused while it is certain that fewer were.

use std::collections::BTreeMap;

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

/// The servers that a project has asked for.
#[derive(Debug, Default)]
pub struct Counted {
    lives: BTreeMap<String, Life>,
}

impl Counted {
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

    /// What cannot have been so, if `limit` held.
    pub fn complaints(&self, limit: u64) -> Vec<String> {
        let mut complaints = Vec::new();
        for (name, life) in &self.lives {
            match life.created {
                Created::Accepted => {
                    let certain = self.count(|other| {
                        other.created == Created::Accepted
                            && other.ended <= life.ended
                            && other.maybe_going.is_none_or(|going| going > life.ended)
                    });
                    if certain > limit {
                        complaints.push(format!("{name} was accepted as one of {certain}, and {limit} are allowed"));
                    }
                }
                Created::OverQuota => {
                    let possible = self.count(|other| {
                        other.created != Created::OverQuota
                            && other.begun <= life.ended
                            && other.gone.is_none_or(|gone| gone > life.begun)
                    });
                    if possible < limit {
                        complaints
                            .push(format!("{name} was over a quota of {limit}, of which at most {possible} were used"));
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
