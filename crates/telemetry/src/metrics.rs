//! Counts, amounts and durations of a process, in Prometheus' text format.
//!
//! A family is made once and held by whoever counts; reading renders all families. What is known elsewhere already (how
//! many works are in flight) is read when somebody asks, by [`Metrics::read`]. Names follow Prometheus' rules: base
//! units (seconds, bytes) and a `_total` suffix for counters. The values of a label must come from a small fixed set.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

/// Upper bounds of the buckets of a duration, in microseconds: powers of four from 64 µs to about 67 s.
const BUCKETS_US: [u64; BUCKETS] =
    [64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];
/// Upper bounds of the buckets of a number of things: powers of two.
const BUCKETS_COUNT: [u64; BUCKETS] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];
const BUCKETS: usize = 11;
/// Between the values of a series' labels in its key; in none of them.
const SEPARATOR: char = '\u{1f}';

#[derive(Default)]
struct Series {
    /// Events of a histogram, the count of a counter, the level of a gauge.
    count: AtomicU64,
    sum: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// What a family's numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations.
    Seconds,
    /// Numbers of things.
    Sizes,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Seconds | Kind::Sizes => "histogram",
        }
    }
}

/// Label values and a number, read when somebody asks.
pub type Sample = (Vec<String>, f64);
type ReadFn = Box<dyn Fn() -> Vec<Sample> + Send + Sync>;

struct Family {
    help: &'static str,
    labels: &'static [&'static str],
    kind: Kind,
    series: RwLock<BTreeMap<String, Arc<Series>>>,
    read: Option<ReadFn>,
}

/// All families of a process. Cloning shares them.
#[derive(Clone, Default)]
pub struct Metrics {
    families: Arc<RwLock<BTreeMap<&'static str, Arc<Family>>>>,
}

/// Counts events.
#[derive(Clone)]
pub struct Counter(Arc<Family>);

/// A level that rises and falls.
#[derive(Clone)]
pub struct Gauge(Arc<Series>);

/// Counts and times events, or counts and sizes them.
#[derive(Clone)]
pub struct Histogram(Arc<Family>);

/// Holds a [`Gauge`] one higher until it is dropped.
pub struct Held(Arc<Series>);

impl Metrics {
    /// The counter `name`, made at the first call.
    pub fn counter(&self, name: &'static str, labels: &'static [&'static str], help: &'static str) -> Counter {
        Counter(self.family(name, labels, help, Kind::Counter, None))
    }

    /// The gauge `name`, without labels, made at the first call.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        Gauge(self.family(name, &[], help, Kind::Gauge, None).series(&[]))
    }

    /// The histogram of durations `name` (in seconds), made at the first call.
    pub fn histogram(&self, name: &'static str, labels: &'static [&'static str], help: &'static str) -> Histogram {
        Histogram(self.family(name, labels, help, Kind::Seconds, None))
    }

    /// The histogram `name` of numbers of things, made at the first call.
    pub fn sizes(&self, name: &'static str, labels: &'static [&'static str], help: &'static str) -> Histogram {
        Histogram(self.family(name, labels, help, Kind::Sizes, None))
    }

    /// The family `name`, whose numbers are read by `read` whenever somebody asks. For counters and gauges.
    pub fn read(
        &self,
        name: &'static str,
        kind: Kind,
        labels: &'static [&'static str],
        help: &'static str,
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        drop(self.family(name, labels, help, kind, Some(Box::new(read))));
    }

    fn family(
        &self,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        kind: Kind,
        read: Option<ReadFn>,
    ) -> Arc<Family> {
        let mut families = self.families.write();
        let make = || Arc::new(Family { help, labels, kind, series: RwLock::default(), read });
        Arc::clone(families.entry(name).or_insert_with(make))
    }

    /// Everything in Prometheus' text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        // Copied out: what is read meanwhile may itself make a family.
        let families: Vec<_> = self.families.read().iter().map(|(name, family)| (*name, Arc::clone(family))).collect();
        let mut out = String::new();
        for (name, family) in families {
            let _infallible = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind.word());
            for (values, number) in family.read.iter().flat_map(|read| read()) {
                let labels = label_text(family.labels, values.iter().map(String::as_str));
                let _infallible = writeln!(out, "{name}{} {number}", braces(&labels, None));
            }
            for (values, series) in family.series.read().iter() {
                let labels = label_text(family.labels, values.split(SEPARATOR));
                render_series(&mut out, name, family.kind, &labels, series);
            }
        }
        out
    }
}

fn label_text<'a>(labels: &[&str], values: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (label, value) in labels.iter().zip(values) {
        let comma = if text.is_empty() { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _infallible = write!(text, "{comma}{label}=\"{value}\"");
    }
    text
}

