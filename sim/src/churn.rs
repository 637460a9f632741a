//! The scenario `churn`: servers come, go, start and stop, and their project's limit is moved, while processes die and
//! disks, networks and drivers fail.
//!
//! Then everything is healed and nothing more is asked for: within bounded simulated time all work must have ended, and
//! the [`invariants`] must hold. After that the cell is left alone, and must not write.

pub(crate) mod client;
mod faults;
mod operator;
mod oracle;
mod strangers;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use store::engine::Engine;
use store::memory::Nowhere;
use store::{KeyRange, Record, View};

use crate::cell::{Cell, INSTANCES, Who, indexes};
use crate::invariants::{self, Files, Scene};
use crate::linear::quota::Counted;
use crate::linear::servers::Histories;
use crate::rng::Rng;

pub use oracle::{Asked, Oracle};

/// Clients that ask side by side.
const CLIENTS: usize = 4;
/// How long clients ask and faults happen.
const STORM: Duration = Duration::from_secs(15);
/// Within this all work must have ended after the last fault: longer than any budget of a work.
const HEALING_MAX: Duration = Duration::from_secs(1800);
/// Between two looks whether it has.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Reports of nodes that are still on their way have arrived by then.
const SETTLING: Duration = Duration::from_secs(30);
/// Afterwards nothing may be written for this long: longer than any message was kept on its way.
const IDLE: Duration = Duration::from_secs(4 * 24 * 3600);
/// One storm in so many is slow: what takes long comes to its end within it.
const SLOW_STORMS: u64 = 4;
/// How many times slower it is.
const STRETCH: u64 = 120;

/// What a run was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were accepted.
    pub accepted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests whose outcome nobody knows.
    pub unknown: u64,
    /// Processes killed.
    pub kills: u64,
    /// Processes held.
    pub pauses: u64,
    /// Processes whose names others took over meanwhile.
    pub replaced: u64,
    /// Other faults.
    pub faults: u64,
    /// Simulated seconds until all work had ended after the storm.
    pub healing: u64,
    /// Simulated seconds until then from the start: after that nothing happens. `None`: that never was.
    pub healed_at: Option<u64>,
    /// Commits.
    pub commits: u64,
}

/// What the tasks of the scenario share.
pub(crate) struct Storm {
    pub(crate) cell: Arc<Cell>,
    pub(crate) oracle: Mutex<Oracle>,
    /// What clients saw of each server, and when.
    pub(crate) histories: Mutex<Histories>,
    /// What they saw of their project's quota.
    pub(crate) counted: Mutex<Counted>,
    pub(crate) counts: Mutex<Counts>,
    pub(crate) over: Mutex<bool>,
    /// How many times longer all pauses are.
    pub(crate) stretch: u64,
}

impl Storm {
    pub(crate) fn is_over(&self) -> bool {
        *self.over.lock()
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
    }

    pub(crate) fn complain(&self, text: String) {
        self.cell.exec.note("oracle", "WRONG", &text);
        self.oracle.lock().complaints.push(text);
    }
}

/// Runs the scenario to its end; returns what was wrong.
pub async fn run(cell: Arc<Cell>, mut exited: tokio::sync::mpsc::UnboundedReceiver<Who>) -> (Vec<String>, Counts) {
    let world = cell.outside.clone();
    let storm = Arc::new(Storm {
        cell: Arc::clone(&cell),
        oracle: Mutex::default(),
        histories: Mutex::default(),
        counted: Mutex::new(Counted::new(INSTANCES)),
        counts: Mutex::default(),
        over: Mutex::new(false),
        stretch: if cell.exec.seed() % SLOW_STORMS == SLOW_STORMS - 1 { STRETCH } else { 1 },
    });
    cell.everybody().into_iter().for_each(|who| cell.start(who));
    let keeper = Arc::clone(&cell);
    world.spawn("keeper", async move {
        while let Some(who) = exited.recv().await {
            keeper.kill(who);
            keeper.outside.sleep(Duration::from_millis(100)).await;
            keeper.start(who);
        }
    });
    for number in 0..CLIENTS {
        world.spawn("client", client::run(Arc::clone(&storm), number));
    }
    world.spawn("operator", operator::run(Arc::clone(&storm)));
    world.spawn("strangers", strangers::run(Arc::clone(&storm)));
    world.spawn("faults", faults::run(Arc::clone(&storm)));
    world.sleep(STORM * u32::try_from(storm.stretch).unwrap_or(1)).await;
    *storm.over.lock() = true;
    // Clients finish what they have asked; their requests are bounded by their deadlines.
    world.sleep(client::DEADLINE).await;
    cell.heal();
    cell.exec.note("scenario", "heal", "no more faults");
    cell.everybody().into_iter().for_each(|who| cell.start(who));

    let healed = heal(&storm).await;
    let scene_complaints = judge_storm(&storm, false).await;
    let is_healed = healed.is_none();
    storm.oracle.lock().complaints.extend(healed);
    storm.oracle.lock().complaints.extend(scene_complaints);
    if !is_healed {
        // Days of a cell that cannot come to rest would only repeat it.
        let complaints = storm.oracle.lock().complaints.clone();
        let counts = *storm.counts.lock();
        return (complaints, counts);
    }
    let before = cell.store.revision();
    world.sleep(IDLE).await;
    let after = cell.store.revision();
    if before != after {
        let text = format!("an idle cell wrote {} commits in {IDLE:?}", after.as_u64() - before.as_u64());
        storm.complain(text);
    }
    // What was kept on its way until now has arrived, and must have changed nothing.
    let mut late_complaints = judge_storm(&storm, false).await;
    // Nor does anything stay that the next start promises to settle.
    cell.restart();
    late_complaints.extend(heal(&storm).await);
    late_complaints.extend(judge_storm(&storm, true).await);
    storm.oracle.lock().complaints.extend(late_complaints.into_iter().map(|text| format!("days later: {text}")));
    storm.count(|counts| counts.commits = after.as_u64());
    let complaints = storm.oracle.lock().complaints.clone();
    let counts = *storm.counts.lock();
    (complaints, counts)
}

