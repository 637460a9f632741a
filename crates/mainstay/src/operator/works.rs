//! Works, as operators see them.

use coordinator::record::{Event, busy_key, id_in};
use coordinator::{JournalEntry, Work};
use proto::operator::v1 as wire;
use store::{Reader, Record};

use super::Inner;

/// All works, oldest first.
pub(super) fn all(inner: &Inner, reader: &Reader<'_>) -> Vec<wire::Work> {
    let mut works: Vec<Work> = reader.all::<Work>().filter_map(Result::ok).map(|(work, _)| work).collect();
    works.sort_by_key(|work| work.accepted);
    works.iter().map(|work| describe(inner, reader, work)).collect()
}

fn describe(inner: &Inner, reader: &Reader<'_>, work: &Work) -> wire::Work {
    let attempt = inner.coordinator.get().and_then(|coordinator| coordinator.attempt(work.id)).unwrap_or_default();
    let runs = reader.entry(&busy_key(&work.subject)).and_then(id_in) == Some(work.id);
    wire::Work {
        id: work.id.to_string(),
        kind: work.kind.clone(),
        subject: work.subject.clone(),
        owner: work.owner.clone(),
        epoch: work.epoch.as_u64(),
        accepted_us: work.accepted.as_micros(),
        request_id: work.request_id.clone(),
        step: attempt.step.to_owned(),
        undoing: attempt.undoing,
        failures: attempt.failures,
        error: attempt.error.unwrap_or_default(),
        abort: work.abort.clone().unwrap_or_default(),
        waiting: !runs,
    }
}

/// One work with its journal.
pub(super) fn show(inner: &Inner, reader: &Reader<'_>, id: &str) -> Option<wire::ShowWorkResponse> {
    let (work, _) = reader.get::<Work>(&id).ok()??;
    let entries = reader.range(JournalEntry::of(work.id)).enumerate();
    let lines = entries.filter_map(|(number, (_, entry))| {
        let (entry, _) = JournalEntry::decode_entry(entry).ok()?;
        let (event, reason) = match entry.event {
            Event::Done => ("done", String::new()),
            Event::Progress => ("progress", String::new()),
            Event::Undone => ("undone", String::new()),
            Event::Failed { reason, .. } => ("failed", reason),
        };
        Some(wire::JournalLine {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            event: event.to_owned(),
            step: u32::try_from(entry.step).unwrap_or(u32::MAX),
            at_us: entry.at.as_micros(),
            epoch: entry.epoch,
            reason,
        })
    });
    Some(wire::ShowWorkResponse { journal: lines.collect(), work: Some(describe(inner, reader, &work)) })
}
