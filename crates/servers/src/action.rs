//! What was asked of a server and what came of it: the durable skeleton of a request's trace.

use coordinator::StepTime;
use telemetry::TraceId;
use world::Wall;

use crate::server::ServerId;

/// Steps that an action keeps; of a work that took more, the last ones.
const STEPS_MAX: usize = 64;

/// A step of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionStep {
    /// Its name.
    pub name: String,
    /// When it began.
    pub start: Wall,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// What it failed with.
    pub error: Option<String>,
    /// Whether it was being undone.
    pub undo: bool,
}

/// What was asked of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The server.
    pub server: ServerId,
    /// The request.
    pub request_id: String,
    /// What was asked, named as Nova's actions.
    pub action: String,
    /// Who asked.
    pub user: String,
    /// For which project.
    pub project: String,
    /// When it was accepted.
    pub start: Wall,
    /// When it ended.
    pub finish: Option<Wall>,
    /// What it failed with.
    pub message: Option<String>,
    /// The steps.
    pub steps: Vec<ActionStep>,
    /// The trace.
    pub trace: TraceId,
}

impl Action {
    /// Notes the end.
    pub fn finished(&mut self, now: Wall, failure: Option<&str>, times: &[StepTime]) {
        self.finish = Some(now);
        self.message = failure.map(str::to_owned);
        let step = |time: &StepTime| ActionStep {
            name: time.name.to_owned(),
            start: time.start,
            took_us: u64::try_from(time.took.as_micros()).unwrap_or(u64::MAX),
            error: time.error.clone(),
            undo: time.undo,
        };
        self.steps = times.iter().skip(times.len().saturating_sub(STEPS_MAX)).map(step).collect();
    }
}
