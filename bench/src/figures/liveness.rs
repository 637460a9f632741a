//! A thousand real sessions: how soon others hear of what happened to one, and what it costs when nothing does.
//!
//! Each fake node has a session, a certificate and a connection of its own, a few processes hold them all. This process
//! is the subscriber that hears of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use cell_tests::{Cut, Event, Island, Watcher};

use crate::Settings;
use crate::cell::{self, Cell, Plan};
use crate::fleet::Fleet;
use crate::probe;
use crate::stats::quantile;
use crate::table::{Aim, Row};

const SESSIONS: usize = 1000;
/// Processes that are killed, by how many sessions they hold.
const KILLED: [usize; 4] = [1, 10, 100, 300];
/// Sessions on the host whose link is cut.
const FAR: usize = 100;
const ROUNDS: usize = 3;
const CHANGES: usize = 5;
const SETTLED: Duration = Duration::from_secs(10);
const WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The cell, and who watches it.
struct Stage {
    cell: Cell,
    fleet: Fleet,
    island: Island,
    watcher: Watcher,
    live_at: String,
    groups: BTreeMap<String, Vec<String>>,
}

impl Stage {
    async fn set(settings: &Settings) -> anyhow::Result<Stage> {
        let island = Island::new();
        let (mut cell, _) = Cell::new(settings, Plan::fake(1)).await?;
        cell.kill().await?;
        let near = island.near();
        let live_at = format!("{near}:{}", cell::free_address()?.port());
        let mut fleet = Fleet::new(&settings.binary, cell.home(), &live_at);
        let listen = cell.address().to_string();
        fleet.serve("live", "liveness", &["--rpc-listen", &live_at]).await?;
        let rest = ["--rpc-listen", &format!("{near}:0"), "--listen", &listen];
        fleet.serve("main", "store,api,coordinator,scheduler", &rest).await?;
        let watcher = Watcher::new(cell.home(), &live_at);

        let mut groups = BTreeMap::new();
        let mut names = (1..=SESSIONS).map(|number| format!("node-{number}"));
        let mut group = |name: String, many: usize| groups.insert(name, names.by_ref().take(many).collect::<Vec<_>>());
        for many in KILLED {
            group(format!("of-{many}"), many);
        }
        group("far".into(), FAR);
        group("rest".into(), SESSIONS);
        let mut stage = Stage { cell, fleet, island, watcher, live_at, groups };
        for name in stage.groups.keys().cloned().collect::<Vec<_>>() {
            stage.start(&name).await?;
        }
        Ok(stage)
    }

    async fn start(&mut self, group: &str) -> anyhow::Result<()> {
        let on = (group == "far").then_some(&self.island);
        let at = if on.is_some() { self.island.far() } else { self.island.near() };
        let nodes = self.groups[group].clone();
        self.fleet.agents(group, &nodes, &at, on).await?;
        self.all(&nodes, "alive").await
    }

    fn everybody(&self) -> Vec<String> {
        self.groups.values().flatten().cloned().collect()
    }

