//! From exec to `ready`, and memory: of new cells, and of a cell with many servers.

use std::time::Duration;

use super::creates::fill;
use crate::Settings;
use crate::api::Admin;
use crate::cell::{Cell, Plan};
use crate::stats::median;
use crate::table::{Aim, Row};

const NEW_CELLS: usize = 5;
const STARTS: usize = 5;
const CLIENTS: usize = 16;
/// Memory is looked at when this has passed without a request.
const REST: Duration = Duration::from_secs(3);

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let plan = Plan::fake(settings.nodes);
    let mut new_s = Vec::new();
    for _ in 0..NEW_CELLS {
        let (cell, took) = Cell::new(settings, plan).await?;
        new_s.push(took.as_secs_f64());
        cell.end().await?;
    }
    let mut cell = Cell::settled(settings, plan).await?;
    tokio::time::sleep(REST).await;
    let idle = cell.memory()?;

    let mut admin = Admin::of(&cell).await?;
    admin.lift_quotas().await?;
    let network = admin.large_network().await?;
    let body = admin.server(&network);
    fill(&mut admin, CLIENTS, &body, settings.servers).await?;
    drop(admin);
    tokio::time::sleep(REST).await;
    let full = cell.memory()?;
    let mut ready_s = Vec::new();
    for _ in 0..STARTS {
        cell.kill().await?;
        ready_s.push(cell.start().await?.as_secs_f64());
        cell.nodes_up().await?;
    }
    tokio::time::sleep(REST).await;
    let again = cell.memory()?;
    cell.end().await?;
    let servers = settings.servers;
    let nodes = format!("PSS of control and agent process, {} fake nodes", settings.nodes);
    Ok(vec![
        Row::new("exec to ready, new cell", median(&new_s), "s")
            .aim(Aim::AtMost(2.0))
            .against(format!("median of {NEW_CELLS}, {} fake nodes", settings.nodes)),
        Row::new(format!("exec to ready, {servers} servers"), median(&ready_s), "s")
            .aim(Aim::AtMost(1.0))
            .against(format!("median of {STARTS}, each after kill -9 of all daemons")),
        Row::new("memory of all daemons, idle", megabytes(idle), "MB").aim(Aim::AtMost(100.0)).against(nodes.clone()),
        Row::new(format!("memory of all daemons, {servers} servers"), megabytes(full), "MB")
            .aim(Aim::AtMost(250.0))
            .against(format!("{nodes}, after they were created")),
        Row::new("the same after a restart", megabytes(again), "MB").aim(Aim::AtMost(250.0)),
    ])
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
