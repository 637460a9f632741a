//! A cell with a thousand nodes in which nothing happens: what its daemons write to disk, and what they compute.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::Settings;
use crate::cell::{Cell, Plan};
use crate::table::{Aim, Row};

const NODES: usize = 1000;
/// Without a byte for so long the cell counts as settled.
const SETTLED: Duration = Duration::from_secs(5);
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let (mut cell, ready) = Cell::new(settings, Plan::fake(NODES)).await?;
    let begun = Instant::now();
    cell.nodes_up().await?;
    let up = ready + begun.elapsed();
    settle(&cell).await?;
    let (control, agents) = cell.used()?;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(settings.idle_seconds)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let (control_after, agents_after) = cell.used()?;
    let (control, agents) = (control_after.since(control), agents_after.since(agents));
    let memory = cell.memory()?;
    cell.end().await?;
    let written = control.written_bytes + agents.written_bytes;
    let share = |ms: f64| ms / 10.0 / seconds;
    let how =
        format!("{NODES} fake nodes, {seconds:.0} s, write_bytes of all daemons; up after {:.1} s", up.as_secs_f64());
    Ok(vec![
        Row::new("bytes written by an idle cell", written as f64, "B").aim(Aim::AtMost(0.0)).against(how),
        Row::new("CPU of an idle cell, control", share(control.cpu_ms), "%").against("of one processor"),
        Row::new("CPU of an idle cell, agents", share(agents.cpu_ms), "%").against("of one processor"),
        Row::new("memory of an idle cell", memory as f64 / 1e6, "MB").against(format!("PSS, {NODES} fake nodes")),
    ])
}

async fn settle(cell: &Cell) -> anyhow::Result<()> {
    let begun = Instant::now();
    let written = || cell.used().map(|(control, agents)| (control.written_bytes, agents.written_bytes));
    let mut last = written()?;
    loop {
        tokio::time::sleep(SETTLED).await;
        let now = written()?;
        if now == last {
            return Ok(());
        }
        if begun.elapsed() > SETTLES_WITHIN {
            bail!("the cell writes on and on: {last:?} bytes, then {now:?}");
        }
        last = now;
    }
}
