//! The context of a request, and spans.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use world::{Mono, Wall, World};

use crate::ring::{Record, Ring};

/// One request and all that follows from it, across processes. W3C Trace Context's trace-id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One span within a trace; 0 stands for "none" on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

/// The id that a client was given for its request (`req-…`).
pub type RequestId = Arc<str>;

/// What goes along with a request through a process. Cloning is cheap.
#[derive(Clone)]
pub struct Cx {
    ring: Arc<Ring>,
    trace: TraceId,
    span: SpanId,
    request: Option<RequestId>,
    subject: Option<Arc<str>>,
    work: Option<Arc<str>>,
    deadline: Mono,
}

impl Cx {
    /// The start of a trace in this process, with nothing above it.
    pub fn root(ring: &Arc<Ring>, request: Option<RequestId>, deadline: Mono) -> Cx {
        let trace = TraceId(u128::from_le_bytes(ring.world().random()));
        Cx { ring: Arc::clone(ring), trace, span: SpanId(0), request, subject: None, work: None, deadline }
    }

    /// A trace that began elsewhere.
    pub fn continued(
        ring: &Arc<Ring>,
        trace: TraceId,
        parent: SpanId,
        request: Option<RequestId>,
        deadline: Mono,
    ) -> Cx {
        Cx { ring: Arc::clone(ring), trace, span: parent, request, subject: None, work: None, deadline }
    }

    /// The same context about a particular thing: its spans are found by the thing's id.
    #[must_use]
    pub fn about(&self, subject: &impl fmt::Display) -> Cx {
        Cx { subject: Some(subject.to_string().into()), ..self.clone() }
    }

    /// The same context within a durable work: its spans name it.
    #[must_use]
    pub fn within(&self, work: &impl fmt::Display) -> Cx {
        Cx { work: Some(work.to_string().into()), ..self.clone() }
    }

    /// The same context with `deadline`, if that is sooner than its own.
    #[must_use]
    pub fn until(&self, deadline: Mono) -> Cx {
        Cx { deadline: self.deadline.min(deadline), ..self.clone() }
    }

    /// Opens a span. The returned context is the span's inside; the span ends when the guard is dropped.
    pub fn span(&self, name: &'static str) -> (Cx, Span) {
        let id = SpanId(u64::from_le_bytes(self.world().random()) | 1);
        let inside = Cx { span: id, ..self.clone() };
        let span = Span {
            parent: self.span,
            name,
            start: self.world().now(),
            start_wall: self.world().wall(),
            error: None,
            cx: inside.clone(),
        };
        (inside, span)
    }

    /// The trace.
    pub fn trace(&self) -> TraceId {
        self.trace
    }

    /// The innermost open span; 0: none.
    pub fn span_id(&self) -> SpanId {
        self.span
    }

    /// The request id, if it is known.
    pub fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }

    /// The id of what this is about, if it is known.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The id of the work that this belongs to, if it is known.
    pub fn work(&self) -> Option<&str> {
        self.work.as_deref()
    }

    /// Until when an answer is of use.
    pub fn deadline(&self) -> Mono {
        self.deadline
    }

    /// What is left until the deadline.
    pub fn left(&self) -> Duration {
        self.deadline.since(self.world().now())
    }

    /// The world of this process.
    pub fn world(&self) -> &World {
        self.ring.world()
    }

    /// The ring of this process.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("trace", &self.trace).field("request", &self.request).finish_non_exhaustive()
    }
}

/// An open span; recorded when dropped.
pub struct Span {
    cx: Cx,
    parent: SpanId,
    name: &'static str,
    start: Mono,
    start_wall: Wall,
    error: Option<String>,
}

impl Span {
    /// Notes that the span's work failed.
    pub fn failed(&mut self, error: &impl fmt::Display) {
        self.error = Some(error.to_string());
    }

    /// Notes the error of `result`, if it is one, and passes it on.
    pub fn note<T, E: fmt::Display>(&mut self, result: Result<T, E>) -> Result<T, E> {
        result.inspect_err(|error| self.failed(error))
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let took = self.cx.world().now().since(self.start);
        self.cx.ring.push(Record {
            process: Arc::clone(self.cx.ring.name()),
            trace: self.cx.trace,
            id: self.cx.span,
            parent: self.parent,
            name: self.name,
            start: self.start_wall,
            took,
            request: self.cx.request.clone(),
            subject: self.cx.subject.clone(),
            work: self.cx.work.clone(),
            error: self.error.take(),
        });
    }
}
