//! What goes wrong, and when: drawn from the seed.

use std::sync::Arc;
use std::time::Duration;

use driver::StopCause;
use driver_fake::{Fault as DriverFault, Operation};
use store::conformance::Fault as StoreFault;

use super::{Storm, dice};
use crate::cell::Who;
use crate::disk::DiskFault;
use crate::net::faults::Quirk;
use crate::rng::Rng;
use crate::store::unsure::Doubt;

/// Operations of the driver that are made to fail.
const OPERATIONS: [Operation; 8] = [
    Operation::Find,
    Operation::Network,
    Operation::Prepare,
    Operation::Start,
    Operation::Stop,
    Operation::Pause,
    Operation::Absent,
    Operation::Export,
];
/// How long a killed process stays away, in microseconds: from the least to the most.
const AWAY_US: (u64, u64) = (1_000, 800_000);
/// How long messages stand still.
const STALL_US: (u64, u64) = (100_000, 8_000_000);
/// How long a process is held, or a way is cut: mostly shorter than keepalives, and now and then longer than any timeout.
const HELD_US: (u64, u64) = (50_000, 12_000_000);
const HELD_LONG_US: (u64, u64) = (60_000_000, 1_200_000_000);
/// How long after its name was taken over a stale process is ended by hand.
const STALE_US: (u64, u64) = (10_000_000, 60_000_000);
/// How much later a message comes that was kept on its way.
const LATE_US: (u64, u64) = (1_000, 20_000_000);
/// The same for what must do no harm however late it comes: days.
const VERY_LATE_US: (u64, u64) = (1_000, 3 * 24 * 3600 * 1_000_000);
/// How long a disk is slow.
const SLOW_US: (u64, u64) = (100_000, 5_000_000);
/// How far wall clocks are off.
const SKEW_US: i64 = 2 * 3600 * 1_000_000;

