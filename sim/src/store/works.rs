//! Which works there were, and what was undone of them: read from what became durable.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::record::Event;
use coordinator::{JournalEntry, Work};
use store::{Batch, Record};

/// What is known of works.
#[derive(Clone, Debug, Default)]
pub struct Works {
    by_work: BTreeMap<String, String>,
    /// Steps that were undone, as kind and step.
    pub undone: BTreeSet<(String, usize)>,
}

impl Works {
    /// The kinds of work that there were.
    pub fn kinds(&self) -> BTreeSet<String> {
        self.by_work.values().cloned().collect()
    }

    pub(super) fn follow(&mut self, batch: &Batch) {
        for event in &batch.events {
            let Some(entry) = &event.entry else { continue };
            let key = event.key.to_text();
            if key.starts_with(Work::TABLE)
                && let Ok((work, _)) = Work::decode_entry(entry)
            {
                self.by_work.insert(work.id.to_string(), work.kind);
            } else if let Some(rest) = key.strip_prefix(JournalEntry::TABLE)
                && let Ok((line, _)) = JournalEntry::decode_entry(entry)
                && line.event == Event::Undone
                && let Some(kind) = rest.split('/').next().and_then(|work| self.by_work.get(work))
            {
                self.undone.insert((kind.clone(), line.step));
            }
        }
    }
}
