//! Work and journal as they are stored, and the transaction fragments that begin, abort, hand over and end a work.
//!
//! `w/work/WORK` the work; `w/journal/WORK/N` its journal; `w/busy/SUBJECT` the work that runs on a subject;
//! `w/next/SUBJECT` the one that waits for it. All under one prefix, so that one watch tells a coordinator everything.

use bytes::Bytes;
use proto::work::state::v1 as stored;
use store::{Key, KeyRange, Reader, Record, Revision, Txn};
use telemetry::{SpanId, TraceId};
use world::Wall;

use crate::name::Life;

ids::uuid_id! {
    /// A work.
    pub struct WorkId;
}

/// All keys of this crate begin with it.
pub const PREFIX: &str = "w/";

/// The fencing number of a work's owner. Only accepting and taking over make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a work's first owner.
    pub(crate) const FIRST: Epoch = Epoch(1);

    #[must_use]
    pub(crate) fn raised(self) -> Epoch {
        Epoch(self.0 + 1)
    }

    /// The number, for the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// A durable unit of the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Its id.
    pub id: WorkId,
    /// The workflow.
    pub kind: String,
    /// The workflow's version.
    pub version: u32,
    /// What it is about.
    pub subject: String,
    /// The workflow's input.
    pub input: Bytes,
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// The span that accepted it.
    pub span: SpanId,
    /// The request that asked for it.
    pub request_id: String,
    /// How long it may take before it is given up, in milliseconds.
    pub budget_ms: u64,
    /// The coordinator that owns it.
    pub owner: String,
    /// The life of that name that it was given to.
    pub life: Life,
    /// The owner's fencing number.
    pub epoch: Epoch,
    /// Why it shall be undone, if it shall.
    pub abort: Option<String>,
    /// When it was accepted.
    pub accepted: Wall,
}

impl Record for Work {
    const TABLE: &'static str = "w/work/";
    type Stored = stored::Work;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> stored::Work {
        stored::Work {
            id: Bytes::copy_from_slice(self.id.as_uuid().as_bytes()),
            kind: self.kind.clone(),
            version: self.version,
            subject: self.subject.clone(),
            input: self.input.clone(),
            trace: Bytes::copy_from_slice(&self.trace.0.to_be_bytes()),
            span: self.span.0,
            request_id: self.request_id.clone(),
            budget_ms: self.budget_ms,
            owner: self.owner.clone(),
            owner_life: Bytes::copy_from_slice(&self.life),
            epoch: self.epoch.0,
            abort: self.abort.clone().unwrap_or_default(),
            accepted_us: self.accepted.as_micros(),
        }
    }

    fn from_stored(stored: stored::Work) -> Result<Work, String> {
        let id = ids::uuid::Uuid::from_slice(&stored.id).map_err(|error| error.to_string())?;
        let trace = <[u8; 16]>::try_from(&stored.trace[..]).map_err(|error| error.to_string())?;
        Ok(Work {
            id: WorkId::from_uuid(id),
            kind: stored.kind,
            version: stored.version,
            subject: stored.subject,
            input: stored.input,
            trace: TraceId(u128::from_be_bytes(trace)),
            span: SpanId(stored.span),
            request_id: stored.request_id,
            budget_ms: stored.budget_ms,
            owner: stored.owner,
            // An earlier release named none: whoever has the name now takes the work over.
            life: Life::try_from(&stored.owner_life[..]).unwrap_or_default(),
            epoch: Epoch(stored.epoch),
            abort: (!stored.abort.is_empty()).then_some(stored.abort),
            accepted: Wall::from_micros(stored.accepted_us),
        })
    }
}

/// What happened in a work.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The step is done.
    Done,
    /// The step made progress and goes on.
    Progress,
    /// The step failed for good: undo from here on.
    Failed {
        /// Nothing of the failed step exists, so that only what was before it is undone.
        clean: bool,
        /// The step from which to go on after undoing; `None`: give up.
        resume: Option<usize>,
        /// Why.
        reason: String,
    },
    /// The step is undone.
    Undone,
}

/// One line of a journal.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// Whose journal.
    pub work: WorkId,
    /// Its place in the journal.
    pub number: u32,
    /// What happened.
    pub event: Event,
    /// The step that it happened to.
    pub step: usize,
    /// The workflow's state afterwards.
    pub state: Bytes,
    /// What is left of the budget.
    pub left_ms: u64,
    /// When.
    pub at: Wall,
    /// The owner's epoch.
    pub epoch: u64,
}

impl JournalEntry {
    /// All entries of `work`.
    pub fn of(work: WorkId) -> KeyRange {
        KeyRange::prefix(format!("w/journal/{work}/").as_bytes())
    }

    /// The key of entry `number` of `work`.
    pub fn key_at(work: WorkId, number: u32) -> Key {
        Key::from(format!("w/journal/{work}/{number:06}"))
    }
}

impl Record for JournalEntry {
    const TABLE: &'static str = "w/journal/";
    type Stored = stored::JournalEntry;

    fn id(&self) -> String {
        format!("{}/{:06}", self.work, self.number)
    }

    fn to_stored(&self) -> stored::JournalEntry {
        let mut out = stored::JournalEntry {
            step: u32::try_from(self.step).unwrap_or(u32::MAX),
            state: self.state.clone(),
            left_ms: self.left_ms,
            at_us: self.at.as_micros(),
            epoch: self.epoch,
            ..stored::JournalEntry::default()
        };
        let event = match &self.event {
            Event::Done => stored::Event::Done,
            Event::Progress => stored::Event::Progress,
            Event::Undone => stored::Event::Undone,
            Event::Failed { clean, resume, reason } => {
                out.clean = *clean;
                out.resume = resume.map_or(0, |step| u32::try_from(step + 1).unwrap_or(u32::MAX));
                out.reason.clone_from(reason);
                stored::Event::Failed
            }
        };
        out.set_event(event);
        // The key says whose entry it is and where it stands; `id` and `number` are filled in from there.
        out
    }

