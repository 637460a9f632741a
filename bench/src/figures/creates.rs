//! Servers created to ACTIVE and durable, by many clients at a time: how many, at which cost, and that none is lost.
//!
//! Clients post as fast as they are answered. The time runs until the last acknowledged server is ACTIVE, as the list of
//! the API says, so accepting more than is built gains nothing. Quota, capacity and addresses are really claimed. In the
//! end all daemons are killed at once and started again, and the list must hold the very same servers, all ACTIVE.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;

use crate::Settings;
use crate::api::Admin;
use crate::cell::{Cell, Plan};
use crate::load::{self, Load};
use crate::probe::{self, Used};
use crate::stats::quantile;
use crate::syncs::Syncs;
use crate::table::{Aim, Row};

/// Before anything is measured: connections, caches and the first pages of every file are made.
const WARM_UP: Duration = Duration::from_secs(1);
/// What is acknowledged must be ACTIVE within this time after the last request.
const DRAINS_WITHIN: Duration = Duration::from_secs(600);
/// While it drains, the list is asked for at most this share of the time: it takes processors from the work.
const ASKING_SHARE: u32 = 10;
/// The slices in which it is told whether the pace holds, in seconds.
const SLICE_S: f64 = 10.0;

/// Everything that is counted, at one moment.
struct Counts {
    control: Used,
    agents: Used,
    own_cpu_ms: f64,
    busy_ms: f64,
    lo: u64,
    https: u64,
    log_bytes: u64,
    store_bytes: u64,
    syncs: Option<(u64, u64)>,
}

/// The tracing of syncs by the control process and by the agents.
type Tracing = Option<(Syncs, Syncs)>;

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let mut cell = Cell::settled(settings, Plan::fake(settings.nodes)).await?;
    let rows = within(&mut cell, settings).await?;
    cell.end().await?;
    Ok(rows)
}

async fn within(cell: &mut Cell, settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let mut admin = Admin::of(cell).await?;
    admin.lift_quotas().await?;
    let network = admin.large_network().await?;
    let body = admin.server(&network);
    let mut connections = load::connect(&admin.endpoint, Some(&admin.token), settings.clients).await?;
    let (_, mut acknowledged) = load::create(&mut connections, WARM_UP, &body).await?;
    drain(&mut admin).await?;

    let tracing = Syncs::of(cell.control()?).zip(cell.agents().first().and_then(|pid| Syncs::of(*pid)));
    let before = counts(cell, &admin, &tracing)?;
    let begun = Instant::now();
    let span = Duration::from_secs(settings.seconds);
    let (load, created) = load::create(&mut connections, span, &body).await?;
    let sent = counts(cell, &admin, &tracing)?;
    drain(&mut admin).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = counts(cell, &admin, &tracing)?;
    drop((tracing, connections));

    acknowledged.extend(created);
    let acknowledged: BTreeSet<String> = acknowledged.into_iter().collect();
    let memory = cell.memory()?;
    let again = survive(cell, &mut admin, &acknowledged).await?;

    let mut rows = pace(&load, seconds, settings);
    rows.push(others(&before, &after, seconds)?);
    rows.extend(cost(load.took_ms.len() as f64, &before, &sent, &after));
    let all = acknowledged.len();
    rows.push(Row::new("memory of all daemons then", memory as f64 / 1e6, "MB").against(format!("PSS, {all} servers")));
    rows.push(
        Row::new("acknowledged servers lost by kill -9 of all daemons", 0.0, "").aim(Aim::AtMost(0.0)).against(
            format!("{all} listed before and after, all ACTIVE; ready again after {:.2} s", again.as_secs_f64()),
        ),
    );
    Ok(rows)
}

/// Waits until nothing is being built any more; fails if anything could not be.
async fn drain(admin: &mut Admin) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        if !admin.any("BUILD").await? {
            break;
        }
        if begun.elapsed() > DRAINS_WITHIN {
            bail!("servers are still being built {} s after the last request", DRAINS_WITHIN.as_secs());
        }
        tokio::time::sleep((asked.elapsed() * ASKING_SHARE).max(Duration::from_millis(2))).await;
    }
    if admin.any("ERROR").await? {
        bail!("a server failed: {}", admin.fault().await?);
    }
    Ok(())
}

fn counts(cell: &Cell, admin: &Admin, tracing: &Tracing) -> anyhow::Result<Counts> {
    let (control, agents) = cell.used()?;
    Ok(Counts {
        control,
        agents,
        own_cpu_ms: probe::used(std::process::id())?.cpu_ms,
        busy_ms: probe::busy_ms()?,
        lo: probe::lo_bytes()?,
        https: admin.endpoint.traffic(),
        log_bytes: probe::size(&cell.home().join("agents")),
        store_bytes: probe::size(&cell.home().join("store")),
        syncs: tracing.as_ref().map(|(control, agents)| (control.count(), agents.count())),
    })
}

