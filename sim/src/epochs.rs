//! Work is never acted on by a stale epoch: held at every commit and at every record of a node's log.
//!
//! An epoch only rises, and only its owner writes a work's journal: a line with another epoch than the work has at that
//! revision was written by somebody who had lost it. On a node, of the orders of one work none is begun under a lower epoch
//! than one before it. At the end nothing of that could be seen any more: works and their journals are gone.

use std::collections::BTreeMap;

use agent_core::Entry;
use bytes::Bytes;
use coordinator::{JournalEntry, Work, WorkId};
use store::{Batch, Record};

/// The epochs of works, as the store has them.
#[derive(Debug, Default)]
pub struct StoreEpochs {
    works: BTreeMap<String, u64>,
    /// The first time that it was not so.
    pub first: Option<String>,
}

impl StoreEpochs {
    /// Goes on by one durable commit.
    pub fn follow(&mut self, batch: &Batch) {
        let changed = batch.events.iter().filter_map(|event| Some((event.key.to_text(), event.entry.as_ref()?)));
        let changed: Vec<_> = changed.collect();
        for (key, entry) in &changed {
            if !key.starts_with(Work::TABLE) {
                continue;
            }
            let Ok((work, _)) = Work::decode_entry(entry) else { continue };
            let before = self.works.insert(work.id.to_string(), work.epoch.as_u64()).unwrap_or(0);
            if work.epoch.as_u64() < before {
                self.tell(batch, &format!("the epoch of the work {} fell from {before}", work.id));
            }
        }
        for (key, entry) in &changed {
            let Some(work) = key.strip_prefix(JournalEntry::TABLE).and_then(|rest| rest.split('/').next()) else {
                continue;
            };
            let Ok((line, _)) = JournalEntry::decode_entry(entry) else { continue };
            let now = self.works.get(work).copied().unwrap_or(0);
            if line.epoch != now {
                self.tell(
                    batch,
                    &format!("epoch {} wrote the journal of the work {work}, which is in {now}", line.epoch),
                );
            }
        }
    }

    fn tell(&mut self, batch: &Batch, text: &str) {
        self.first.get_or_insert_with(|| format!("at revision {}: {text}", batch.revision));
    }
}

/// The epochs under which the nodes of one log have begun orders.
#[derive(Debug, Default)]
pub struct NodeEpochs {
    begun: BTreeMap<(String, agent_core::WorkId), agent_core::Epoch>,
    /// The first time that it was not so.
    pub first: Option<String>,
}

impl NodeEpochs {
    /// Goes on by the records that were appended.
    pub fn follow(&mut self, records: &[Bytes]) {
        for record in records {
            let Ok((node, Entry::Begun(begun))) = agent_core::decode(record.clone()) else { continue };
            let before = self.begun.insert((node.clone(), begun.work), begun.epoch);
            if before.is_some_and(|before| begun.epoch < before) {
                let work = WorkId::from_uuid(*begun.work.as_uuid());
                let text = format!("{node} began an order of the work {work} under the stale epoch {}", begun.epoch.0);
                self.first.get_or_insert(text);
            }
        }
    }
}
