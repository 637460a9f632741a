//! What a workflow is made of.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use planted::Bug;
use prost::Message;
use rpc::{Peers, Verdict};
use store::{DecodeError, ReadError, Revision, Txn, View};
use telemetry::Cx;
use world::Wall;

use crate::record::{Epoch, WorkId};

/// What a step touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Only the store, through the transaction that it returns.
    Store,
    /// Another process, by a call that may be sent again. Its end is journalled with the next step's transaction.
    Call,
}

/// What a step is given.
pub struct StepCx {
    /// Trace, request id and deadline.
    pub cx: Cx,
    /// The work.
    pub work: WorkId,
    /// The revision that created the work.
    pub created: Revision,
    /// The creation revision of the oldest unfinished work.
    pub floor: Revision,
    /// The owner's fencing number.
    pub epoch: Epoch,
    /// What the work is about.
    pub subject: String,
    /// The number for orders to other processes.
    pub order: u32,
    /// The workflow's input.
    pub input: Bytes,
    /// Everything there is, for reading.
    pub view: Arc<View>,
    /// Other processes.
    pub peers: Arc<dyn Peers>,
    /// Whether an order of this very step may have been sent before this attempt, by this owner or an earlier one.
    pub maybe_sent: bool,
    /// Why the work is being undone, while it is.
    pub failure: Option<String>,
    /// What must live until the outcome of this attempt's transaction is known.
    pub(crate) held: parking_lot::Mutex<Vec<Box<dyn std::any::Any + Send>>>,
}

impl StepCx {
    /// Keeps `guard` until the outcome of this attempt's transaction is known: picks of free addresses, for example.
    pub fn hold(&self, guard: impl std::any::Any + Send) {
        self.held.lock().push(Box::new(guard));
    }
}

/// How far a step got.
pub enum Advance {
    /// It is done, with this change of the store.
    Done(Txn),
    /// It is not done, but this much shall be kept; it is run again.
    Again(Txn),
}

/// A step did not get through.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StepError {
    /// It cannot be done. `clean`: nothing of it exists now. `resume`: undo down to that step and go on from there.
    #[error("{reason}")]
    Failed {
        /// For people: becomes the fault that a tenant sees.
        reason: String,
        /// Nothing of this step exists.
        clean: bool,
        /// The step to go on from, if the work need not be given up.
        resume: Option<usize>,
    },
    /// It did not work this time; nothing happened. `sent` tells whether an order may have reached anybody.
    #[error("{reason}")]
    Retry {
        /// For people.
        reason: String,
        /// Whether something may have happened or may yet.
        unknown: bool,
    },
}

impl StepError {
    /// Gives up; something of this step may exist.
    pub fn fatal(reason: impl std::fmt::Display) -> StepError {
        StepError::Failed { reason: reason.to_string(), clean: false, resume: None }
    }

    /// Gives up; nothing of this step exists.
    pub fn refused(reason: impl std::fmt::Display) -> StepError {
        StepError::Failed { reason: reason.to_string(), clean: true, resume: None }
    }
}

impl From<ReadError> for StepError {
    fn from(error: ReadError) -> StepError {
        StepError::Retry { reason: error.to_string(), unknown: false }
    }
}

impl From<DecodeError> for StepError {
    fn from(error: DecodeError) -> StepError {
        StepError::fatal(error)
    }
}

impl From<rpc::Error> for StepError {
    fn from(error: rpc::Error) -> StepError {
        match error.verdict {
            Verdict::No => StepError::refused(error.reason),
            Verdict::NotNow => StepError::Retry { reason: error.reason, unknown: false },
            Verdict::Unknown if planted::is(Bug::UnknownIsNo) => StepError::refused(error.reason),
            Verdict::Unknown => StepError::Retry { reason: error.reason, unknown: true },
        }
    }
}

/// One step of a workflow whose state is `S`.
#[async_trait]
pub trait Step<S>: Send + Sync {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// What it touches.
    fn effect(&self) -> Effect;

    /// Does it, or finds it done. May be run again with the same order number at any time.
    async fn run(&self, cx: &StepCx, state: &mut S) -> Result<Advance, StepError>;

    /// Makes sure that nothing of it is left. May find that nothing was. Retried until it succeeds.
    async fn undo(&self, cx: &StepCx, state: &mut S) -> Result<Txn, StepError>;
}

/// How a work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Succeeded,
    /// Everything is undone, for this reason.
    Failed(String),
}

