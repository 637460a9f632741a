//! One run of a script, with the harm that a plan orders.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Script;
use crate::cell::{Cell, Shape, Size, Who};
use crate::churn::{self, Oracle};
use crate::exec::points::{Boundary, Failure, Hook};
use crate::exec::{Exec, Limits, Process};
use crate::run::text_of;

/// One node on each of two machines; each control role has a process of its own, so that every hop is a boundary.
const SIZE: Size = Size { control: Shape::Apart { apis: 1, coordinators: 1, instances: 1 }, agents: 2, nodes: 1 };
/// What a run may take.
const LIMITS: Limits = Limits { steps: 2_000_000, nanos: 6 * 3600 * 1_000_000_000 };
/// How long a killed process stays away.
const AWAY: Duration = Duration::from_millis(300);
/// How long a process is held: longer than any timeout and any budget of a work.
const HELD_NANOS: u64 = 1_200_000_000_000;
/// Within this all work must have ended.
const ENDS_WITHIN: Duration = Duration::from_secs(2 * 3600);
/// Between two looks whether it has: often at first, so that a recovery's time is known, and then less so.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_LATER: Duration = Duration::from_secs(1);
const LOOKS_SOON: u32 = 200;
/// Reports that are still on their way have arrived by then, and ends that only keepalives find out are found out.
const SETTLING: Duration = Duration::from_secs(30);

/// What is done to a process that comes to a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It is killed, and started again a moment later.
    Crash,
    /// It is held for longer than any timeout; if another of its name can be, one is started meanwhile.
    Pause,
    /// The effect fails, and so do the next ones at the same place, so many times in all.
    Fail(Failure, u32),
}

/// A harm and the number of the boundary where it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The number.
    pub at: usize,
    /// What is done.
    pub harm: Harm,
}

impl std::fmt::Display for Strike {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.harm {
            Harm::Crash => write!(f, "{}:crash", self.at),
            Harm::Pause => write!(f, "{}:pause", self.at),
            Harm::Fail(failure, times) => {
                write!(f, "{}:{}:{times}", self.at, failure.name().replace(", ", "-").replace(' ', "-"))
            }
        }
    }
}

impl std::str::FromStr for Strike {
    type Err = String;

    fn from_str(text: &str) -> Result<Strike, String> {
        let unknown = || format!("{text:?} is not NUMBER:crash, NUMBER:pause or NUMBER:FAILURE:TIMES");
        let mut parts = text.split(':');
        let at = parts.next().and_then(|at| at.parse().ok()).ok_or_else(unknown)?;
        let failure = |name: &str| match name {
            "refused" => Some(Failure::Refused),
            "not-done" => Some(Failure::NotDone),
            "done-not-said" => Some(Failure::DoneAndNotSaid),
            _ => None,
        };
        let harm = match (parts.next().ok_or_else(unknown)?, parts.next()) {
            ("crash", None) => Harm::Crash,
            ("pause", None) => Harm::Pause,
            (name, Some(times)) => {
                Harm::Fail(failure(name).ok_or_else(unknown)?, times.parse().map_err(|_| unknown())?)
            }
            _ => return Err(unknown()),
        };
        Ok(Strike { at, harm })
    }
}

/// A boundary that a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Whose it is.
    pub who: Who,
    /// Which side of which effect.
    pub boundary: Boundary,
    /// What the effect is about.
    pub detail: String,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// The boundaries, in order.
    pub points: Vec<Point>,
    /// Whether each strike was made.
    pub struck: bool,
    /// Work that did not end.
    pub stuck: Vec<String>,
    /// What was wrong otherwise.
    pub complaints: Vec<String>,
    /// Effects from the last strike to the end of all work.
    pub recovery_effects: usize,
    /// Simulated nanoseconds from the last strike (a pause: from its end) to the end of all work.
    pub recovery_nanos: u64,
    /// Kinds of work that ran.
    pub kinds: BTreeSet<String>,
    /// Steps that were undone, as kind and step.
    pub undone: BTreeSet<(String, usize)>,
    /// The event log.
    pub lines: Vec<String>,
}

#[derive(Default)]
struct Seen {
    points: Vec<Point>,
    plan: Vec<Strike>,
    failing: Option<(Point, Failure, u32)>,
    /// When the last strike was made, and at which boundary.
    last: (u64, usize),
}

/// Runs `script` with the harm that `plan` orders, by rising numbers.
pub fn run(script: Script, seed: u64, plan: &[Strike]) -> Trial {
    run_among(script, 0, seed, plan)
}

