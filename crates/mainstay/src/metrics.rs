//! Prometheus metrics on loopback, and those numbers that are read where they are kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use coordinator::record::{busy_key, id_in};
use coordinator::{Coordinator, Work};
use store::View;
use telemetry::metrics::{Counter, Histogram, Kind, Metrics, Sample};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use world::{Mono, World};

/// A request that takes longer is dropped. Whoever asks is on this machine.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(2);
/// Requests at a time: one that says nothing must not keep out the others.
const REQUESTS_MAX: usize = 64;
/// Wait before the next accept when the last one failed.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Serves `metrics` on `listen`, which must be loopback: they are not protected. Returns the address really bound.
pub async fn serve(world: &World, metrics: &Metrics, listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    if !listen.ip().is_loopback() {
        bail!("metrics are served on loopback only, not on {listen}: --metrics-listen 127.0.0.1:PORT");
    }
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot serve metrics on {listen} (--metrics-listen 127.0.0.1:PORT chooses another port)")
    })?;
    let address = listener.local_addr()?;
    let (metrics, own) = (metrics.clone(), world.clone());
    world.spawn("metrics", async move {
        let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&requests).acquire_owned().await else { return };
            let Ok((socket, _)) = listener.accept().await else {
                own.sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (metrics, task) = (metrics.clone(), own.clone());
            own.spawn("metrics request", async move {
                let answered = task.timeout(WAIT_MAX, answer(socket, &metrics)).await;
                if !matches!(answered, Ok(Ok(()))) {
                    tracing::debug!("a reader of metrics went away");
                }
                drop(permit);
            });
        }
    });
    Ok(address)
}

/// One request a connection: whatever is asked, the answer is all metrics.
async fn answer(mut socket: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let _length = socket.read(&mut head).await?;
    let body = metrics.render();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}

/// Counts what the store writes.
pub struct StoreWrites {
    world: World,
    begun: Mono,
    commits: Counter,
    bytes: Counter,
    groups: Histogram,
    seconds: Histogram,
}

impl StoreWrites {
    /// Counts in `metrics`.
    pub fn new(world: &World, metrics: &Metrics) -> StoreWrites {
        StoreWrites {
            world: world.clone(),
            begun: world.now(),
            commits: metrics.counter("mainstay_store_commits_total", &[], "Transactions committed."),
            bytes: metrics.counter("mainstay_store_bytes_total", &[], "Bytes of keys and values written."),
            groups: metrics.sizes("mainstay_store_group_commits", &[], "Transactions that shared one sync."),
            seconds: metrics.histogram("mainstay_store_sync_seconds", &[], "Groups written and synced."),
        }
    }
}

impl store_embedded::Observer for StoreWrites {
    fn begins(&mut self) {
        self.begun = self.world.now();
    }

    fn ended(&mut self, commits: usize, bytes: usize) {
        self.seconds.record(&[], self.world.now().since(self.begun));
        self.groups.size(&[], commits as u64);
        self.commits.add(&[], commits as u64);
        self.bytes.add(&[], bytes as u64);
    }
}

/// The revision that the process's view shows: two processes that differ for long do not follow the store.
pub fn count_view(metrics: &Metrics, view: &Arc<View>) {
    let view = Arc::clone(view);
    let help = "The store's revision that this process's view shows.";
    metrics.read("mainstay_view_revision", Kind::Gauge, &[], help, move || {
        vec![(Vec::new(), view.revision().as_u64() as f64)]
    });
}

/// Works in flight, by workflow and by how they fare.
pub fn count_works(metrics: &Metrics, view: &Arc<View>, coordinator: &Arc<Coordinator>) {
    let (view, coordinator) = (Arc::clone(view), Arc::clone(coordinator));
    metrics.read("mainstay_works", Kind::Gauge, &["kind", "state"], "Works in flight.", move || {
        let works = view.peek(|reader| {
            let works = reader.all::<Work>().filter_map(Result::ok).map(|(work, _)| {
                let runs = reader.entry(&busy_key(&work.subject)).and_then(id_in) == Some(work.id);
                (work.id, work.kind, runs)
            });
            works.collect::<Vec<_>>()
        });
        let mut counts: BTreeMap<(String, &str), u32> = BTreeMap::new();
        for (id, kind, runs) in works {
            let attempt = coordinator.attempt(id).unwrap_or_default();
            let state = match (runs, attempt.failures > 0, attempt.undoing) {
                (false, _, _) => "waiting",
                (true, true, _) => "failing",
                (true, false, true) => "undoing",
                (true, false, false) => "running",
            };
            *counts.entry((kind, state)).or_default() += 1;
        }
        counts.into_iter().map(|((kind, state), count)| (vec![kind, state.to_owned()], f64::from(count))).collect()
    });
}

type Amount = fn(world::Tally) -> f64;

/// What the logs of an agent process have written.
pub fn count_logs(metrics: &Metrics, world: &World) {
    let numbers: [(&str, &str, Amount); 4] = [
        ("mainstay_log_appends_total", "Appends to the agent's log.", |tally| tally.appends as f64),
        ("mainstay_log_syncs_total", "Syncs that these appends shared.", |tally| tally.syncs as f64),
        ("mainstay_log_bytes_total", "Bytes written to the agent's log.", |tally| tally.bytes as f64),
        ("mainstay_log_busy_seconds_total", "Time spent writing and syncing it.", |tally| tally.spent.as_secs_f64()),
    ];
    for (name, help, number) in numbers {
        let disk = world.disk();
        let read = move || -> Vec<Sample> { vec![(Vec::new(), number(disk.tally()))] };
        metrics.read(name, Kind::Counter, &[], help, read);
    }
}
