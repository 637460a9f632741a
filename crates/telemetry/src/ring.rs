//! The ring that keeps the most recent spans of a process.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use world::{Wall, World};

use crate::cx::{RequestId, SpanId, TraceId};
use crate::export::Outbox;
use crate::metrics::{Histogram, Metrics};

/// Spans that a process remembers. 32,768 × about 230 B = 7.5 MiB.
const SPANS_MAX: usize = 32_768;

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who did it: role/name.
    pub process: Arc<str>,
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
    /// The durable work that it belongs to, if known.
    pub work: Option<Arc<str>>,
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

/// What all rings of one process share.
#[derive(Default)]
struct Spans {
    kept: Mutex<VecDeque<Record>>,
    /// Where copies go, once somebody collects them.
    outbox: OnceLock<Outbox>,
    /// How long spans take, once somebody counts them.
    seconds: OnceLock<Histogram>,
}

/// The ring of one process, seen by one of the parts it plays: most play one, a process of many nodes one for each.
pub struct Ring {
    world: World,
    process: Arc<str>,
    spans: Arc<Spans>,
}

impl Ring {
    /// An empty ring of the process `process`.
    pub fn new(world: &World, process: impl Into<String>) -> Arc<Ring> {
        let process: String = process.into();
        Arc::new(Ring { world: world.clone(), process: process.into(), spans: Arc::default() })
    }

    /// The same memory under another name: a thousand nodes in one process remember no more than one.
    pub fn beside(&self, process: impl Into<String>) -> Arc<Ring> {
        let process: String = process.into();
        Arc::new(Ring { world: self.world.clone(), process: process.into(), spans: Arc::clone(&self.spans) })
    }

    /// From now on a copy of each span goes to `outbox`, from all rings that share this memory. The first one stays.
    pub fn export(&self, outbox: Outbox) {
        let _first_wins = self.spans.outbox.set(outbox);
    }

    /// From now on spans are counted and timed by name in `metrics`, from all rings that share this memory.
    pub fn measure(&self, metrics: &Metrics) {
        let seconds = metrics.histogram("mainstay_span_seconds", &["span", "outcome"], "Steps of requests, by name.");
        let _first_wins = self.spans.seconds.set(seconds);
    }

    /// The world of this process.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The name of this process.
    pub fn process(&self) -> &str {
        &self.process
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.process
    }

    pub(crate) fn push(&self, record: Record) {
        // Calls (`/package.Service/Method`) are counted where they are served, by their verdict.
        if let Some(seconds) = self.spans.seconds.get().filter(|_| !record.name.starts_with('/')) {
            seconds.record(&[record.name, if record.error.is_some() { "error" } else { "ok" }], record.took);
        }
        if let Some(outbox) = self.spans.outbox.get() {
            outbox.offer(&record);
        }
        let mut kept = self.spans.kept.lock();
        if kept.len() == SPANS_MAX {
            kept.pop_front();
        }
        kept.push_back(record);
    }

    /// The spans that match, oldest first. A match by request or subject brings all spans of its traces.
    pub fn find(&self, query: &Query) -> Vec<Record> {
        let kept = self.spans.kept.lock();
        let traces: BTreeSet<TraceId> =
            kept.iter().filter(|record| query.matches(record)).map(|record| record.trace).collect();
        kept.iter().filter(|record| traces.contains(&record.trace)).cloned().collect()
    }
}
