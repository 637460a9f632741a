//! Commits to the embedded store beside bare SQLite with group commit: the same bytes, the same sync mode.
//!
//! Ours decides more: preconditions, a bounded add that all commits share, revisions; and a watch is told of each.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use bytes::Bytes;
use futures_util::future::try_join_all;
use store::{Key, KeyRange, Revision, Store, Txn};

use crate::Settings;
use crate::peers::sqlite::Sqlite;
use crate::stats::median;
use crate::table::{Aim, Row};

const COMMITTERS: usize = 64;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(600);
/// About the size of a server's record.
const VALUE_BYTES: usize = 600;
const WATCH_WITHIN: Duration = Duration::from_secs(10);
/// A record that every commit needs to be as it was, as the record of a quota is.
const LIMIT: &str = "limit";
const COUNTER: &str = "counter";

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(&settings.dir)?;
        of_ours.push(ours(&dir.path().join("ours.db")).await?);
        of_bare.push(bare(&dir.path().join("bare.db")).await?);
    }
    let how = format!(
        "bare SQLite with group commit: {COMMITTERS} committers, {VALUE_BYTES} B, log with full sync, {ROUNDS} rounds in \
         turns; ours with two preconditions, one bounded add and a live watch"
    );
    Ok(vec![
        Row::new("store commits", median(&of_ours), "/s").aim(Aim::OfPeer(0.8)).peer(&of_ours, &of_bare).against(how),
    ])
}

/// Commits in a second.
async fn rate<F>(commit: F) -> anyhow::Result<f64>
where
    F: AsyncFn(u64, Bytes) -> anyhow::Result<()>,
{
    let (begun, next) = (Instant::now(), Cell::new(0u64));
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let one = async |_| -> anyhow::Result<()> {
        while begun.elapsed() < ROUND {
            next.set(next.get() + 1);
            commit(next.get(), value.clone()).await?;
        }
        Ok(())
    };
    try_join_all((0..COMMITTERS).map(one)).await?;
    Ok(next.get() as f64 / begun.elapsed().as_secs_f64())
}

/// Keys in no order, as those of servers are.
fn key(number: u64) -> String {
    format!("bench/{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

async fn ours(path: &Path) -> anyhow::Result<f64> {
    let engine = store_embedded::open(path, |reason| eprintln!("the store broke: {reason}"))?;
    let mut limit = Txn::new();
    limit.create(Key::from(LIMIT), Bytes::from_static(b"1000000000"));
    let limit = engine.commit(limit).await?;
    let watcher = watch(&engine).await?;
    let commit = async |number, value: Bytes| {
        let mut txn = Txn::new();
        txn.unchanged(Key::from(LIMIT), limit);
        txn.create(Key::from(key(number)), value);
        txn.add(Key::from(COUNTER), 1, Some(1_000_000_000));
        engine.commit(txn).await.map(drop).map_err(|error| anyhow!("{error}"))
    };
    let rate = rate(commit).await?;
    // The watch was alive: it comes to a last commit.
    watcher.until.send_replace(engine.head().await?.next());
    let mut last = Txn::new();
    last.remove(Key::from(LIMIT), limit);
    engine.commit(last).await?;
    let seen = tokio::time::timeout(WATCH_WITHIN, watcher.task).await???;
    engine.close().await;
    if seen == 0 {
        bail!("the watch saw nothing");
    }
    Ok(rate)
}

/// A watch that is read as fast as it tells.
struct Watcher {
    task: tokio::task::JoinHandle<anyhow::Result<u64>>,
    until: tokio::sync::watch::Sender<Revision>,
}

async fn watch(engine: &store::engine::Engine) -> anyhow::Result<Watcher> {
    let mut watch = engine.watch(&KeyRange::all(), engine.head().await?).await?;
    let (until, told) = tokio::sync::watch::channel(Revision::from_u64(u64::MAX));
    let task = tokio::task::spawn_local(async move {
        let mut events = 0;
        loop {
            let batches = watch.next().await?;
            events += batches.iter().map(|batch| batch.events.len() as u64).sum::<u64>();
            let last = batches.last().map_or(Revision::ZERO, |batch: &Arc<_>| batch.revision);
            if last >= *told.borrow() {
                return Ok(events);
            }
        }
    });
    Ok(Watcher { task, until })
}

async fn bare(path: &Path) -> anyhow::Result<f64> {
    let sqlite = Sqlite::create(path)?;
    rate(async |number, value| sqlite.commit(Bytes::from(key(number)), value).await).await
}
