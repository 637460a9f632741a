//! The ring that keeps the most recent spans of a process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use world::{Wall, World};

use crate::cx::{RequestId, SpanId, TraceId};

/// Spans that a process remembers. 32,768 × about 200 B = 6.5 MiB.
const SPANS_MAX: usize = 32_768;

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Record {
    /// The trace.
    pub trace: TraceId,
    /// Its number.
    pub id: SpanId,
    /// The span that it is part of; 0: none.
    pub parent: SpanId,
    /// What was done.
    pub name: &'static str,
    /// When it began.
    pub start: Wall,
    /// How long it took.
    pub took: Duration,
    /// The request id, if known.
    pub request: Option<RequestId>,
    /// What it was about, if known.
    pub subject: Option<Arc<str>>,
    /// The error that it ended with.
    pub error: Option<String>,
}

/// Which spans are wanted: those that match any field that is given.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// A trace.
    pub trace: Option<TraceId>,
    /// A request id.
    pub request: Option<String>,
    /// The id of what it was about.
    pub subject: Option<String>,
}

impl Query {
    fn matches(&self, record: &Record) -> bool {
        self.trace.is_some_and(|trace| trace == record.trace)
            || self.request.as_deref().is_some_and(|request| record.request.as_deref() == Some(request))
            || self.subject.as_deref().is_some_and(|subject| record.subject.as_deref() == Some(subject))
    }
}

/// The ring of one process.
pub struct Ring {
    world: World,
    process: String,
    spans: Mutex<VecDeque<Record>>,
}

impl Ring {
    /// An empty ring of the process `process`.
    pub fn new(world: &World, process: impl Into<String>) -> Arc<Ring> {
        Arc::new(Ring { world: world.clone(), process: process.into(), spans: Mutex::new(VecDeque::new()) })
    }

    /// The world of this process.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The name of this process.
    pub fn process(&self) -> &str {
        &self.process
    }

    pub(crate) fn push(&self, record: Record) {
        let mut spans = self.spans.lock();
        if spans.len() == SPANS_MAX {
            spans.pop_front();
        }
        spans.push_back(record);
    }

    /// The spans that match, oldest first. A match by request or subject brings all spans of its traces.
    pub fn find(&self, query: &Query) -> Vec<Record> {
        let spans = self.spans.lock();
        let traces: std::collections::BTreeSet<TraceId> =
            spans.iter().filter(|record| query.matches(record)).map(|record| record.trace).collect();
        spans.iter().filter(|record| traces.contains(&record.trace)).cloned().collect()
    }
}
