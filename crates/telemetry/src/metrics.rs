//! Counts and durations of a process, in Prometheus' text format.
//!
//! A family is made once and held by whoever counts; reading renders all families. Names follow Prometheus' rules:
//! base units (seconds, bytes) and a `_total` suffix for counters.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

/// Upper bounds of the buckets of a duration, in microseconds: powers of four from 64 µs to about 67 s.
const BUCKETS_US: [u64; 11] =
    [64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];

#[derive(Default)]
struct Series {
    count: AtomicU64,
    sum_us: AtomicU64,
    buckets: [AtomicU64; BUCKETS_US.len()],
}

enum Kind {
    Counter,
    Histogram,
}

struct Family {
    help: &'static str,
    label: &'static str,
    kind: Kind,
    series: RwLock<BTreeMap<String, Arc<Series>>>,
}

/// All families of a process. Cloning shares them.
#[derive(Clone, Default)]
pub struct Metrics {
    families: Arc<RwLock<BTreeMap<&'static str, Arc<Family>>>>,
}

/// Counts events by one label.
#[derive(Clone)]
pub struct Counter(Arc<Family>);

/// Counts and times events by one label.
#[derive(Clone)]
pub struct Histogram(Arc<Family>);

impl Metrics {
    /// The counter `name`, made at the first call.
    pub fn counter(&self, name: &'static str, label: &'static str, help: &'static str) -> Counter {
        Counter(self.family(name, label, help, Kind::Counter))
    }

    /// The histogram of durations `name` (in seconds), made at the first call.
    pub fn histogram(&self, name: &'static str, label: &'static str, help: &'static str) -> Histogram {
        Histogram(self.family(name, label, help, Kind::Histogram))
    }

    fn family(&self, name: &'static str, label: &'static str, help: &'static str, kind: Kind) -> Arc<Family> {
        let mut families = self.families.write();
        let make = || Arc::new(Family { help, label, kind, series: RwLock::default() });
        Arc::clone(families.entry(name).or_insert_with(make))
    }

    /// Everything in Prometheus' text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, family) in self.families.read().iter() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Histogram => "histogram",
            };
            let _infallible = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (value, series) in family.series.read().iter() {
                let label = format!("{}=\"{}\"", family.label, value.replace('\\', "\\\\").replace('"', "\\\""));
                render_series(&mut out, name, &family.kind, &label, series);
            }
        }
        out
    }
}

fn render_series(out: &mut String, name: &str, kind: &Kind, label: &str, series: &Series) {
    let count = series.count.load(Ordering::Relaxed);
    let _infallible = match kind {
        Kind::Counter => writeln!(out, "{name}{{{label}}} {count}"),
        Kind::Histogram => {
            let mut below = 0;
            for (bound, bucket) in BUCKETS_US.iter().zip(&series.buckets) {
                below += bucket.load(Ordering::Relaxed);
                let seconds = Duration::from_micros(*bound).as_secs_f64();
                let _infallible = writeln!(out, "{name}_bucket{{{label},le=\"{seconds}\"}} {below}");
            }
            let sum = Duration::from_micros(series.sum_us.load(Ordering::Relaxed)).as_secs_f64();
            writeln!(
                out,
                "{name}_bucket{{{label},le=\"+Inf\"}} {count}\n{name}_sum{{{label}}} {sum}\n{name}_count{{{label}}} {count}"
            )
        }
    };
}

impl Family {
    fn series(&self, value: &str) -> Arc<Series> {
        if let Some(series) = self.series.read().get(value) {
            return Arc::clone(series);
        }
        Arc::clone(self.series.write().entry(value.to_owned()).or_default())
    }
}

impl Counter {
    /// One more event with this label value. The values of a label must come from a small fixed set.
    pub fn count(&self, value: &str) {
        self.0.series(value).count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Histogram {
    /// One more event that took `span`.
    pub fn record(&self, value: &str, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let series = self.0.series(value);
        series.count.fetch_add(1, Ordering::Relaxed);
        series.sum_us.fetch_add(micros, Ordering::Relaxed);
        if let Some(at) = BUCKETS_US.iter().position(|bound| micros <= *bound) {
            series.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_are_escaped() {
        let metrics = Metrics::default();
        let calls = metrics.histogram("calls_seconds", "method", "Calls.");
        calls.record("a\"b", Duration::from_micros(100));
        calls.record("a\"b", Duration::from_secs(1000));
        let text = metrics.render();
        assert!(text.contains("calls_seconds_bucket{method=\"a\\\"b\",le=\"0.000064\"} 0\n"), "{text}");
        assert!(text.contains("calls_seconds_bucket{method=\"a\\\"b\",le=\"67.108864\"} 1\n"), "{text}");
        assert!(text.contains("calls_seconds_bucket{method=\"a\\\"b\",le=\"+Inf\"} 2\n"), "{text}");
        assert!(text.contains("calls_seconds_sum{method=\"a\\\"b\"} 1000.0001\n"), "{text}");
    }
}
