//! The storm: a cell under load is harmed in every way that this machine allows, healed, and looked at.
//!
//! [`plan`] draws from a seed what is done to whom; [`house`] does it to real processes, while [`load`] has tenants that
//! remember what they were told; [`verdict`] then holds the cell to that. Everything is written into a [`diary`], and what
//! was done is counted in a [`Tally`]. The same seed is the same plan, not the same moments.
//!
//! Deliberately absent: a bound on how fast anything is. A storm on a busy machine takes longer and means the same.

mod diary;
mod house;
mod load;
mod plan;
mod tally;
mod verdict;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub use plan::Layout;
pub use tally::Tally;

use crate::{Dice, pause, until};
use diary::Diary;
use house::House;
use load::{Load, Tenant};
use plan::Fault;

/// Steps that a storm must have interrupted, each: of what is not interrupted nothing is known.
const STEPS: [&str; 5] = ["claim manifest", "build on node", "hand over", "destroy on node", "return claims"];
/// Of real guests it is what takes its time on the node; the rest is the same code.
const STEPS_OF_GUESTS: [&str; 2] = ["build on node", "destroy on node"];
/// Where some step was not interrupted by the plan, there are more kills, up to so many.
const MORE_KILLS_MAX: usize = 60;
/// Between two faults at least so many requests are accepted: a cell that does not serve is not harmed further.
const ACCEPTED_BETWEEN: usize = 30;
/// The same with real guests, each of which takes a while.
const ACCEPTED_BETWEEN_OF_GUESTS: usize = 6;
/// Longer than every pause and every attempt that a harmed cell makes before it serves again.
const SERVES_AGAIN_WITHIN: Duration = Duration::from_secs(120);
/// Whoever rests looks so often whether the storm goes on.
const LOOKS_AROUND: Duration = Duration::from_millis(100);
/// A fault strikes within so many milliseconds, drawn from these: what it interrupts takes from some to hundreds.
const STRIKES_WITHIN_MS: [usize; 3] = [50, 200, 600];

/// What storm it shall be.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Which processes the cell is made of.
    pub layout: Layout,
    /// Where its plan comes from.
    pub seed: u64,
    /// How long it goes on; `None`: until the short plan is done.
    pub span: Option<Duration>,
}

/// Somebody does not want to see the end.
static BROKEN_OFF: AtomicBool = AtomicBool::new(false);

/// Ends the storm that runs as soon as it can: as a failure, and with nothing left behind.
pub fn break_off() {
    BROKEN_OFF.store(true, Ordering::Relaxed);
}

/// Panics if the storm was broken off.
fn goes_on() {
    assert!(!BROKEN_OFF.load(Ordering::Relaxed), "the storm was broken off");
}

/// A [`pause`] that ends where the storm does.
fn rest(span: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < span {
        goes_on();
        pause(LOOKS_AROUND.min(span.saturating_sub(begun.elapsed())));
    }
}

/// A seed that is another one each time.
pub fn any_seed() -> u64 {
    u64::from(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_micros()))
}

/// Runs a storm and returns what was done.
///
/// # Panics
/// If anything of what was acknowledged is not so, or anything is left that should not be. The last events are printed,
/// and the cell's directory is kept.
pub fn run(storm: &Storm) -> Tally {
    let diary = Diary::new();
    diary.note("storm", &format!("{} with seed {}", storm.layout.name(), storm.seed));
    let mut house = House::build(storm.layout, &diary);
    let ended = catch_unwind(AssertUnwindSafe(|| rage(storm, &mut house, &diary)));
    ended.unwrap_or_else(|panic| {
        if BROKEN_OFF.load(Ordering::Relaxed) {
            resume_unwind(panic);
        }
        let kept = house.cell.keep();
        eprintln!("--- the storm failed; its last events:\n{}", diary.last());
        eprintln!("--- logs, store and nodes are kept in {}", kept.display());
        eprintln!("--- again: cargo xtask chaos --driver {} --seed {}", storm.layout.driver(), storm.seed);
        resume_unwind(panic)
    })
}

fn rage(storm: &Storm, house: &mut House<'_>, diary: &Diary) -> Tally {
    let begun = Instant::now();
    let mut dice = Dice::new(storm.seed);
    let tenants = house.tenants();
    let before = house.at_rest();
    let load = Load::new(diary);
    let mut tally = Tally::default();
    let (between, steps): (usize, &[&str]) = match storm.layout {
        Layout::Guests => (ACCEPTED_BETWEEN_OF_GUESTS, &STEPS_OF_GUESTS),
        Layout::Together => (ACCEPTED_BETWEEN, &STEPS),
        // The store runs on while others are killed, and cannot be read: what they interrupted is not known.
        Layout::Apart => (ACCEPTED_BETWEEN, &[]),
    };
    std::thread::scope(|scope| {
        // Whatever happens here, the tenants come to an end.
        let _over = load.until_dropped();
        for (number, tenant) in tenants.iter().enumerate() {
            let (seed, load) = (storm.seed ^ (number as u64 + 1), &load);
            scope.spawn(move || load.churn(tenant, Dice::new(seed)));
        }
        let (seed, load, admin, all) = (storm.seed, &load, house.admin.clone(), &tenants);
        scope.spawn(move || load.change_quotas(&admin, all, Dice::new(seed)));

        let mut moment = Dice::new(storm.seed.wrapping_add(1));
        let mut strike = |fault: Fault, tally: &mut Tally| {
            serves(load, between);
            let within = STRIKES_WITHIN_MS[moment.below(STRIKES_WITHIN_MS.len())];
            rest(Duration::from_millis(moment.below(within) as u64));
            house.strike(fault, tally);
            house.guests_are_single();
        };
        match storm.span {
            None => plan::short(storm.layout, &mut dice).into_iter().for_each(|fault| strike(fault, &mut tally)),
            Some(span) => {
                while begun.elapsed() < span {
                    for fault in plan::round(storm.layout, &mut dice, span) {
                        strike(fault, &mut tally);
                        if begun.elapsed() >= span {
                            break;
                        }
                    }
                }
            }
        }
        let mut more = 0;
        while more < MORE_KILLS_MAX && !missed(&tally, steps).is_empty() {
            more += 1;
            strike(plan::kill(storm.layout, &mut dice), &mut tally);
        }
        serves(load, between);
    });
    diary.note("storm", "over; nothing is harmed any more");
    let missed = missed(&tally, steps);
    assert!(missed.is_empty(), "no kill interrupted {missed:?}: nothing is known of these");
    tally.requests = load.requests();
    tally.found = verdict::hold(house, &tenants, diary);
    verdict::leave_nothing(house, &tenants, &before, diary);
    tally.took = begun.elapsed();
    tally
}

/// Waits until so many more requests have been accepted, or a tenant has complained.
fn serves(load: &Load<'_>, between: usize) {
    let from = load.accepted.load(Ordering::Relaxed);
    until("the cell serves", SERVES_AGAIN_WITHIN, || {
        load.complain();
        goes_on();
        let now = load.accepted.load(Ordering::Relaxed) - from;
        if now >= between {
            Ok(())
        } else {
            Err(format!("{now} requests accepted; last answer: {}", load.last_answer()))
        }
    });
}

/// The steps that no kill has interrupted.
fn missed<'a>(tally: &Tally, steps: &[&'a str]) -> Vec<&'a str> {
    let hit: BTreeSet<&str> = tally.interrupted.keys().map(|(_, step)| step.as_str()).collect();
    steps.iter().copied().filter(|step| !hit.contains(step)).collect()
}

/// Every tenant of a storm, for those who look at them one by one.
type Tenants = [Tenant];
