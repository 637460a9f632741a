//! Drives one work from where its journal stands to its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use config::Permit;
use futures_util::future::{Either, select};
use planted::Bug;
use store::{CommitError, Record, Revision, Txn};
use telemetry::Cx;
use tokio::sync::Notify;
use world::Mono;

use super::{Attempt, Coordinator};
use crate::progress::{Next, Progress};
use crate::record::{self, Event, JournalEntry, Work, WorkId};
use crate::workflow::{Advance, Effect, Outcome, StepCx, StepError, StepTime, Workflow};

/// How long one attempt of a step may take; one that takes longer is sent again and joins what is in progress.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);
/// Waits between attempts double from the first to the last of these.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_LAST: Duration = Duration::from_secs(5);

/// Why a drive stops before its work has ended.
#[derive(Debug)]
enum Stop {
    /// The work is gone or belongs to somebody else.
    Lost,
}

/// How a commit of the drive went, where the drive goes on.
#[derive(Debug)]
enum Committed {
    Yes,
    /// Something that the step read has changed: run it again.
    Stale,
    /// The work itself was changed by others: look at it again.
    WorkChanged,
}

struct Drive<'a> {
    coordinator: &'a Arc<Coordinator>,
    workflow: &'a Workflow,
    changed: &'a Notify,
    work: Work,
    revision: Revision,
    created: Revision,
    progress: Progress,
    /// Steps that are done but not journalled yet: calls, whose end rides with the next transaction.
    ahead: Option<(usize, Bytes)>,
    maybe_sent: bool,
    give_up_at: Mono,
    failures: u32,
    times: Vec<StepTime>,
    permit: Option<Permit>,
}

/// Drives `id` until it has ended, or until it is not ours.
pub(super) async fn drive(coordinator: &Arc<Coordinator>, id: WorkId, changed: &Notify) {
    let Some(mut drive) = load(coordinator, id, changed).await else { return };
    loop {
        match drive.turn().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(Stop::Lost) => {
                tracing::info!(work = %id, "another owner has taken this work, or it has ended");
                // If another life of this name has it, then that one has the name as well, or is over: this process goes on
                // with it, or learns that it must end. Who only let go would leave the work to nobody.
                match load(coordinator, id, changed).await {
                    Some(again) => drive = again,
                    None => return,
                }
            }
        }
    }
}

async fn load<'a>(coordinator: &'a Arc<Coordinator>, id: WorkId, changed: &'a Notify) -> Option<Drive<'a>> {
    let (mut work, mut revision) = coordinator.reload(id).await?;
    if work.owner != coordinator.options.owner {
        return None;
    }
    if work.life != coordinator.life()? && !planted::is(Bug::DrivesAnothersLife) {
        // It was given to an earlier life of this name, which may not know that it is over.
        coordinator.raise(work, revision).await;
        (work, revision) = coordinator.reload(id).await?;
        if work.owner != coordinator.options.owner || work.life != coordinator.life()? {
            return None;
        }
    }
    let Some(workflow) = coordinator.workflows.get(work.kind.as_str()).filter(|flow| flow.version == work.version)
    else {
        tracing::error!(work = %id, kind = work.kind, version = work.version, "this release does not know this workflow");
        return None;
    };
    let journal = loop {
        match coordinator.view.read(|reader| read_journal(reader, id)).await {
            Ok(Some(found)) => break found,
            Ok(None) => return None,
            Err(_) => coordinator.ring.world().sleep(super::RETRY_PAUSE).await,
        }
    };
    let (journal, created, runs) = journal;
    if !runs {
        return None;
    }
    let left = journal.last().map_or(work.budget_ms, |entry| entry.left_ms);
    let times = journal.iter().map(|entry| StepTime {
        name: workflow.steps.name(entry.step),
        undo: entry.event == Event::Undone,
        start: entry.at,
        took: Duration::ZERO,
        error: None,
    });
    Some(Drive {
        times: times.collect(),
        progress: Progress::replay(workflow.steps.len(), &journal),
        give_up_at: coordinator.ring.world().now() + Duration::from_millis(left),
        // An earlier owner may have been at work on the very step that comes next.
        maybe_sent: !journal.is_empty() || work.epoch > record::Epoch::FIRST,
        coordinator,
        workflow,
        changed,
        revision,
        created,
        ahead: None,
        failures: 0,
        permit: None,
        work,
    })
}