/// Waits until nothing is left to do; says what is if that takes too long.
async fn heal(storm: &Storm) -> Option<String> {
    let cell = &storm.cell;
    let start = cell.outside.now();
    loop {
        let left = left(cell);
        if left.is_empty() {
            let took = cell.outside.now().since(start);
            let at = cell.exec.now() / 1_000_000_000;
            // Of the storm, not of the restart at the end.
            storm.count(|counts| {
                if counts.healed_at.is_none() {
                    (counts.healing, counts.healed_at) = (took.as_secs(), Some(at));
                }
            });
            cell.exec.note("scenario", "healed", &format!("after {} s", took.as_secs()));
            cell.outside.sleep(SETTLING).await;
            return None;
        }
        if cell.outside.now().since(start) > HEALING_MAX {
            return Some(format!("{HEALING_MAX:?} after the last fault this is left to do: {}", left.join("; ")));
        }
        cell.outside.sleep(LOOK_PAUSE).await;
    }
}

pub(crate) fn left(cell: &Cell) -> Vec<String> {
    let page = cell.store.durable().range(&KeyRange::prefix(coordinator::record::PREFIX.as_bytes()), usize::MAX);
    let mut left = Vec::new();
    for (key, entry) in &page.entries {
        match coordinator::Work::decode_entry(entry) {
            Ok((work, _)) if key.to_text().starts_with(coordinator::Work::TABLE) => {
                left.push(format!(
                    "{} of {} (epoch {}, abort {:?})",
                    work.kind,
                    work.subject,
                    work.epoch.as_u64(),
                    work.abort
                ));
            }
            Ok(_) | Err(_) => left.push(key.to_string()),
        }
    }
    let running = cell.running_nodes();
    for name in cell.nodes() {
        match running.get(&name) {
            None => left.push(format!("{name} does not run")),
            Some(node) if !node.is_idle() => left.push(format!("{name} is busy")),
            Some(_) => {}
        }
    }
    left.extend(cell.absent());
    left
}

/// Holds the invariants against what is durable, read by somebody who had no part in it.
///
/// `restarted`: everybody has been started since anything was asked for.
pub(crate) async fn judge(cell: &Cell, oracle: &Mutex<Oracle>, restarted: bool) -> Vec<String> {
    let (engine, _no_commits) = Engine::new(cell.store.durable(), Nowhere);
    let view = match View::open(&cell.outside, Arc::new(engine), indexes()).await {
        Ok(view) => view,
        Err(error) => return vec![format!("the store cannot be read at the end: {error}")],
    };
    let files = Files { images: cell.blobs.content().await, exports: cell.scratch.names(), restarted };
    let oracle = oracle.lock();
    view.peek(|reader| match Scene::new(reader, &cell.machine, cell.nodes(), &oracle, files) {
        Ok(scene) => invariants::check(&scene),
        Err(error) => vec![format!("a record cannot be read at the end: {error}")],
    })
}

/// The same for a whole storm; and what clients were told is held against what one cell would have told them.
async fn judge_storm(storm: &Storm, restarted: bool) -> Vec<String> {
    let mut complaints = judge(&storm.cell, &storm.oracle, restarted).await;
    complaints.extend(storm.histories.lock().complaints());
    complaints.extend(storm.counted.lock().complaints());
    complaints
}

/// A stream of dice for one part of the scenario.
pub(crate) fn dice(cell: &Cell, part: &str) -> Rng {
    Rng::new(cell.exec.seed(), &format!("churn {part}"))
}
