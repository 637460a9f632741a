//! What a process remembers of its recent past: spans in a bounded ring, always on.
//!
//! A [`Cx`] goes along with every request: which trace, which request id, until when. Work that deserves a line in a
//! waterfall opens a [`Span`] from it; when the span is dropped, one record goes into the ring of this process. Nobody
//! waits for a collector, and nothing is lost by default: `mainstay trace` asks every process for what it has and joins
//! it with the durable journal.
//!
//! Where a collector is configured, it gets copies ([`export`]); nothing here ever waits for it.
//!
//! Deliberately absent: sampling, and thread-local context. A span belongs to the `Cx` that it was made from.

mod cx;
pub mod export;
pub mod metrics;
mod otlp;
mod ring;
pub mod service;

pub use cx::{Cx, RequestId, Span, SpanId, TraceId};
pub use ring::{Query, Record, Ring};
