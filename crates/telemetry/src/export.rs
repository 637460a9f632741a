//! Spans on their way out of a process, to whoever collects them.
//!
//! Nobody waits for a collector: a span is offered to a bounded queue, and where there is no room it is counted and
//! dropped. One task takes what has gathered, encodes it and sends it; a batch that nobody takes is tried again, later
//! and later, and given up in the end. So a collector that is slow, away or broken costs spans and never time.
//!
//! Deliberately absent: sockets. Whoever starts an [`Exporter`] brings the [`Collector`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use world::{BoxFuture, World};

use crate::metrics::{Counter, Metrics};
use crate::otlp;
use crate::ring::Record;

/// Spans that wait for the collector; more are dropped. 16,384 × about 230 B = 3.8 MiB.
const QUEUE_SPANS_MAX: usize = 16_384;
/// Spans that are sent together.
const BATCH_SPANS_MAX: usize = 1024;
/// How long a batch gathers after its first span.
const GATHER: Duration = Duration::from_secs(1);
/// Waits between attempts double from the first to the last of these.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// After so many attempts, about two minutes, a batch is given up.
const ATTEMPTS_MAX: u32 = 10;

/// Why a collector did not take a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It may take it later.
    #[error("{0}")]
    Later(String),
    /// It never will.
    #[error("{0}")]
    Never(String),
}

/// Takes encoded batches (`ExportTraceServiceRequest` of OTLP) to where they are collected.
pub trait Collector: Send + Sync {
    /// Sends one batch; returns when it was taken. It must end by itself, within seconds.
    fn send(&self, batch: Vec<u8>) -> BoxFuture<'_, Result<(), Refusal>>;
}

enum Post {
    Span(Record),
    /// Send what was posted before, then say so.
    Flush(oneshot::Sender<()>),
}

/// The process's end of the queue. Cloning shares it.
#[derive(Clone)]
pub struct Outbox {
    queue: mpsc::Sender<Post>,
    spans: Counter,
    world: World,
}

impl Outbox {
    /// Starts the task that sends to `collector`; `release` is said with every batch.
    pub fn start(world: &World, metrics: &Metrics, release: &'static str, collector: Arc<dyn Collector>) -> Outbox {
        let help = "Spans offered to the collector of traces, by what became of them.";
        let spans = metrics.counter("mainstay_otlp_spans_total", &["outcome"], help);
        let (queue, posts) = mpsc::channel(QUEUE_SPANS_MAX);
        let exporter = Exporter { world: world.clone(), posts, collector, release, spans: spans.clone() };
        world.spawn("spans out", exporter.run());
        Outbox { queue, spans, world: world.clone() }
    }

    /// Queues a copy of `record`, or drops it. Never waits.
    pub(crate) fn offer(&self, record: &Record) {
        // Asked first: where nobody collects, not even the copy is made.
        let place = self.queue.try_reserve().map(|place| place.send(Post::Span(record.clone())));
        if place.is_err() {
            self.spans.count(&["dropped"]);
        }
    }

    /// Returns when everything that was offered before has been sent, or after `wait`.
    pub async fn flush(&self, wait: Duration) {
        let (done, sent) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Post::Flush(done)).await.is_ok() {
                let _gone_is_done = sent.await;
            }
        };
        if self.world.timeout(wait, flushed).await.is_err() {
            tracing::warn!("the collector of traces did not take the last spans in time");
        }
    }
}

struct Exporter {
    world: World,
    posts: mpsc::Receiver<Post>,
    collector: Arc<dyn Collector>,
    release: &'static str,
    spans: Counter,
}

impl Exporter {
    async fn run(mut self) {
        let mut failing = false;
        // An idle process waits here for its next span: there is no timer to wake it.
        while let Some(first) = self.posts.recv().await {
            let (batch, flush) = self.gather(first).await;
            if !batch.is_empty() {
                let delivered = self.deliver(&batch, &mut failing).await;
                self.spans.add(&[if delivered { "sent" } else { "given up" }], batch.len() as u64);
            }
            if let Some(done) = flush {
                let _asker_left = done.send(());
            }
        }
    }