/// Does harm until the storm is over.
pub(super) async fn run(storm: Arc<Storm>) {
    let mut rng = dice(&storm.cell, "faults");
    let control = storm.cell.size.control.processes();
    let agents: Vec<Who> = (0..storm.cell.size.agents).map(Who::Agent).collect();
    loop {
        let pause = rng.span_nanos(5_000, 1_200_000) * storm.stretch;
        storm.cell.exec.sleep(storm.cell.outside_process, pause).await;
        if storm.is_over() {
            return;
        }
        let among = if rng.chance(1, 2) { &control } else { &agents };
        let who = *rng.pick(among);
        match rng.below(100) {
            0..40 => kill(&storm, &mut rng, who),
            40..44 => boot(&storm, &mut rng, agents.len()),
            44..53 => pause_one(&storm, &mut rng, who),
            53..58 => store(&storm, &mut rng),
            58..64 => doubt(&storm, &mut rng),
            64..70 => stall(&storm, &mut rng),
            70..75 => cut(&storm, &mut rng),
            75..83 => quirk(&storm, &mut rng),
            83..90 => driver(&storm, &mut rng),
            90..94 => disk(&storm, &mut rng, agents.len()),
            94..96 => skew(&storm, &mut rng),
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

fn held(rng: &mut Rng) -> u64 {
    let (least, most) = if rng.chance(1, 6) { HELD_LONG_US } else { HELD_US };
    rng.span_nanos(least, most)
}

/// Holds a process; now and then its name is given to another meanwhile, and it comes back as a stale owner.
fn pause_one(storm: &Arc<Storm>, rng: &mut Rng, who: Who) {
    let span = held(rng);
    if !storm.cell.pause(who, span) {
        return;
    }
    storm.count(|counts| counts.pauses += 1);
    if rng.chance(1, 2) && storm.cell.replace(who) {
        storm.count(|counts| counts.replaced += 1);
        let (cell, stale) = (Arc::clone(&storm.cell), rng.span_nanos(STALE_US.0, STALE_US.1));
        storm.cell.outside.spawn("end the stale", async move {
            cell.outside.sleep(Duration::from_nanos(span.saturating_add(stale))).await;
            cell.end_strays();
        });
    }
}

fn note(storm: &Storm, whom: &str, what: &str) {
    storm.count(|counts| counts.faults += 1);
    storm.cell.exec.note(whom, "fault", what);
}

fn store(storm: &Storm, rng: &mut Rng) {
    let disk = &storm.cell.store;
    match rng.below(8) {
        0..3 => {
            note(storm, "store", "the next write is refused");
            disk.fail_next(StoreFault::Refused);
        }
        3..6 => {
            note(storm, "store", "the next write fails, and nobody knows how much of it is there");
            disk.fail_next(StoreFault::Unknown);
        }
        6 => {
            note(storm, "store", "the disk cannot be read when it is opened next");
            disk.unreadable_next();
        }
        _ => {
            note(storm, "store", "the disk is slow");
            disk.slow_until(storm.cell.exec.now() + rng.span_nanos(SLOW_US.0, SLOW_US.1));
        }
    }
}

fn doubt(storm: &Storm, rng: &mut Rng) {
    let doubt = match rng.below(3) {
        0 => Doubt::Happened,
        1 => Doubt::Lost,
        _ => Doubt::Late(rng.span_nanos(LATE_US.0, LATE_US.1)),
    };
    note(storm, "store", &format!("of the next commit nobody hears: {doubt:?}"));
    storm.cell.doubts.next(doubt);
}

fn stall(storm: &Storm, rng: &mut Rng) {
    let name = rng.pick(&storm.cell.names()).clone();
    let span = rng.span_nanos(STALL_US.0, STALL_US.1);
    note(storm, &name, &format!("messages stand still for {} ms", span / 1_000_000));
    storm.cell.net.stall(&name, span);
}

fn cut(storm: &Storm, rng: &mut Rng) {
    let names = storm.cell.names();
    let (from, to) = (rng.pick(&names).clone(), rng.pick(&names).clone());
    let (span, both) = (held(rng), rng.chance(1, 2));
    let arrow = if both { "<->" } else { "->" };
    note(storm, &from, &format!("nothing gets through {arrow} {to} for {} ms", span / 1_000_000));
    storm.cell.net.cut(&from, &to, span);
    if both {
        storm.cell.net.cut(&to, &from, span);
    }
}

fn quirk(storm: &Storm, rng: &mut Rng) {
    let to = rng.pick(&storm.cell.names()).clone();
    // A commit that comes late is a commit: it must come before the end of the run, to be accounted for.
    let is_node = storm.cell.nodes().contains(&to);
    let (least, most) = if is_node { VERY_LATE_US } else { LATE_US };
    let late = rng.span_nanos(least, most);
    let quirk = match rng.below(4) {
        0 => Quirk::LoseRequest,
        1 => Quirk::LoseAnswer,
        2 => Quirk::Late(late),
        _ => Quirk::Again(rng.span_nanos(VERY_LATE_US.0, VERY_LATE_US.1)),
    };
    note(storm, &to, &format!("the next call to it: {quirk:?}"));
    storm.cell.net.quirk(&to, quirk);
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
    let number = rng.index(agents);
    let (disk, whom) = (storm.cell.disk(number), Who::Agent(number).to_string());
    match rng.below(6) {
        0 | 1 => {
            note(storm, &whom, "no space for the next append");
            disk.fail_next(DiskFault::Full);
        }
        2 => {
            note(storm, &whom, "the next append fails");
            disk.fail_next(DiskFault::Failed);
        }
        3 => {
            note(storm, &whom, "the log cannot be read when it is opened next");
            disk.fail_next(DiskFault::Unreadable);
        }
        4 => {
            let fault = if rng.chance(1, 2) { DiskFault::Full } else { DiskFault::Failed };
            note(storm, "images", &format!("the next change of the directory of images: {fault:?}"));
            storm.cell.blobs.fail_next(fault);
        }
        _ => {
            note(storm, &whom, "the disk is slow");
            disk.slow_until(storm.cell.exec.now() + rng.span_nanos(SLOW_US.0, SLOW_US.1));
        }
    }
}

fn skew(storm: &Storm, rng: &mut Rng) {
    let names: Vec<String> = storm.cell.everybody().iter().map(Who::to_string).collect();
    let name = rng.pick(&names).clone();
    let most = u64::try_from(2 * SKEW_US).unwrap_or(0);
    let micros = i64::try_from(rng.below(most)).unwrap_or(0) - SKEW_US;
    note(storm, &name, &format!("the wall clock jumps to {micros} us off"));
    storm.cell.exec.skew_wall(&name, micros);
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