    /// Waits until this is said of all these nodes.
    async fn all(&self, nodes: &[String], status: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let now = self.watcher.now();
            let are = |node: &&String| now.get(&format!("agent/{node}")).is_some_and(|event| event.status == status);
            let missing = nodes.iter().filter(|node| !are(node)).count();
            if missing == 0 {
                return Ok(());
            }
            if begun.elapsed() > WITHIN {
                bail!("{missing} of {} are not {status}; {:?}", nodes.len(), self.watcher.ended());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How long after `since` each of `nodes` was first said to be one of `wanted`, in milliseconds.
    fn heard(&self, since: Instant, nodes: &[String], wanted: impl Fn(&Event) -> bool) -> Vec<f64> {
        let mut first: BTreeMap<String, f64> = BTreeMap::new();
        for event in self.watcher.events().into_iter().filter(|event| event.at >= since && wanted(event)) {
            let ms = event.at.duration_since(since).as_secs_f64() * 1e3;
            first.entry(event.who).or_insert(ms);
        }
        nodes.iter().filter_map(|node| first.get(&format!("agent/{node}")).copied()).collect()
    }

    /// How many others than `nodes` were doubted since then.
    fn doubted(&self, since: Instant, nodes: &[String]) -> usize {
        let own = |event: &Event| nodes.iter().any(|node| event.who == format!("agent/{node}"));
        let events = self.watcher.events();
        events.iter().filter(|event| event.at >= since && event.status != "alive" && !own(event)).count()
    }
}

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let mut stage = Stage::set(settings).await?;
    let mut rows = quiet(&stage, settings.quiet_seconds).await?;
    rows.extend(killed(&mut stage).await?);
    rows.extend(cut(&stage).await?);
    rows.extend(changed(&stage).await?);
    rows.extend(restarted(&mut stage).await?);
    let Stage { cell, fleet, .. } = stage;
    drop(fleet);
    cell.end().await?;
    Ok(rows)
}

fn ms(what: &str, values: &mut [f64], aim: f64, how: String) -> [Row; 2] {
    [0.5, 0.99].map(|q| {
        let name = if q < 0.9 { "p50" } else { "p99" };
        Row::new(format!("{what}, {name}"), quantile(values, q), "ms").aim(Aim::AtMost(aim)).against(how.clone())
    })
}

async fn killed(stage: &mut Stage) -> anyhow::Result<Vec<Row>> {
    let (mut suspected, mut dead, mut others) = (Vec::new(), Vec::new(), 0);
    let mut by_size: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for many in KILLED {
            let group = format!("of-{many}");
            let nodes = stage.groups[&group].clone();
            let since = stage.fleet.kill(&group);
            stage.all(&nodes, "dead").await?;
            let heard = stage.heard(since, &nodes, |event| event.status != "alive");
            by_size.entry(many).or_default().extend(&heard);
            suspected.extend(heard);
            dead.extend(stage.heard(since, &nodes, |event| event.status == "dead"));
            others += stage.doubted(since, &nodes);
            stage.start(&group).await?;
        }
    }
    let sizes = by_size.into_iter().map(|(many, mut took)| format!("{many}: {:.0}", quantile(&mut took, 0.99)));
    let how = format!(
        "{} ends in {} kills; p99 to suspected by sessions of the process: {} ms; others doubted meanwhile: {others}",
        dead.len(),
        ROUNDS * KILLED.len(),
        sizes.collect::<Vec<_>>().join(", ")
    );
    let mut rows = ms("kill -9 to suspected", &mut suspected, 100.0, how.clone()).to_vec();
    let [half, most] = ms("kill -9 to dead", &mut dead, 0.0, how);
    rows.extend([half, most].map(|row| row.aim(Aim::Stated)));
    Ok(rows)
}

async fn cut(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let (mut unreachable, mut back, mut others, mut dead) = (Vec::new(), Vec::new(), 0, 0);
    let nodes = stage.groups["far"].clone();
    for _ in 0..ROUNDS {
        let since = Instant::now();
        stage.island.cut(Cut::Both);
        stage.all(&nodes, "unreachable").await?;
        unreachable.extend(stage.heard(since, &nodes, |event| event.status == "unreachable"));
        others += stage.doubted(since, &nodes);
        let since = Instant::now();
        stage.island.heal();
        stage.all(&nodes, "alive").await?;
        back.extend(stage.heard(since, &nodes, |event| event.status == "alive"));
        dead += stage.heard(since, &nodes, |event| event.status == "dead").len();
        tokio::time::sleep(SETTLED).await;
    }
    let how = format!("{FAR} sessions, {ROUNDS} cuts; others doubted meanwhile: {others}; seen dead: {dead}");
    let mut rows = ms("cut link to unreachable", &mut unreachable, 2000.0, how.clone()).to_vec();
    rows.push(Row::new("healed link to alive, p99", quantile(&mut back, 0.99), "ms").against(how));
    Ok(rows)
}