    /// What comes within [`GATHER`] of `first`, and who asked for the batch to leave at once.
    async fn gather(&mut self, first: Post) -> (Vec<Record>, Option<oneshot::Sender<()>>) {
        let mut batch = Vec::new();
        let until = self.world.now() + GATHER;
        let mut next = first;
        loop {
            match next {
                Post::Span(record) => batch.push(record),
                Post::Flush(done) => return (batch, Some(done)),
            }
            if batch.len() >= BATCH_SPANS_MAX {
                return (batch, None);
            }
            match self.world.timeout_at(until, self.posts.recv()).await {
                Ok(Some(post)) => next = post,
                Ok(None) | Err(_) => return (batch, None),
            }
        }
    }

    /// Whether the collector took `batch` in the end. Says once that it does not, and once that it does again.
    async fn deliver(&self, batch: &[Record], failing: &mut bool) -> bool {
        let encoded = otlp::encode(self.release, batch);
        let mut backoff = BACKOFF_FIRST;
        for _ in 0..ATTEMPTS_MAX {
            let refusal = match self.collector.send(encoded.clone()).await {
                Ok(()) => {
                    if std::mem::take(failing) {
                        tracing::info!("the collector of traces takes spans again");
                    }
                    return true;
                }
                Err(refusal) => refusal,
            };
            if !std::mem::replace(failing, true) {
                tracing::warn!(reason = %refusal, "the collector of traces takes no spans; they are kept for a while");
            }
            match refusal {
                Refusal::Never(_) => return false,
                Refusal::Later(_) => self.world.sleep(backoff).await,
            }
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use world::os::OsHost;

    use super::*;
    use crate::{Cx, Ring};

    /// Refuses as often as it is told to, then takes everything.
    struct Fickle {
        refusals: Mutex<Vec<Refusal>>,
        taken: Mutex<Vec<Vec<u8>>>,
    }

    impl Collector for Fickle {
        fn send(&self, batch: Vec<u8>) -> BoxFuture<'_, Result<(), Refusal>> {
            Box::pin(async move {
                match self.refusals.lock().pop() {
                    Some(refusal) => Err(refusal),
                    None => {
                        self.taken.lock().push(batch);
                        Ok(())
                    }
                }
            })
        }
    }

    /// A collector that answers nothing, ever.
    struct Silent;

    impl Collector for Silent {
        fn send(&self, _batch: Vec<u8>) -> BoxFuture<'_, Result<(), Refusal>> {
            Box::pin(std::future::pending())
        }
    }

    fn spans(ring: &Arc<Ring>, count: usize) {
        let cx = Cx::root(ring, None, ring.world().now() + GATHER);
        (0..count).for_each(|_| drop(cx.span("step")));
    }

    #[tokio::test]
    async fn what_is_refused_for_now_is_sent_again_and_a_flush_waits_for_it() {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let metrics = Metrics::default();
        let refusals = Mutex::new(vec![Refusal::Later("busy".into())]);
        let fickle = Arc::new(Fickle { refusals, taken: Mutex::default() });
        let outbox = Outbox::start(&world, &metrics, "1", Arc::clone(&fickle) as Arc<dyn Collector>);
        let ring = Ring::new(&world, "api/one");
        ring.export(outbox.clone());
        spans(&ring, 3);
        outbox.flush(Duration::from_secs(30)).await;
        assert_eq!(fickle.taken.lock().len(), 1, "one batch");
        assert!(metrics.render().contains("mainstay_otlp_spans_total{outcome=\"sent\"} 3\n"), "{}", metrics.render());

        fickle.refusals.lock().push(Refusal::Never("no".into()));
        spans(&ring, 2);
        outbox.flush(Duration::from_secs(30)).await;
        assert!(metrics.render().contains("{outcome=\"given up\"} 2\n"), "{}", metrics.render());
    }

    #[tokio::test]
    async fn a_collector_that_is_silent_costs_spans_and_no_time() {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let metrics = Metrics::default();
        let outbox = Outbox::start(&world, &metrics, "1", Arc::new(Silent));
        let ring = Ring::new(&world, "api/one");
        ring.export(outbox.clone());
        // Nothing here waits: the only task runs, on this one thread, when this one does.
        spans(&ring, QUEUE_SPANS_MAX + 5);
        assert!(metrics.render().contains("{outcome=\"dropped\"} 5\n"), "{}", metrics.render());
        outbox.flush(Duration::from_millis(10)).await;
    }
}
