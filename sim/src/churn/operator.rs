//! The operator of the cell: now and then lets the project have more servers, or fewer than it has.
//!
//! Clients create meanwhile, so that a limit changes under requests that have read the old one. A value is never one that
//! may hold already: so a change that is accepted has written, and what was asked before it and never answered cannot
//! come true any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use servers::AcceptError;

use super::{Storm, client, dice};
use crate::cell::{Answer, INSTANCES, PROJECT};
use crate::rng::Rng;

/// Between two changes, in microseconds: from the least to the most.
const PAUSE_US: (u64, u64) = (200_000, 3_000_000);
/// The least that is allowed: less than there mostly are.
const LEAST: u64 = 2;
/// The most.
const MOST: u64 = INSTANCES + 4;

/// Changes limits until the storm is over.
pub(super) async fn run(storm: Arc<Storm>) {
    let mut rng = dice(&storm.cell, "operator");
    loop {
        let pause = rng.span_nanos(PAUSE_US.0, PAUSE_US.1) * storm.stretch;
        storm.cell.exec.sleep(storm.cell.outside_process, pause).await;
        if storm.is_over() {
            return;
        }
        change(&storm, &mut rng).await;
    }
}

async fn change(storm: &Storm, rng: &mut Rng) {
    let exec = &storm.cell.exec;
    let held = storm.counted.lock().limits_between(exec.now(), exec.now());
    let fresh: Vec<u64> = (LEAST..=MOST).filter(|limit| !held.contains(limit)).collect();
    if fresh.is_empty() {
        // So much was asked for in vain that any of them may come true yet.
        return;
    }
    let limit = *rng.pick(&fresh);
    let number = storm.counted.lock().limiting(limit, exec.now());
    let request = client::request_id(rng);
    let limits = BTreeMap::from([("instances".to_owned(), limit.cast_signed())]);
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move {
                control.servers.set_limits(&client::cx(&control, &request), PROJECT, &limits, true).await
            })
        })
        .await;
    let mut counted = storm.counted.lock();
    let told = match answer {
        Answer::Told(Ok(())) => {
            counted.limited(number, exec.now());
            "accepted".to_owned()
        }
        Answer::Down => {
            counted.not_limited(number);
            "down".to_owned()
        }
        Answer::Broken => "broken".to_owned(),
        Answer::Told(Err(AcceptError::Busy(reason))) => reason,
        Answer::Told(Err(error)) => {
            counted.not_limited(number);
            storm.complain(format!("a limit of {limit} servers was refused without reason: {error}"));
            return;
        }
    };
    exec.note("operator", "limit", &format!("{limit} servers: {told}"));
}