fn pace(load: &Load, seconds: f64, settings: &Settings) -> Vec<Row> {
    let count = load.took_ms.len() as f64;
    let mut took = load.took_ms.clone();
    let slice = SLICE_S.min(load.seconds / 2.0);
    let first = load.rate_between(0.0, slice);
    let last = load.rate_between(load.seconds - slice, load.seconds);
    let how = format!(
        "{} clients for {} s, {} fake nodes, {count} servers; accepted {:.0}/s (first {slice:.0} s {first:.0}/s, last \
         {last:.0}/s), the last one ACTIVE {:.1} s after the last request",
        settings.clients,
        settings.seconds,
        settings.nodes,
        load.rate(),
        seconds - load.seconds,
    );
    vec![
        Row::new("servers created to ACTIVE", count / seconds, "/s").aim(Aim::AtLeast(1000.0)).against(how),
        Row::new("POST /servers, p50", quantile(&mut took, 0.5), "ms"),
        Row::new("POST /servers, p99", quantile(&mut took, 0.99), "ms").aim(Aim::AtMost(100.0)),
    ]
}

/// How much of the machine was not ours: a figure that was taken beside a compiler is one of both.
fn others(before: &Counts, after: &Counts, seconds: f64) -> anyhow::Result<Row> {
    let ours = after.control.since(before.control).cpu_ms + after.agents.since(before.agents).cpu_ms;
    let ours = ours + after.own_cpu_ms - before.own_cpu_ms;
    let processors = std::thread::available_parallelism()?.get() as f64;
    let all_ms = seconds * 1000.0 * processors;
    let share = (after.busy_ms - before.busy_ms - ours).max(0.0) / all_ms;
    let how = format!("of {processors} processors; the cell and its load took {:.0} %", 100.0 * ours / all_ms);
    Ok(Row::new("taken by other programs meanwhile", 100.0 * share, "%").against(how))
}

fn cost(count: f64, before: &Counts, sent: &Counts, after: &Counts) -> Vec<Row> {
    let (control, agents) = (after.control.since(before.control), after.agents.since(before.agents));
    let each = |what: &str, amount: f64, unit, how: &str| {
        Row::new(format!("per create: {what}"), amount / count, unit).against(how)
    };
    let lo = (after.lo - before.lo) as f64;
    let https = (sent.https - before.https) as f64;
    let mut rows = vec![
        each("CPU of the control process", control.cpu_ms, "ms", "user and system, /proc/PID/stat"),
        each("CPU of the agents", agents.cpu_ms, "ms", "one process for all fake nodes"),
        each("CPU of the load generator", sent.own_cpu_ms - before.own_cpu_ms, "ms", "TLS and HTTP of the clients"),
        each("bytes on the network", lo, "B", "all of `lo`, headers included: HTTPS, and RPC with the agents"),
        each("of these HTTPS", https, "B", "TLS records of the load, without TCP"),
        each("store bytes", control.written_bytes as f64, "B", "write_bytes of the control process"),
        each("growth of the store's files", after.store_bytes as f64 - before.store_bytes as f64, "B", ""),
        each("agents' bytes", agents.written_bytes as f64, "B", "write_bytes: log, and the fake guests' file"),
        each("growth of the agents' files", after.log_bytes as f64 - before.log_bytes as f64, "B", ""),
    ];
    match (before.syncs, after.syncs) {
        (Some(before), Some(after)) => {
            let how = "fsync and its kin, counted by tracepoints";
            rows.push(each("syncs of the store", (after.0 - before.0) as f64, "", how));
            rows.push(each("syncs of the agents", (after.1 - before.1) as f64, "", how));
        }
        _ => eprintln!("    syncs are not counted: that takes root and tracefs"),
    }
    rows
}

/// Kills everything, starts again, and compares what is there with what was acknowledged. The time to `ready`.
async fn survive(cell: &mut Cell, admin: &mut Admin, acknowledged: &BTreeSet<String>) -> anyhow::Result<Duration> {
    same(admin, acknowledged).await.context("before the kill")?;
    cell.kill().await?;
    let ready = cell.start().await?;
    *admin = Admin::of(cell).await?;
    drain(admin).await?;
    same(admin, acknowledged).await.context("after the kill")?;
    cell.nodes_up().await?;
    Ok(ready)
}

async fn same(admin: &mut Admin, acknowledged: &BTreeSet<String>) -> anyhow::Result<()> {
    let listed: BTreeSet<String> = admin.servers("ACTIVE").await?.into_iter().collect();
    let (lost, extra) = (acknowledged.difference(&listed), listed.difference(acknowledged));
    let (lost, extra): (Vec<_>, Vec<_>) = (lost.collect(), extra.collect());
    if let Some(one) = lost.first() {
        bail!("{} of {} acknowledged servers are not ACTIVE, the first is {one}", lost.len(), acknowledged.len());
    }
    if let Some(one) = extra.first() {
        bail!("{} servers are there that nobody asked for, the first is {one}", extra.len());
    }
    Ok(())
}

/// Creates servers until a cell has `count` of them, all ACTIVE; for figures that need a cell with many.
pub async fn fill(admin: &mut Admin, connections: usize, body: &Bytes, count: usize) -> anyhow::Result<Vec<String>> {
    let mut connections = load::connect(&admin.endpoint, Some(&admin.token), connections).await?;
    let ids = load::create_many(&mut connections, count, body).await?;
    drain(admin).await?;
    Ok(ids)
}