fn braces(labels: &str, le: Option<&str>) -> String {
    let le = le.map(|bound| format!("le=\"{bound}\"")).unwrap_or_default();
    match (labels.is_empty(), le.is_empty()) {
        (true, true) => String::new(),
        (false, false) => format!("{{{labels},{le}}}"),
        (true, false) | (false, true) => format!("{{{labels}{le}}}"),
    }
}

fn render_series(out: &mut String, name: &str, kind: Kind, labels: &str, series: &Series) {
    let count = series.count.load(Ordering::Relaxed);
    let unit = |number: u64| match kind {
        Kind::Seconds => Duration::from_micros(number).as_secs_f64().to_string(),
        Kind::Counter | Kind::Gauge | Kind::Sizes => number.to_string(),
    };
    let bounds = match kind {
        Kind::Counter | Kind::Gauge => {
            let _infallible = writeln!(out, "{name}{} {count}", braces(labels, None));
            return;
        }
        Kind::Seconds => BUCKETS_US,
        Kind::Sizes => BUCKETS_COUNT,
    };
    let mut below = 0;
    for (bound, bucket) in bounds.iter().zip(&series.buckets) {
        below += bucket.load(Ordering::Relaxed);
        let _infallible = writeln!(out, "{name}_bucket{} {below}", braces(labels, Some(&unit(*bound))));
    }
    let (all, plain) = (braces(labels, Some("+Inf")), braces(labels, None));
    let sum = unit(series.sum.load(Ordering::Relaxed));
    let _infallible = writeln!(out, "{name}_bucket{all} {count}\n{name}_sum{plain} {sum}\n{name}_count{plain} {count}");
}

impl Family {
    fn series(&self, values: &[&str]) -> Arc<Series> {
        let mut key = String::with_capacity(values.iter().map(|value| value.len() + 1).sum());
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                key.push(SEPARATOR);
            }
            key.push_str(value);
        }
        if let Some(series) = self.series.read().get(&key) {
            return Arc::clone(series);
        }
        Arc::clone(self.series.write().entry(key).or_default())
    }
}

impl Counter {
    /// One more event with these label values, in the order of the labels.
    pub fn count(&self, values: &[&str]) {
        self.add(values, 1);
    }

    /// Several more.
    pub fn add(&self, values: &[&str], more: u64) {
        self.0.series(values).count.fetch_add(more, Ordering::Relaxed);
    }
}

impl Gauge {
    /// One higher, until what is returned is dropped.
    pub fn hold(&self) -> Held {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(&self.0))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Histogram {
    /// One more event with these label values that took `span`. For durations.
    pub fn record(&self, values: &[&str], span: Duration) {
        self.observe(values, u64::try_from(span.as_micros()).unwrap_or(u64::MAX), &BUCKETS_US);
    }

    /// One more event with these label values, of `size` things. For sizes.
    pub fn size(&self, values: &[&str], size: u64) {
        self.observe(values, size, &BUCKETS_COUNT);
    }

    fn observe(&self, values: &[&str], number: u64, bounds: &[u64; BUCKETS]) {
        let series = self.0.series(values);
        series.count.fetch_add(1, Ordering::Relaxed);
        series.sum.fetch_add(number, Ordering::Relaxed);
        if let Some(at) = bounds.iter().position(|bound| number <= *bound) {
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
        let calls = metrics.histogram("calls_seconds", &["method", "verdict"], "Calls.");
        calls.record(&["a\"b", "ok"], Duration::from_micros(100));
        calls.record(&["a\"b", "ok"], Duration::from_secs(1000));
        let text = metrics.render();
        let labels = "method=\"a\\\"b\",verdict=\"ok\"";
        assert!(text.contains(&format!("calls_seconds_bucket{{{labels},le=\"0.000064\"}} 0\n")), "{text}");
        assert!(text.contains(&format!("calls_seconds_bucket{{{labels},le=\"67.108864\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("calls_seconds_bucket{{{labels},le=\"+Inf\"}} 2\n")), "{text}");
        assert!(text.contains(&format!("calls_seconds_sum{{{labels}}} 1000.0001\n")), "{text}");
    }

    #[test]
    fn levels_fall_again_and_what_is_read_is_read_anew() {
        let metrics = Metrics::default();
        let open = metrics.gauge("open", "Open.");
        let held = open.hold();
        let asked = AtomicU64::new(0);
        metrics.read("works", Kind::Gauge, &["kind"], "Works.", move || {
            vec![(vec!["boot".into()], asked.fetch_add(1, Ordering::Relaxed) as f64)]
        });
        let text = metrics.render();
        assert!(text.contains("# TYPE open gauge\nopen 1\n"), "{text}");
        assert!(text.contains("works{kind=\"boot\"} 0\n"), "{text}");
        drop(held);
        let text = metrics.render();
        assert!(text.contains("\nopen 0\n") && text.contains("works{kind=\"boot\"} 1\n"), "{text}");
    }
}
