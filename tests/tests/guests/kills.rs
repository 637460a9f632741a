//! Creates and deletes of real guests while control, agent or both are killed at random. `MAINSTAY_SEED` chooses.
//!
//! It goes on until a kill has interrupted what takes its time on the node, in both directions, but not for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cell_tests::{Cell, Dice, Guests, Signal, pause, signal, until};
use serde_json::Value;

const ROUNDS_MIN: usize = 6;
const ROUNDS_MAX: usize = 40;
/// Servers at a time.
const HELD: usize = 4;
const SETTLES_WITHIN: Duration = Duration::from_secs(120);
/// What a kill must have interrupted.
const STEPS: [&str; 2] = ["build on node", "destroy on node"];
/// A round's kill comes within so many milliseconds of its requests, drawn from these: what they ask for takes from some
/// tens of milliseconds to hundreds, as the machine is busy.
const KILL_WITHIN_MS: [usize; 3] = [50, 200, 600];

#[test]
fn kills_around_real_guests_lose_nothing_and_leave_nothing() {
    let mut dice = Dice::of_test(1);
    let mut guests = Guests::start(Cell::of_guests());
    // The first of all fetches the image, which is not what this is about.
    let first = guests.create("first", "");
    guests.admin.reaches(&first, "ACTIVE");
    let mut wanted = vec![first];
    let mut interrupted = Interrupted::new();
    let missed = |interrupted: &Interrupted| STEPS.into_iter().find(|step| !interrupted.contains_key(*step));
    let mut rounds = 0;
    while rounds < ROUNDS_MIN || (rounds < ROUNDS_MAX && missed(&interrupted).is_some()) {
        let mut running = running(&guests);
        // What is deleted was accepted rounds ago or just now, and may still be under way; so may what is created.
        wanted.push(guests.create(&format!("round-{rounds}"), ""));
        if wanted.len() > HELD || (rounds > 0 && dice.below(4) > 0) {
            let doomed = wanted.remove(dice.below(wanted.len()));
            guests.admin.delete(&format!("/compute/v2.1/servers/{doomed}")).is(204);
            running.remove(&doomed);
        }
        let within = KILL_WITHIN_MS[dice.below(KILL_WITHIN_MS.len())];
        pause(Duration::from_millis(dice.below(within) as u64));
        strike(&mut guests, dice.below(3), &mut interrupted);
        for (server, process) in running {
            assert_eq!(guests.machine.process(&server), process, "the guest {server} runs on");
        }
        rounds += 1;
    }
    println!("{rounds} kills interrupted: {interrupted:?}");
    assert_eq!(missed(&interrupted), None, "{rounds} kills never interrupted this: nothing is known of it");

    let servers = settled(&guests, &wanted);
    let active: BTreeSet<String> = servers.iter().filter(|server| server["status"] == "ACTIVE").map(id).collect();
    let processes = guests.machine.processes();
    assert_eq!(processes.keys().cloned().collect::<BTreeSet<_>>(), active, "guests and servers are the same");
    assert!(processes.values().all(|pids| pids.len() == 1), "one process to a guest: {processes:?}");
    guests.machine.directories().iter().for_each(|guest| assert!(active.contains(guest), "{guest} is nobody's"));
    // All are of the flavor m1.tiny; one in error has given back what it held on a node.
    let (running, all) = (active.len() as u64, servers.len() as u64);
    assert_eq!(guests.usages(), [running, 128 * running, running], "what placement counts");
    assert_eq!(guests.limits(), [all, all, 128 * all], "what the quota counts");
    assert_eq!(guests.ports(), active.len(), "ports with their addresses");
    guests.cell.audits_clean(SETTLES_WITHIN);
    guests.end_empty();
    assert_eq!((guests.usages(), guests.ports()), ([0, 0, 0], 0));
    guests.cell.audits_clean(SETTLES_WITHIN);
}

/// Guests that run and to which nothing is being done, with their processes.
fn running(guests: &Guests) -> BTreeMap<String, u32> {
    let shown = guests.admin.servers();
    let at_rest = |server: &&Value| server["status"] == "ACTIVE" && server["OS-EXT-STS:task_state"].is_null();
    shown.iter().filter(at_rest).map(id).map(|server| (server.clone(), guests.machine.process(&server))).collect()
}

/// How many works were interrupted in which step.
type Interrupted = BTreeMap<String, usize>;

/// Kills control (0), the agent (1) or both, notes what that interrupted, and has all run again.
fn strike(guests: &mut Guests, whom: usize, interrupted: &mut Interrupted) {
    let agent = guests.cell.agent_pid().expect("the agent runs");
    if whom == 1 {
        signal(agent, Signal::KILL);
        // Works that wait for the node stand still: what is listed now is what was interrupted.
        for work in guests.cell.operator(&["work", "list"]).as_array().into_iter().flatten() {
            if let Some(step) = work["step"].as_str().filter(|step| !step.is_empty()) {
                *interrupted.entry(step.to_owned()).or_default() += 1;
            }
        }
    } else {
        // An agent that lives on is held, so that what is found is what was there at the moment of the kill.
        signal(agent, if whom == 0 { Signal::STOP } else { Signal::KILL });
        guests.cell.kill();
        for step in guests.cell.records().steps_under_way(&guests.cell.guests()) {
            *interrupted.entry(step).or_default() += 1;
        }
        signal(agent, Signal::CONT);
        guests.cell.agent_ends();
        guests.cell.run();
    }
    until("another agent runs", SETTLES_WITHIN, || match guests.cell.agent_pid() {
        Some(other) if other != agent => Ok(()),
        other => Err(format!("{other:?}")),
    });
    guests.cell.all_nodes_up();
}

/// Every server is well, or in error with a reason; all that are wanted are there, and nothing else.
fn settled(guests: &Guests, wanted: &[String]) -> Vec<Value> {
    let servers = until("every server has settled", SETTLES_WITHIN, || {
        let works = guests.cell.try_operator(&["work", "list"])?;
        let servers = guests.admin.servers();
        let open = servers.iter().find(|server| {
            let failed = server["status"] == "ERROR" && server["fault"]["message"].is_string();
            !(server["status"] == "ACTIVE" || failed) || !server["OS-EXT-STS:task_state"].is_null()
        });
        match open {
            None if works == Value::Array(Vec::new()) => Ok(servers),
            None => Err(works.to_string()),
            Some(open) => Err(open.to_string()),
        }
    });
    let there: BTreeSet<String> = servers.iter().map(id).collect();
    assert_eq!(there, wanted.iter().cloned().collect::<BTreeSet<_>>(), "what was acknowledged is so");
    for server in servers.iter().filter(|server| server["status"] == "ERROR") {
        println!("in error: {}", server["fault"]["message"]);
    }
    servers
}

fn id(server: &Value) -> String {
    server["id"].as_str().unwrap_or_default().to_owned()
}
