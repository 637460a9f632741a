//! Who is there: told from outside, of real processes that are killed, stopped, cut off, renamed and restarted.

mod agents;
mod bootstrap;
mod cut_off;
mod garbage;
mod instances;
mod names_taken;
mod planned_stop;

use std::time::Duration;

use cell_tests::{Cell, Watcher, until};
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(30);

/// What operators are shown of `node`.
fn node(cell: &Cell, node: &str) -> Value {
    let nodes = cell.try_operator(&["node", "list"]).unwrap_or_default();
    nodes.as_array().into_iter().flatten().find(|one| one["name"] == node).cloned().unwrap_or_default()
}

/// Waits until operators are shown `node` with this status, and returns all that they are shown.
#[track_caller]
fn becomes(cell: &Cell, name: &str, status: &str) -> Value {
    until(&format!("{name} is {status}"), WITHIN, || match node(cell, name) {
        found if found["status"] == status => Ok(found),
        found => Err(found.to_string()),
    })
}

/// Waits until each of `all` is alive for a watcher.
#[track_caller]
fn all_alive(watcher: &Watcher, all: &[&str]) {
    until("all are alive", WITHIN, || {
        let missing: Vec<&&str> = all.iter().filter(|who| watcher.status(who) != "alive").collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}; {:?}", watcher.ended())) }
    });
}

/// What was ever said of anybody but `but` that is not that it is alive.
fn doubts(watcher: &Watcher, but: &[&str]) -> Vec<String> {
    let doubts = watcher.events().into_iter().filter(|event| event.status != "alive" && !but.contains(&&*event.who));
    doubts.map(|event| format!("{event:?}")).collect()
}
