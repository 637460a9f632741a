//! Holds an audit at every commit that becomes durable: the balance is not a thing that comes about in the end.
//!
//! What is wrong at one revision may be right at the next, and the crash that would have shown it comes in between once
//! in a thousand runs. The first revision that does not balance is noted, and fails the run.

use store::{Batch, State};

use crate::exec::Exec;

/// The durable state as an auditor reads it.
pub struct Ledger {
    exec: Exec,
    state: State,
    first: Option<String>,
}

impl Ledger {
    /// That of an empty store.
    pub fn new(exec: &Exec) -> Ledger {
        Ledger { exec: exec.clone(), state: State::new(Vec::new()), first: None }
    }

    /// Goes on by one durable commit.
    pub fn follow(&mut self, batch: &Batch) {
        self.state.apply(batch);
        if self.first.is_some() {
            return;
        }
        let findings = self.state.read(audit::balance);
        if let Some(found) = findings.first() {
            let text = format!("at revision {} the books do not balance: {found}", batch.revision);
            self.exec.note("ledger", "WRONG", &text);
            self.first = Some(text);
        }
    }

    /// The first revision that did not balance, and why.
    pub fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use store::{Entry, Event, Key, Revision, Value};

    use super::*;

    #[test]
    fn the_first_commit_that_does_not_balance_is_remembered() {
        let exec = Exec::new(1, false);
        let mut ledger = Ledger::new(&exec);
        let mut revision = Revision::ZERO;
        // One is counted and nothing is there; later it is nobody's and balances again.
        for number in [0, 1, 0] {
            revision = revision.next();
            let entry = Entry { value: Value::Counter(number), created: revision, modified: revision };
            let key = Key::from("quota/used/tenant/instances".to_owned());
            ledger.follow(&Batch { revision, events: vec![Event { key, entry: Some(entry) }] });
        }
        let first = ledger.first().expect("the second did not balance");
        assert!(first.starts_with("at revision 2 ") && first.contains("quota/used/tenant/instances"), "{first}");
        assert!(exec.lines().iter().any(|line| line.contains(first)), "it stands in the event log");
    }
}
