//! Short storms, of which each change runs all.

use super::Plan;
use super::storm::{self, Storm};

/// How long each storm lasts here, in seconds; `cargo xtask bench liveness` gives them half an hour.
const SECONDS: u64 = 120;

fn plan(seed: u64) -> Plan {
    Plan { seed, instances: 3, machines: 12, processes: 60, watchers: 3, latency_us: 300 }
}

#[test]
fn no_storm_makes_a_living_process_dead_and_all_agree_afterwards() {
    for seed in 1..=2 {
        for what in Storm::ALL {
            let outcome = storm::run(what, plan(seed), SECONDS);
            let said = outcome.complaints.join("\n");
            assert!(outcome.complaints.is_empty(), "{}, seed {seed}\n{said}", what.name());
            assert!(outcome.compared > 20, "{} is dull", what.name());
        }
    }
}

#[test]
fn what_has_a_way_to_its_instance_is_reachable() {
    // Halves judge each other, and so does who is cut off; in all other storms nobody is called unreachable who is not.
    for what in
        [Storm::Starved, Storm::Lossy, Storm::InstanceKilled, Storm::Rolling, Storm::AllAtOnce, Storm::ClockJumps]
    {
        assert_eq!(storm::run(what, plan(3), SECONDS).false_unreachable, 0, "{}", what.name());
    }
}

#[test]
fn a_seed_gives_the_same_run() {
    let run = |seed| {
        let outcome = storm::run(Storm::Churn, plan(seed), 30);
        (outcome.events, outcome.traffic.bytes, outcome.tries, outcome.ended)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