/// The journal, the revision that created the work, and whether it is the one that holds its subject.
fn read_journal(reader: &store::Reader<'_>, id: WorkId) -> Option<(Vec<JournalEntry>, Revision, bool)> {
    let entry = reader.entry(&Work::key_of(&id))?;
    let (work, _) = Work::decode_entry(entry).ok()?;
    let journal = reader.range(JournalEntry::of(id)).map(|(_, entry)| JournalEntry::decode_entry(entry));
    let journal: Vec<JournalEntry> = match journal.map(|found| found.map(|(entry, _)| entry)).collect() {
        Ok(journal) => journal,
        Err(error) => {
            tracing::error!(work = %id, %error, "a journal cannot be read; the work is left alone");
            return None;
        }
    };
    let runs = reader.entry(&record::busy_key(&work.subject)).and_then(record::id_in) == Some(id);
    Some((journal, entry.created, runs))
}

impl Drive<'_> {
    /// Does what comes next. `true`: the work has ended.
    async fn turn(&mut self) -> Result<bool, Stop> {
        if self.permit.is_none() {
            self.permit = Some(self.coordinator.permits.acquire().await);
        }
        let next = match &self.ahead {
            Some((step, _)) => Next::Run(step + 1),
            None => self.progress.next(),
        };
        match next {
            Next::Run(step) if self.shall_abort(step) => {
                let reason = self.work.abort.clone().unwrap_or_default();
                self.give_up(step, !self.maybe_sent, None, reason).await?;
                Ok(false)
            }
            Next::Run(step) => self.run(step).await,
            Next::Undo(step) => self.undo(step).await.map(|()| false),
            Next::Fail(reason) => self.end(Txn::new(), None, Outcome::Failed(reason)).await,
            // The last step of every workflow is one of the store and ends the work; this is for a journal that says so.
            Next::Succeed => self.end(Txn::new(), None, Outcome::Succeeded).await,
        }
    }

    fn shall_abort(&self, step: usize) -> bool {
        self.work.abort.is_some() && step < self.workflow.no_return
    }

    /// The request that the work is for, as it is seen in its trace.
    fn trace(&self) -> Cx {
        let ring = &self.coordinator.ring;
        let request = (!self.work.request_id.is_empty()).then(|| self.work.request_id.as_str().into());
        let deadline = ring.world().now() + ATTEMPT_MAX;
        let cx = Cx::continued(ring, self.work.trace, self.work.span, request, deadline);
        cx.about(&self.work.subject).within(&self.work.id)
    }

    fn cx(&self, step: usize, failure: Option<String>) -> StepCx {
        let coordinator = self.coordinator;
        StepCx {
            cx: self.trace(),
            work: self.work.id,
            created: self.created,
            floor: coordinator.view.peek(floor).unwrap_or(self.created),
            epoch: self.work.epoch,
            subject: self.work.subject.clone(),
            order: self.progress.order(step),
            input: self.work.input.clone(),
            view: Arc::clone(&coordinator.view),
            peers: Arc::clone(&coordinator.peers),
            maybe_sent: self.maybe_sent,
            failure,
            held: parking_lot::Mutex::default(),
        }
    }

    fn state(&self) -> Bytes {
        self.ahead.as_ref().map_or_else(|| self.progress.state.clone(), |(_, state)| state.clone())
    }

    async fn run(&mut self, step: usize) -> Result<bool, Stop> {
        let mut state = self.state();
        let workflow = self.workflow;
        let name = workflow.steps.name(step);
        let mut cx = self.cx(step, None);
        let (inside, mut span) = cx.cx.span(name);
        cx.cx = inside;
        let start = (cx.cx.world().wall(), cx.cx.world().now());
        let attempt = workflow.steps.run(step, &cx, &mut state);
        let result = match select(attempt, std::pin::pin!(self.changed.notified())).await {
            Either::Left((result, _)) => Some(span.note(result)),
            Either::Right(_) => None,
        };
        let Some(result) = result else {
            // Somebody changed the work while the step was under way. What the step sent may still happen.
            self.maybe_sent |= workflow.steps.effect(step) == Effect::Call && !planted::is(Bug::ForgetsWhatItSent);
            self.look_again().await?;
            return Ok(false);
        };
        let took = cx.cx.world().now().since(start.1);
        let error = result.as_ref().err().map(ToString::to_string);
        self.times.push(StepTime { name, undo: false, start: start.0, took, error });
        drop(span);
        match result {
            Ok(Advance::Done(txn)) if workflow.steps.effect(step) == Effect::Call && txn.ops.is_empty() => {
                self.ahead = Some((step, state));
                self.maybe_sent = false;
                self.failures = 0;
                Ok(false)
            }
            Ok(Advance::Done(txn)) if step + 1 == workflow.steps.len() => {
                self.end(txn, Some(state), Outcome::Succeeded).await
            }
            Ok(Advance::Done(txn)) => self.advance(Event::Done, step, state, txn).await.map(|()| false),
            Ok(Advance::Again(txn)) => self.advance(Event::Progress, step, state, txn).await.map(|()| false),
            Err(error) => self.failed(step, error).await.map(|()| false),
        }
    }

    async fn advance(&mut self, event: Event, step: usize, state: Bytes, txn: Txn) -> Result<(), Stop> {
        match self.journal(event, step, state, txn).await? {
            Committed::Yes => self.failures = 0,
            Committed::Stale => self.pause("what the step read has changed").await?,
            Committed::WorkChanged => self.look_again().await?,
        }
        Ok(())
    }

    async fn failed(&mut self, step: usize, error: StepError) -> Result<(), Stop> {
        let tired = planted::is(Bug::ReturnIsPossible) && self.failures > 0;
        let forward_only = step >= self.workflow.no_return && !tired;
        let reason = error.to_string();
        match error {
            StepError::Failed { clean, resume, .. } if !forward_only => self.give_up(step, clean, resume, reason).await,
            StepError::Failed { .. } => self.pause(&reason).await,
            StepError::Retry { unknown, .. } => {
                self.maybe_sent |= unknown;
                if !forward_only && (tired || self.coordinator.ring.world().now() >= self.give_up_at) {
                    return self.give_up(step, !self.maybe_sent, None, reason).await;
                }
                self.pause(&reason).await
            }
        }
    }

    /// Journals that `step` failed, with what the user shall see at once; undoing follows.
    async fn give_up(&mut self, step: usize, clean: bool, resume: Option<usize>, reason: String) -> Result<(), Stop> {
        let mut state = self.state();
        let cx = self.cx(step, Some(reason.clone()));
        let txn = match resume {
            Some(_) => Ok(Txn::new()),
            None => self.workflow.steps.failing(&cx, &mut state, &reason).await,
        };
        match txn {
            Ok(txn) => self.advance(Event::Failed { clean, resume, reason }, step, state, txn).await,
            Err(error) => self.pause(&error.to_string()).await,
        }
    }

    async fn undo(&mut self, step: usize) -> Result<(), Stop> {
        let mut state = self.progress.state.clone();
        let name = self.workflow.steps.name(step);
        let mut cx = self.cx(step, self.progress.reason().map(str::to_owned));
        let (inside, mut span) = cx.cx.span(name);
        cx.cx = inside;
        let start = (cx.cx.world().wall(), cx.cx.world().now());
        let result = span.note(self.workflow.steps.undo(step, &cx, &mut state).await);
        let took = cx.cx.world().now().since(start.1);
        let error = result.as_ref().err().map(ToString::to_string);
        self.times.push(StepTime { name, undo: true, start: start.0, took, error });
        drop(span);
        match result {
            Ok(txn) => self.advance(Event::Undone, step, state, txn).await,
            Err(_) if planted::is(Bug::UndoIsGivenUp) => self.advance(Event::Undone, step, state, Txn::new()).await,
            Err(error) => self.pause(&error.to_string()).await,
        }
    }

    /// Ends the work, with the last step's change if there is one. `true`: it has ended.
    async fn end(&mut self, txn: Txn, state: Option<Bytes>, outcome: Outcome) -> Result<bool, Stop> {
        let state = state.unwrap_or_else(|| self.state());
        let failure = match &outcome {
            Outcome::Succeeded => None,
            Outcome::Failed(reason) => Some(reason.clone()),
        };
        let cx = self.cx(self.workflow.steps.len(), failure);
        let concluded = self.workflow.steps.ended(&cx, &state, &outcome, &self.times).await;
        let ending = self.coordinator.view.read(|reader| {
            let mut ending = Txn::new();
            record::end(reader, &self.work, &mut ending);
            ending
        });
        let (conclusion, ending) = match (concluded, ending.await) {
            (Ok(conclusion), Ok(ending)) => (conclusion, ending),
            (Err(error), _) => return self.pause(&error.to_string()).await.map(|()| false),
            (_, Err(error)) => return self.pause(&error.to_string()).await.map(|()| false),
        };
        let mut all = txn;
        all.merge(conclusion);
        all.merge(ending);
        all.unchanged(self.work.key(), self.revision);
        match self.commit(all, None).await? {
            Committed::Yes => Ok(true),
            Committed::Stale => self.pause("what the last step read has changed").await.map(|()| false),
            Committed::WorkChanged => self.look_again().await.map(|()| false),
        }
    }

    async fn journal(&mut self, event: Event, step: usize, state: Bytes, mut txn: Txn) -> Result<Committed, Stop> {
        let world = self.coordinator.ring.world();
        let entry = JournalEntry {
            work: self.work.id,
            number: self.progress.entries,
            event,
            step,
            state,
            left_ms: u64::try_from(self.give_up_at.since(world.now()).as_millis()).unwrap_or(u64::MAX),
            at: world.wall(),
            epoch: self.work.epoch.as_u64(),
        };
        if planted::is(Bug::JournalsAfterwards) && !txn.ops.is_empty() {
            match self.commit(std::mem::take(&mut txn), None).await? {
                Committed::Yes => {}
                other @ (Committed::Stale | Committed::WorkChanged) => return Ok(other),
            }
        }
        if !planted::is(Bug::JournalsWithoutTheWork) {
            txn.unchanged(self.work.key(), self.revision);
        }
        txn.create(JournalEntry::key_at(entry.work, entry.number), entry.encode());
        let committed = self.commit(txn, Some(&entry)).await?;
        if let Committed::Yes = committed {
            self.progress.apply(&entry);
            self.ahead = None;
            self.maybe_sent = false;
        }
        Ok(committed)
    }

    /// Commits, resending what has an unknown outcome until it is known.
    async fn commit(&mut self, txn: Txn, entry: Option<&JournalEntry>) -> Result<Committed, Stop> {
        let own = [self.work.key(), JournalEntry::key_at(self.work.id, self.progress.entries)];
        let mut unknown = false;
        let (_, mut span) = self.trace().span("commit");
        loop {
            match span.note(self.coordinator.view.store().commit(txn.clone()).await) {
                Ok(_) => return Ok(Committed::Yes),
                Err(CommitError::Conflict { key, .. }) if own.contains(&key) || unknown => {
                    return if unknown && self.happened(entry).await? {
                        Ok(Committed::Yes)
                    } else {
                        Ok(Committed::WorkChanged)
                    };
                }
                Err(CommitError::Conflict { .. } | CommitError::OverLimit { .. }) => return Ok(Committed::Stale),
                Err(CommitError::Unknown { reason }) => {
                    unknown = true;
                    self.wait(&reason).await;
                }
                Err(CommitError::NotNow { reason }) => self.wait(&reason).await,
                Err(error @ CommitError::Invalid(_)) => {
                    tracing::error!(work = %self.work.id, error = ?error, "a step asks for an impossible transaction");
                    self.wait(&error.to_string()).await;
                    return Ok(Committed::Stale);
                }
            }
        }
    }

    /// Whether the commit with an unknown outcome happened: its journal entry is there, or the work has ended.
    async fn happened(&self, entry: Option<&JournalEntry>) -> Result<bool, Stop> {
        let id = self.work.id;
        loop {
            let read = self.coordinator.view.read(|reader| match entry {
                Some(entry) => {
                    let there = reader.entry(&JournalEntry::key_at(id, entry.number));
                    there.and_then(store::Entry::record).is_some_and(|bytes| *bytes == entry.encode())
                }
                None => reader.entry(&Work::key_of(&id)).is_none(),
            });
            match read.await {
                Ok(happened) => return Ok(happened),
                Err(error) => self.wait(&error.to_string()).await,
            }
        }
    }

    /// Reads the work again after others changed it; stops if it is not ours any more.
    async fn look_again(&mut self) -> Result<(), Stop> {
        let (work, revision) = self.coordinator.reload(self.work.id).await.ok_or(Stop::Lost)?;
        let same = |work: &Work| (work.owner.clone(), work.life, work.epoch);
        if same(&work) != same(&self.work) {
            return Err(Stop::Lost);
        }
        self.work = work;
        self.revision = revision;
        Ok(())
    }

    /// Waits before the next attempt; cut short when somebody changes the work or asks for a retry.
    async fn pause(&mut self, reason: &str) -> Result<(), Stop> {
        self.failures += 1;
        let backoff = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(10).saturating_sub(1)).min(BACKOFF_LAST);
        if self.failures > 3 {
            tracing::info!(work = %self.work.id, failures = self.failures, reason, "a step does not get through yet");
        }
        self.coordinator.tell(self.work.id, self.attempt(reason));
        self.permit = None;
        let sleep = self.coordinator.ring.world().sleep(backoff);
        if let Either::Right(_) = select(sleep, std::pin::pin!(self.changed.notified())).await {
            self.look_again().await?;
        }
        Ok(())
    }

    fn attempt(&self, reason: &str) -> Attempt {
        let step = match self.progress.next() {
            Next::Run(step) | Next::Undo(step) => self.workflow.steps.name(step),
            Next::Succeed | Next::Fail(_) => "end",
        };
        Attempt { step, undoing: self.progress.undoing(), failures: self.failures, error: Some(reason.to_owned()) }
    }

    async fn wait(&self, reason: &str) {
        tracing::debug!(work = %self.work.id, reason, "the store does not answer yet");
        self.coordinator.ring.world().sleep(BACKOFF_FIRST).await;
    }
}

/// The creation revision of the oldest unfinished work.
fn floor(reader: &store::Reader<'_>) -> Option<Revision> {
    reader.range(Work::all()).map(|(_, entry)| entry.created).min()
}
