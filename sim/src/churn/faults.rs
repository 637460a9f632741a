//! What goes wrong, and when: drawn from the seed.

use std::sync::Arc;
use std::time::Duration;

use driver::StopCause;
use driver_fake::{Fault as DriverFault, Operation};
use store::conformance::Fault as StoreFault;

use super::{Storm, dice};
use crate::cell::{CONTROL, Who};
use crate::rng::Rng;

/// Operations of the driver that are made to fail.
const OPERATIONS: [Operation; 7] = [
    Operation::Find,
    Operation::Network,
    Operation::Prepare,
    Operation::Start,
    Operation::Stop,
    Operation::Pause,
    Operation::Absent,
];
/// How long a killed process stays away, in microseconds: from the least to the most.
const AWAY_US: (u64, u64) = (1_000, 800_000);
/// How long messages stand still.
const STALL_US: (u64, u64) = (100_000, 8_000_000);

/// Does harm until the storm is over.
pub(super) async fn run(storm: Arc<Storm>) {
    let mut rng = dice(&storm.cell, "faults");
    let agents = storm.cell.everybody().len() - 1;
    loop {
        let pause = rng.span_nanos(5_000, 1_200_000);
        storm.cell.exec.sleep(storm.cell.outside_process, pause).await;
        if storm.is_over() {
            return;
        }
        match rng.below(100) {
            0..30 => kill(&storm, &mut rng, Who::Control),
            30..60 => {
                let agent = Who::Agent(rng.index(agents));
                kill(&storm, &mut rng, agent);
            }
            60..65 => boot(&storm, &mut rng, agents),
            65..70 => store(&storm, &mut rng),
            70..80 => stall(&storm, &mut rng),
            80..90 => driver(&storm, &mut rng),
            90..93 => disk(&storm, &mut rng, agents),
            _ => end_guest(&storm, &mut rng),
        }
    }
}

fn kill(storm: &Arc<Storm>, rng: &mut Rng, who: Who) {
    if storm.cell.kill(who) {
        storm.count(|counts| counts.kills += 1);
        start_later(storm, rng, who);
    }
}

fn start_later(storm: &Arc<Storm>, rng: &mut Rng, who: Who) {
    let (cell, span) = (Arc::clone(&storm.cell), rng.span_nanos(AWAY_US.0, AWAY_US.1));
    storm.cell.outside.spawn("restart", async move {
        cell.outside.sleep(Duration::from_nanos(span)).await;
        cell.start(who);
    });
}

fn boot(storm: &Arc<Storm>, rng: &mut Rng, agents: usize) {
    let number = rng.index(agents);
    storm.cell.boot(number);
    storm.count(|counts| counts.kills += 1);
    start_later(storm, rng, Who::Agent(number));
}

fn note(storm: &Storm, whom: &str, what: &str) {
    storm.count(|counts| counts.faults += 1);
    storm.cell.exec.note(whom, "fault", what);
}

fn store(storm: &Storm, rng: &mut Rng) {
    let fault = if rng.chance(1, 2) { StoreFault::Refused } else { StoreFault::Unknown };
    note(storm, "store", &format!("the next write: {fault:?}"));
    storm.cell.store.fail_next(fault);
}

fn stall(storm: &Storm, rng: &mut Rng) {
    let mut names = storm.cell.nodes();
    names.push(CONTROL.into());
    let name = rng.pick(&names).clone();
    let span = rng.span_nanos(STALL_US.0, STALL_US.1);
    note(storm, &name, &format!("messages stand still for {} ms", span / 1_000_000));
    storm.cell.net.stall(&name, span);
}

fn driver(storm: &Storm, rng: &mut Rng) {
    let operation = *rng.pick(&OPERATIONS);
    let reason = "simulated".to_owned();
    let (fault, times) = match rng.below(3) {
        0 => (DriverFault::Failed(reason), 1 + rng.index(3)),
        // Once: a stop or a pause that is done and said to have failed until the node gives up is not found out by it.
        1 => (DriverFault::DoneButFailed(reason), 1),
        _ => (DriverFault::Refused(reason), 1 + rng.index(3)),
    };
    note(storm, "machine", &format!("{operation:?} × {times}: {fault:?}"));
    storm.cell.machine.faults(|faults| faults.fail(operation, fault, times));
}

fn disk(storm: &Storm, rng: &mut Rng, agents: usize) {
    let (number, full) = (rng.index(agents), rng.chance(1, 2));
    note(
        storm,
        &Who::Agent(number).to_string(),
        if full { "no space for the next append" } else { "the next append fails" },
    );
    storm.cell.disk(number).fail_next(full);
}

fn end_guest(storm: &Storm, rng: &mut Rng) {
    let node = rng.pick(&storm.cell.nodes()).clone();
    let guests: Vec<_> = storm.cell.machine.guests(&node).into_keys().collect();
    if guests.is_empty() {
        return;
    }
    let guest = *rng.pick(&guests);
    let cause = if rng.chance(1, 2) { StopCause::PoweredOff } else { StopCause::Died("simulated".into()) };
    if storm.cell.machine.end(&node, guest, cause) {
        note(storm, &node, &format!("guest {guest} ends by itself"));
    }
}