    fn from_stored(stored: stored::JournalEntry) -> Result<JournalEntry, String> {
        let event = match stored.event() {
            stored::Event::Done => Event::Done,
            stored::Event::Progress => Event::Progress,
            stored::Event::Undone => Event::Undone,
            stored::Event::Failed => Event::Failed {
                clean: stored.clean,
                resume: (stored.resume > 0).then(|| stored.resume as usize - 1),
                reason: stored.reason,
            },
            stored::Event::Unspecified => return Err(format!("no such event: {}", stored.event)),
        };
        Ok(JournalEntry {
            work: WorkId::from_uuid(ids::uuid::Uuid::nil()),
            number: 0,
            event,
            step: stored.step as usize,
            state: stored.state,
            left_ms: stored.left_ms,
            at: Wall::from_micros(stored.at_us),
            epoch: stored.epoch,
        })
    }
}

/// The key that a running work holds on its subject.
pub fn busy_key(subject: &str) -> Key {
    Key::from(format!("w/busy/{subject}"))
}

/// The key of the work that waits for a subject.
pub fn next_key(subject: &str) -> Key {
    Key::from(format!("w/next/{subject}"))
}

fn id_bytes(id: WorkId) -> Bytes {
    Bytes::copy_from_slice(id.as_uuid().as_bytes())
}

/// The id in a `w/busy/…` or `w/next/…` entry.
pub fn id_in(entry: &store::Entry) -> Option<WorkId> {
    let bytes = entry.record()?;
    ids::uuid::Uuid::from_slice(bytes).ok().map(WorkId::from_uuid)
}

/// The work that runs on `subject`, with the revision of its record.
pub fn running(reader: &Reader<'_>, subject: &str) -> Option<(Work, Revision)> {
    let id = reader.entry(&busy_key(subject)).and_then(id_in)?;
    reader.get::<Work>(&id).ok().flatten()
}

/// Whether a work already waits for `subject`.
pub fn waits(reader: &Reader<'_>, subject: &str) -> bool {
    reader.entry(&next_key(subject)).is_some()
}

/// What is needed to accept a work.
pub struct Accept {
    /// Its id, drawn by the caller.
    pub id: WorkId,
    /// The workflow.
    pub kind: &'static str,
    /// The workflow's version.
    pub version: u32,
    /// What it is about.
    pub subject: String,
    /// The workflow's input.
    pub input: Bytes,
    /// How long it may take before it is given up.
    pub budget: std::time::Duration,
    /// Its first owner.
    pub owner: String,
    /// The life that has the owner's name ([`present`](crate::name::present)).
    pub life: Life,
}

impl Accept {
    fn into_work(self, cx: &telemetry::Cx) -> Work {
        Work {
            id: self.id,
            kind: self.kind.to_owned(),
            version: self.version,
            subject: self.subject,
            input: self.input,
            trace: cx.trace(),
            span: cx.span_id(),
            request_id: cx.request().map(|request| request.to_string()).unwrap_or_default(),
            budget_ms: u64::try_from(self.budget.as_millis()).unwrap_or(u64::MAX),
            owner: self.owner,
            life: self.life,
            epoch: Epoch::FIRST,
            abort: None,
            accepted: cx.world().wall(),
        }
    }

    /// Adds to `txn` that this work begins now. Conflicts on [`busy_key`] if another one runs on the subject.
    pub fn begin(self, cx: &telemetry::Cx, txn: &mut Txn) {
        let work = self.into_work(cx);
        txn.create(busy_key(&work.subject), id_bytes(work.id));
        txn.create(work.key(), work.encode());
    }

    /// Adds to `txn` that `running` shall be undone for `reason` and that this work begins when it has ended. Conflicts
    /// if `running` has ended meanwhile, or if another work waits already.
    pub fn supersede(self, cx: &telemetry::Cx, running: &(Work, Revision), reason: &str, txn: &mut Txn) {
        let work = self.into_work(cx);
        let (old, revision) = running;
        let aborted = Work { abort: Some(reason.to_owned()), ..old.clone() };
        txn.replace(old.key(), *revision, aborted.encode());
        txn.create(next_key(&work.subject), id_bytes(work.id));
        txn.create(work.key(), work.encode());
    }
}

/// Adds to `txn` that `work` ends, and that whoever waits for its subject begins.
pub(crate) fn end(reader: &Reader<'_>, work: &Work, txn: &mut Txn) {
    for (key, _) in reader.range(JournalEntry::of(work.id)) {
        txn.delete(key.clone());
    }
    txn.delete(work.key());
    let (busy, next) = (busy_key(&work.subject), next_key(&work.subject));
    match reader.entry(&next) {
        Some(entry) => {
            txn.remove(next, entry.modified);
            txn.put(busy, entry.record().cloned().unwrap_or_default());
        }
        None => {
            txn.absent(next);
            txn.delete(busy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_entry_survives_its_stored_form() {
        let failed = |resume| Event::Failed { clean: true, resume, reason: "no room".into() };
        for event in [Event::Done, Event::Progress, Event::Undone, failed(None), failed(Some(0)), failed(Some(3))] {
            let entry = JournalEntry {
                work: WorkId::from_uuid(ids::uuid::Uuid::nil()),
                number: 0,
                event,
                step: 2,
                state: Bytes::from_static(b"s"),
                left_ms: 7,
                at: Wall::from_micros(9),
                epoch: 3,
            };
            assert_eq!(JournalEntry::decode(&entry.encode()), Ok(entry));
        }
    }
}