async fn quiet(stage: &Stage, seconds: u64) -> anyhow::Result<Vec<Row>> {
    tokio::time::sleep(SETTLED).await;
    let sample = || -> anyhow::Result<_> {
        let all = stage.fleet.used_by_others(&[])?.written_bytes;
        let (live, main) = (stage.fleet.used("live")?, stage.fleet.used("main")?);
        Ok((live, main, stage.fleet.used_by_others(&["live", "main"])?, all, probe::carried()?))
    };
    let (live, main, agents, written, (bytes, packets)) = sample()?;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let span = begun.elapsed().as_secs_f64();
    let (live_after, main_after, agents_after, written_after, (bytes_after, packets_after)) = sample()?;
    let share = |ms: f64| ms / 10.0 / span;
    let how = format!("{SESSIONS} sessions, {span:.0} s in which nothing happens");
    let rate = |after: u64, before: u64| (after - before) as f64 / span;
    Ok(vec![
        Row::new("written to disk when nothing happens", (written_after - written) as f64, "B")
            .aim(Aim::AtMost(0.0))
            .against(format!("{how}, write_bytes of all daemons")),
        Row::new("CPU of the liveness process", share(live_after.since(live).cpu_ms), "%").against(how.clone()),
        Row::new("CPU of the other control process", share(main_after.since(main).cpu_ms), "%").against(how.clone()),
        Row::new("CPU of the agents", share(agents_after.since(agents).cpu_ms), "%").against(how.clone()),
        Row::new("packets on the wire", rate(packets_after, packets), "/s")
            .against(format!("{how}, probes and their answers, all interfaces")),
        Row::new("bytes on the wire", rate(bytes_after, bytes), "B/s").against(how),
    ])
}

async fn changed(stage: &Stage) -> anyhow::Result<Vec<Row>> {
    let nodes = stage.everybody();
    let (mut answered, mut asked) = (Vec::new(), Vec::new());
    for number in 0..CHANGES {
        let value = (10 + number).to_string();
        let begun = Instant::now();
        let set = stage.cell.operator(&["config", "set", "coordinator.works_max", &value]).await?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let revision = set["revision"].as_u64().unwrap_or_default();
        let waited = Instant::now();
        let heard = loop {
            let heard = stage.heard(begun, &nodes, |event| event.config >= revision);
            if heard.len() == nodes.len() {
                break heard;
            }
            if waited.elapsed() > WITHIN {
                bail!("{} of {} sessions run the change", heard.len(), nodes.len());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        answered.extend(heard.iter().map(|ms| (ms - took).max(0.0)));
        asked.extend(heard);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let how = format!(
        "{CHANGES} changes, {} sessions tell that they run it; from the start of the operator's command p99 {:.0} ms",
        nodes.len(),
        quantile(&mut asked, 0.99)
    );
    Ok(ms("configuration set to running", &mut answered, 200.0, how).to_vec())
}

async fn restarted(stage: &mut Stage) -> anyhow::Result<Vec<Row>> {
    let nodes = stage.everybody();
    let before = stage.watcher.now();
    let since = stage.fleet.kill("live");
    let at = stage.live_at.clone();
    stage.fleet.serve("live", "liveness", &["--rpc-listen", &at]).await?;
    let ready = since.elapsed().as_secs_f64() * 1e3;
    stage.watcher = Watcher::new(stage.cell.home(), &at);
    stage.all(&nodes, "alive").await?;
    let mut heard = stage.heard(since, &nodes, |event| event.status == "alive");
    let now = stage.watcher.now();
    let same = |node: &&String| {
        let who = format!("agent/{node}");
        now.get(&who).map(|event| event.session) == before.get(&who).map(|event| event.session)
    };
    let anew = nodes.iter().filter(|node| !same(node)).count();
    let doubted = stage.doubted(since, &[]);
    let how = format!(
        "kill -9 and start of the only instance, ready after {ready:.0} ms; seen other than alive: {doubted}; sessions begun \
         anew: {anew}"
    );
    Ok(vec![
        Row::new("instance restarted, half are back", quantile(&mut heard, 0.5), "ms").against(how.clone()),
        Row::new("instance restarted, all are back", quantile(&mut heard, 1.0), "ms").against(how),
    ])
}