/// The same in a cell that has so many other servers.
pub fn run_among(script: Script, others: usize, seed: u64, plan: &[Strike]) -> Trial {
    let exec = Exec::new(seed, false);
    let (cell, exited) = Cell::new(&exec, SIZE);
    let seen = Arc::new(Mutex::new(Seen { plan: plan.to_vec(), ..Seen::default() }));
    let oracle = Arc::new(Mutex::new(Oracle::default()));
    let scene = play(script, others, Arc::clone(&cell), exited, Arc::clone(&seen), oracle, plan.is_empty());
    let played = catch_unwind(AssertUnwindSafe(|| exec.block_on(cell.outside_process, LIMITS, scene)));
    let mut trial = match played {
        Ok(Ok(trial)) => trial,
        Ok(Err(stuck)) => Trial { stuck: vec![stuck.to_string()], ..Trial::default() },
        Err(panic) => Trial { complaints: vec![format!("a task panicked: {}", text_of(&*panic))], ..Trial::default() },
    };
    let seen = std::mem::take(&mut *seen.lock());
    trial.recovery_effects = seen.points.len().saturating_sub(seen.last.1);
    trial.struck = seen.plan.is_empty();
    trial.points = seen.points;
    let works = cell.store.works();
    (trial.kinds, trial.undone) = (works.kinds(), works.undone);
    trial.complaints.extend(cell.noticed());
    trial.lines = exec.lines();
    exec.end();
    trial
}

async fn play(
    script: Script,
    others: usize,
    cell: Arc<Cell>,
    mut exited: tokio::sync::mpsc::UnboundedReceiver<Who>,
    seen: Arc<Mutex<Seen>>,
    oracle: Arc<Mutex<Oracle>>,
    unharmed: bool,
) -> Trial {
    let world = cell.outside.clone();
    cell.everybody().into_iter().for_each(|who| cell.start(who));
    let keeper = Arc::clone(&cell);
    world.spawn("keeper", async move {
        while let Some(who) = exited.recv().await {
            keeper.kill(who);
            keeper.outside.sleep(AWAY).await;
            keeper.start(who);
        }
    });
    if let Err(left) = ends(&cell).await {
        return Trial { stuck: left, ..Trial::default() };
    }
    script.prepare(&cell, others, &oracle).await;
    if let Err(left) = ends(&cell).await {
        return Trial { stuck: left, ..Trial::default() };
    }
    world.sleep(SETTLING).await;

    cell.exec.note("sweep", "begin", script.name());
    cell.exec.set_hook(Some(hook(&cell, &seen)));
    script.act(&cell, &oracle).await;
    let ended = ends(&cell).await;
    cell.exec.set_hook(None);
    let now = cell.exec.now();
    let mut trial = Trial { recovery_nanos: now.saturating_sub(seen.lock().last.0), ..Trial::default() };
    cell.exec.note("sweep", "ended", "");
    trial.stuck = ended.err().unwrap_or_default();
    cell.heal();
    world.sleep(SETTLING).await;
    trial.complaints = churn::judge(&cell, &oracle, false).await;
    // What only the next start settles is settled.
    cell.restart();
    trial.stuck.extend(ends(&cell).await.err().unwrap_or_default());
    trial.complaints.extend(churn::judge(&cell, &oracle, true).await);
    if unharmed {
        trial.complaints.extend(script.missed(&cell));
    }
    trial
}

/// Waits until nothing is left to do; what is, if that takes too long.
pub(super) async fn ends(cell: &Cell) -> Result<(), Vec<String>> {
    let start = cell.outside.now();
    let mut looks = 0;
    loop {
        let left = churn::left(cell);
        if left.is_empty() {
            return Ok(());
        }
        if cell.outside.now().since(start) > ENDS_WITHIN {
            return Err(left);
        }
        looks += 1;
        cell.outside.sleep(if looks < LOOKS_SOON { LOOK } else { LOOK_LATER }).await;
    }
}

fn hook(cell: &Arc<Cell>, seen: &Arc<Mutex<Seen>>) -> Hook {
    let (cell, seen) = (Arc::clone(cell), Arc::clone(seen));
    Arc::new(move |process, boundary, detail| {
        let who = cell.who(process)?;
        let strike = {
            let seen = &mut *seen.lock();
            let point = Point { who, boundary, detail: detail.to_owned() };
            let number = seen.points.len();
            cell.exec.note(&who.to_string(), "boundary", &format!("{number}: {} {detail}", boundary.name()));
            let strike = seen.plan.first().copied().filter(|strike| strike.at == number);
            if let Some(strike) = strike {
                seen.plan.remove(0);
                let end = if strike.harm == Harm::Pause { HELD_NANOS } else { 0 };
                seen.last = (cell.exec.now() + end, number + 1);
                if let Harm::Fail(failure, times) = strike.harm {
                    seen.failing = Some((point.clone(), failure, times));
                }
            }
            let fails = seen.failing.as_mut().filter(|(place, _, times)| *place == point && *times > 0);
            let failure = fails.map(|(_, failure, times)| {
                *times -= 1;
                *failure
            });
            seen.points.push(point);
            if let Some(failure) = failure {
                cell.exec.note(&who.to_string(), "fault", failure.name());
                return Some(failure);
            }
            strike?
        };
        strike_at(&cell, who, process, strike.harm);
        None
    })
}

fn strike_at(cell: &Arc<Cell>, who: Who, process: Process, harm: Harm) {
    match harm {
        Harm::Crash => {
            cell.kill_process(process);
            let again = Arc::clone(cell);
            cell.outside.spawn("restart", async move {
                again.outside.sleep(AWAY).await;
                again.start(who);
            });
        }
        Harm::Pause => {
            if cell.pause(who, HELD_NANOS) {
                cell.replace(who);
            }
        }
        Harm::Fail(..) => {}
    }
}