/// When a step ran in this owner's hands: the durable skeleton of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// The step.
    pub name: &'static str,
    /// Whether it was being undone.
    pub undo: bool,
    /// When it began.
    pub start: Wall,
    /// How long it took.
    pub took: Duration,
    /// What it failed with.
    pub error: Option<String>,
}

/// What a workflow adds to the transactions that turn or end a work.
#[async_trait]
pub trait Conclusion<S>: Send + Sync {
    /// Rides with the entry that says that the work is given up; undoing follows. What the user shall see at once.
    async fn failing(&self, cx: &StepCx, state: &mut S, reason: &str) -> Result<Txn, StepError>;

    /// Rides with the end of the work.
    async fn ended(&self, cx: &StepCx, state: &S, outcome: &Outcome, times: &[StepTime]) -> Result<Txn, StepError>;
}

/// A workflow with the type of its state hidden.
pub struct Workflow {
    /// Its name, stored with each work.
    pub kind: &'static str,
    /// Its version, stored with each work.
    pub version: u32,
    /// The first step that is never undone: from there on the work only goes forward.
    pub no_return: usize,
    pub(crate) steps: Box<dyn Steps>,
}

impl Workflow {
    /// A workflow. `no_return` is the first step that is never undone; the number of steps if there is none.
    pub fn new<S: Message + Default + 'static>(
        kind: &'static str,
        version: u32,
        no_return: usize,
        steps: Vec<Box<dyn Step<S>>>,
        conclusion: impl Conclusion<S> + 'static,
    ) -> Workflow {
        Workflow { kind, version, no_return, steps: Box::new(Typed { steps, conclusion: Box::new(conclusion) }) }
    }
}

impl Workflow {
    /// The names of its steps, in their order.
    pub fn step_names(&self) -> Vec<&'static str> {
        (0..self.steps.len()).map(|step| self.steps.name(step)).collect()
    }
}

struct Typed<S> {
    steps: Vec<Box<dyn Step<S>>>,
    conclusion: Box<dyn Conclusion<S>>,
}

/// The steps with the state as bytes.
#[async_trait]
pub(crate) trait Steps: Send + Sync {
    fn len(&self) -> usize;
    fn name(&self, step: usize) -> &'static str;
    fn effect(&self, step: usize) -> Effect;
    async fn run(&self, step: usize, cx: &StepCx, state: &mut Bytes) -> Result<Advance, StepError>;
    async fn undo(&self, step: usize, cx: &StepCx, state: &mut Bytes) -> Result<Txn, StepError>;
    async fn failing(&self, cx: &StepCx, state: &mut Bytes, reason: &str) -> Result<Txn, StepError>;
    async fn ended(&self, cx: &StepCx, state: &Bytes, outcome: &Outcome, times: &[StepTime]) -> Result<Txn, StepError>;
}

fn read<S: Message + Default>(state: &Bytes) -> Result<S, StepError> {
    S::decode(state.clone())
        .map_err(|error| StepError::Retry { reason: format!("damaged state: {error}"), unknown: true })
}

#[async_trait]
impl<S: Message + Default + 'static> Steps for Typed<S> {
    fn len(&self) -> usize {
        self.steps.len()
    }

    fn name(&self, step: usize) -> &'static str {
        self.steps[step].name()
    }

    fn effect(&self, step: usize) -> Effect {
        self.steps[step].effect()
    }

    async fn run(&self, step: usize, cx: &StepCx, state: &mut Bytes) -> Result<Advance, StepError> {
        let mut typed: S = read(state)?;
        let advance = self.steps[step].run(cx, &mut typed).await?;
        *state = typed.encode_to_vec().into();
        Ok(advance)
    }

    async fn undo(&self, step: usize, cx: &StepCx, state: &mut Bytes) -> Result<Txn, StepError> {
        let mut typed: S = read(state)?;
        let txn = self.steps[step].undo(cx, &mut typed).await?;
        *state = typed.encode_to_vec().into();
        Ok(txn)
    }

    async fn failing(&self, cx: &StepCx, state: &mut Bytes, reason: &str) -> Result<Txn, StepError> {
        let mut typed: S = read(state)?;
        let txn = self.conclusion.failing(cx, &mut typed, reason).await?;
        *state = typed.encode_to_vec().into();
        Ok(txn)
    }

    async fn ended(&self, cx: &StepCx, state: &Bytes, outcome: &Outcome, times: &[StepTime]) -> Result<Txn, StepError> {
        self.conclusion.ended(cx, &read(state)?, outcome, times).await
    }
}
