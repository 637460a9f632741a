//! Stories of a node, as text. `wWeEsS verb GUEST` sends an order; the rest happens to the node.

use std::time::Duration;

use driver::{DriverError, Observed};

use super::model::{World, guest, network_at, order, port_at, spec};
use crate::{Act, Answer, Descriptions, Input, Life, Refusal, Ticket};

/// Plays `script` and compares what the orders were told, what was reported and what is there in the end.
#[track_caller]
fn check(script: &str, expected: &str) {
    let mut world = World::new();
    let mut told = Vec::new();
    world.settle();
    for line in script.split('|').map(str::trim) {
        let words: Vec<_> = line.split_whitespace().collect();
        let number = || words.last().unwrap().trim_start_matches('g').parse().unwrap();
        match words[0] {
            "crash" => world.crash(),
            "power" => world.power_cut(),
            "steps" => world.steps(number() as usize),
            "full" => world.disk_full = true,
            "room" => world.disk_full = false,
            "deaf" => world.acknowledge = false,
            "ends" => world.ends(number()),
            "stale" => world.feed(Input::Ended(guest(number()), driver::Run(1), driver::StopCause::PoweredOff)),
            "stranger" => drop(world.machine.guests.insert(guest(number()), Observed::Running(driver::Run(70)))),
            "dies" => drop(world.machine.guests.insert(guest(number()), Observed::Stopped)),
            "resuming" => world.resume = true,
            "fail" | "refuse" | "late" => {
                let what: &'static str = match words[1] {
                    "network" => "network",
                    "prepare" => "prepare",
                    "run" => "run",
                    "stop" => "stop",
                    "pause" => "pause",
                    "absent" => "absent",
                    other => panic!("{other}"),
                };
                let error = |text: &str| {
                    if words[0] == "refuse" {
                        DriverError::Refused(text.into())
                    } else {
                        DriverError::Failed(text.into())
                    }
                };
                let times = words[2].parse().unwrap();
                let machine = &mut world.machine;
                let faults = if words[0] == "late" { &mut machine.late } else { &mut machine.faults };
                let faults = faults.entry(what).or_default();
                faults.extend(std::iter::repeat_n(error(&format!("no {what}")), times));
            }
            "networks" => {
                let told = Descriptions { networks: vec![network_at(number(), 9)], ..Descriptions::default() };
                world.feed(Input::Networks(Ticket(1_000_000), told));
            }
            // A port is renamed: `port REVISION NAME GUEST`.
            "port" => {
                let port = port_at(number(), words[1].parse().unwrap(), words[2]);
                let told = Descriptions { ports: vec![port], ..Descriptions::default() };
                world.feed(Input::Networks(Ticket(1_000_000), told));
            }
            "settle" => world.settle(),
            sender => {
                let numbers: Vec<u64> =
                    sender.split(|c: char| c.is_alphabetic()).filter_map(|part| part.parse().ok()).collect();
                let act = match words[1] {
                    "build" => Act::Build(spec(number())),
                    "destroy" => Act::Destroy(vec![super::model::network(number() / 10)]),
                    "start" => Act::Start,
                    "stop" => Act::Stop(Some(Duration::from_secs(1))),
                    "reboot" => Act::Reboot(None),
                    "pause" => Act::Pause,
                    "unpause" => Act::Unpause,
                    "snapshot" => Act::Snapshot(crate::ImageId::from_uuid(ids::uuid::Uuid::from_u128(5))),
                    other => panic!("{other}"),
                };
                let mut order = order(numbers[0].into(), numbers[1], numbers[2].try_into().unwrap(), number(), act);
                order.floor = numbers.get(3).copied().unwrap_or(0);
                told.push((sender, world.send(order)));
                continue;
            }
        }
        let moments =
            ["steps", "settle", "fail", "refuse", "late", "full", "room", "deaf", "stranger", "dies", "resuming"];
        if !moments.contains(&words[0]) {
            world.settle();
        }
        collect(&mut told, &world);
    }
    world.settle();
    collect(&mut told, &world);
    let mut lines: Vec<_> = told.iter().map(|(sender, _)| (*sender).to_owned()).collect();
    lines.extend(world.reports.iter().map(|note| {
        let number = note.guest.as_uuid().as_u128();
        format!("report g{number} run {}: {}", note.run.0, note.cause)
    }));
    lines.extend(world.machine.guests.iter().map(|(id, observed)| format!("g{} {observed:?}", id.as_uuid().as_u128())));
    lines.extend(world.machine.networks.iter().map(|(id, ports)| {
        let port = |(id, name): (&driver::PortId, &String)| format!(" {}{name}", id.as_uuid().as_u128());
        format!("n{}{}", id.as_uuid().as_u128(), ports.iter().map(port).collect::<String>())
    }));
    lines.extend(world.applied.iter().map(|answer| match answer {
        Ok(unknown) => format!("applied, {} unknown", unknown.len()),
        Err(refusal) => format!("not applied: {refusal}"),
    }));
    assert_eq!(world.machine.ran_twice, [], "a run is started once");
    let expected: Vec<_> = expected.split('|').map(str::trim).collect();
    assert_eq!(lines, expected, "{script}");
}

/// Puts the answers that have come into the senders' lines.
fn collect(told: &mut [(&str, Ticket)], world: &World) {
    for (sender, ticket) in told.iter_mut() {
        if let Some(answer) = world.answers.get(ticket)
            && !sender.contains(':')
        {
            *sender = Box::leak(format!("{sender}: {}", show(answer)).into_boxed_str());
        }
    }
}

fn show(answer: &Answer) -> String {
    match answer {
        Ok(reached) if reached.life.is_up() => format!("{:?} {}", reached.life, reached.run.0),
        Ok(reached) => format!("{:?}", reached.life),
        Err(Refusal::No(reason)) => format!("no, {reason}"),
        Err(Refusal::NotNow(reason)) => format!("not now, {reason}"),
        Err(Refusal::Unknown(reason)) => format!("unknown, {reason}"),
    }
}

#[test]
fn a_life() {
    check(
        "w1e1s1 build g11 | settle | w2e1s1 pause g11 | settle | w3e1s1 unpause g11 | settle | w4e1s1 snapshot g11 | settle \
         | w5e1s1 stop g11 | settle | w6e1s1 start g11 | settle | w7e1s1 reboot g11",
        "w1e1s1: Running 1 | w2e1s1: Paused 1 | w3e1s1: Running 1 | w4e1s1: Running 1 | w5e1s1: Stopped | w6e1s1: Running 2 \
         | w7e1s1: Running 3 | g11 Running(Run(3)) | n1 11",
    );
    check("w1e1s1 build g11 | settle | w2e1s1 destroy g11", "w1e1s1: Running 1 | w2e1s1: Absent");
    check(
        "w1e1s1 build g11 | settle | w2e1s2 build g12 | settle | w3e1s1 destroy g11",
        "w1e1s1: Running 1 | w2e1s2: Running 2 | w3e1s1: Absent | g12 Running(Run(2)) | n1 12",
    );
    // A network is there for its guests only: also if it is told of when the last one has just gone.
    check("networks 3", "applied, 0 unknown");
    check(
        "w1e1s1 build g11 | settle | networks 1",
        "w1e1s1: Running 1 | g11 Running(Run(1)) | n1 11 | applied, 0 unknown",
    );
}

#[test]
fn a_port_changes_by_itself() {
    check(
        "w1e1s1 build g11 | settle | w2e1s2 build g12 | settle | port 5 new g11",
        "w1e1s1: Running 1 | w2e1s2: Running 2 | g11 Running(Run(1)) | g12 Running(Run(2)) | n1 11new 12 | applied, 0 unknown",
    );
    // An older description is overtaken, also by one that says the same as what is known.
    check(
        "w1e1s1 build g11 | settle | port 5 new g11 | port 9 new g11 | port 7 old g11",
        "w1e1s1: Running 1 | g11 Running(Run(1)) | n1 11new | applied, 0 unknown | applied, 0 unknown | applied, 0 unknown",
    );
    check(
        "w1e1s1 build g11 | settle | port 5 new g11 | crash | settle",
        "w1e1s1: Running 1 | g11 Running(Run(1)) | n1 11new | applied, 0 unknown",
    );
    // No port without its guest: neither before it, nor behind it.
    check("port 5 new g11", "applied, 1 unknown");
    check(
        "w1e1s1 build g11 | settle | w2e1s2 build g12 | settle | w3e1s1 destroy g11 | settle | port 5 new g11 | crash | settle",
        "w1e1s1: Running 1 | w2e1s2: Running 2 | w3e1s1: Absent | g12 Running(Run(2)) | n1 12 | applied, 1 unknown",
    );
}

#[test]
fn the_same_step_has_the_same_outcome() {
    check(
        "w1e1s1 build g11 | w1e1s1 build g11 | settle | w1e2s1 build g11 | settle | crash | w1e2s1 build g11",
        "w1e1s1: Running 1 | w1e1s1: Running 1 | w1e2s1: Running 1 | w1e2s1: Running 1 | g11 Running(Run(1)) | n1 11",
    );
    check(
        "refuse prepare 1 | w1e1s1 build g11 | settle | crash | w1e1s1 build g11",
        "w1e1s1: no, no prepare | w1e1s1: no, no prepare",
    );
    // Also of what there was nothing to do for: the guest has moved on, the answer has not.
    check(
        "w1e1s1 build g11 | settle | w2e1s1 start g11 | settle | w3e1s1 stop g11 | settle | crash | w2e1s1 start g11",
        "w1e1s1: Running 1 | w2e1s1: Running 1 | w3e1s1: Stopped | w2e1s1: Running 1 | g11 Stopped | n1 11",
    );
}

#[test]
fn who_was_overtaken_is_refused() {
    check(
        "w1e2s1 build g11 | settle | w1e1s2 destroy g11",
        "w1e2s1: Running 1 | w1e1s2: no, stale epoch 1, now 2 | g11 Running(Run(1)) | n1 11",
    );
    // Even after a crash that came right behind the answer to the new owner.
    check(
        "w1e1s1 build g11 | settle | w1e2s1 build g11 | settle | crash | w1e1s2 destroy g11",
        "w1e1s1: Running 1 | w1e2s1: Running 1 | w1e1s2: no, stale epoch 1, now 2 | g11 Running(Run(1)) | n1 11",
    );
    check(
        "w1e1s2 destroy g11 | settle | w1e1s1 build g11",
        "w1e1s2: Absent | w1e1s1: no, a later step of this work was begun here: this order has been overtaken",
    );
}

#[test]
fn below_the_floor_is_over() {
    // The fourth number is the floor.
    check(
        "w7e1s1f7 build g11 | settle | w5e1s1 start g11",
        "w7e1s1f7: Running 1 | w5e1s1: no, the work has ended: it began at 5, and all before 7 has | g11 Running(Run(1)) | n1 11",
    );
    check(
        "w5e1s1f5 build g11 | settle | w7e1s1f7 stop g11 | settle | crash | w5e1s1 build g11",
        "w5e1s1f5: Running 1 | w7e1s1f7: Stopped | w5e1s1: no, the work has ended: it began at 5, and all before 7 has \
         | g11 Stopped | n1 11",
    );
}

#[test]
fn acts_on_one_guest_follow_each_other() {
    // The owner's successor undoes while the build is still under way.
    check(
        "w1e1s1 build g11 | steps 2 | w1e2s2 destroy g11",
        "w1e1s1: unknown, given up, because the guest is to be removed | w1e2s2: Absent",
    );
    check("w1e1s1 build g11 | steps 1 | w2e1s1 stop g11", "w1e1s1: Running 1 | w2e1s1: Stopped | g11 Stopped | n1 11");
    // A removal does not wait behind the pauses of what fails.
    check(
        "fail absent 4 | refuse prepare 1 | w1e1s1 build g11 | steps 8 | w1e1s2 destroy g11",
        "w1e1s1: unknown, no prepare; the guest is being removed | w1e1s2: Absent",
    );
}

#[test]
fn what_fails_leaves_nothing() {
    check("refuse prepare 1 | w1e1s1 build g11", "w1e1s1: no, no prepare");
    check("fail run 2 | w1e1s1 build g11", "w1e1s1: Running 1 | g11 Running(Run(1)) | n1 11");
    check("fail run 3 | w1e1s1 build g11", "w1e1s1: no, no run");
    check("fail network 3 | w1e1s1 build g11", "w1e1s1: no, no network");
    // A network that was there before stays.
    check(
        "w1e1s1 build g11 | settle | refuse run 1 | w2e1s2 build g12",
        "w1e1s1: Running 1 | w2e1s2: no, no run | g11 Running(Run(1)) | n1 11",
    );
    check(
        "w1e1s1 build g11 | settle | w2e1s1 stop g11 | settle | refuse run 1 | w3e1s1 start g11",
        "w1e1s1: Running 1 | w2e1s1: Stopped | w3e1s1: no, no run | g11 Stopped | n1 11",
    );
    // Until it is clean nobody is told that it is; then the same question has the true answer.
    check(
        "refuse prepare 1 | fail absent 5 | w1e1s1 build g11 | settle | w1e1s1 build g11",
        "w1e1s1: unknown, no prepare; and it could not be undone yet: no absent | w1e1s1: no, no prepare",
    );
}

#[test]
fn guests_that_end_by_themselves_are_told_of() {
    check(
        "w1e1s1 build g11 | settle | ends g11",
        "w1e1s1: Running 1 | report g11 run 1: the guest powered itself off | g11 Stopped | n1 11",
    );
    // Until the cell has taken note, also after a crash.
    check(
        "deaf | w1e1s1 build g11 | settle | ends g11 | crash",
        "w1e1s1: Running 1 | report g11 run 1: the guest powered itself off | report g11 run 1: the guest powered itself off \
         | g11 Stopped | n1 11",
    );
    check(
        "w1e1s1 build g11 | settle | ends g11 | crash",
        "w1e1s1: Running 1 | report g11 run 1: the guest powered itself off | g11 Stopped | n1 11",
    );
    // News of an earlier run is no news.
    check(
        "w1e1s1 build g11 | settle | w2e1s1 reboot g11 | settle | stale g11",
        "w1e1s1: Running 1 | w2e1s1: Running 2 | g11 Running(Run(2)) | n1 11",
    );
    check(
        "w1e1s1 build g11 | settle | dies g11 | crash",
        "w1e1s1: Running 1 | report g11 run 1: it ended while the agent of its node was away | g11 Stopped | n1 11",
    );
}

#[test]
fn after_a_power_cut_guests_are_told_of_or_come_back() {
    check(
        "w1e1s1 build g11 | settle | w2e1s2 build g12 | settle | w3e1s1 stop g12 | settle | power",
        "w1e1s1: Running 1 | w2e1s2: Running 2 | w3e1s1: Stopped | report g11 run 1: the machine that it ran on was restarted \
         | g11 Stopped | g12 Stopped | n1 11 12",
    );
    // A guest that was stopped stays so.
    check(
        "resuming | w1e1s1 build g11 | settle | w2e1s2 build g12 | settle | w3e1s1 stop g12 | settle | power",
        "w1e1s1: Running 1 | w2e1s2: Running 2 | w3e1s1: Stopped | g11 Running(Run(3)) | g12 Stopped | n1 11 12",
    );
    // What cannot come back is told of.
    check(
        "resuming | w1e1s1 build g11 | settle | refuse run 1 | power",
        "w1e1s1: Running 1 | report g11 run 2: no run | g11 Stopped | n1 11",
    );
}

#[test]
fn what_was_done_and_said_to_have_failed_is_seen_as_what_it_is() {
    check(
        "w1e1s1 build g11 | settle | late stop 3 | w2e1s1 stop g11",
        "w1e1s1: Running 1 | w2e1s1: Stopped | g11 Stopped | n1 11",
    );
    check(
        "w1e1s1 build g11 | settle | late pause 3 | w2e1s1 pause g11 | settle | late pause 3 | w3e1s1 unpause g11",
        "w1e1s1: Running 1 | w2e1s1: Paused 1 | w3e1s1: Running 1 | g11 Running(Run(1)) | n1 11",
    );
    check(
        "w1e1s1 build g11 | settle | fail stop 3 | w2e1s1 stop g11",
        "w1e1s1: Running 1 | w2e1s1: no, no stop | g11 Running(Run(1)) | n1 11",
    );
    // What cannot be held because it has ended is told of.
    check(
        "w1e1s1 build g11 | settle | dies g11 | w2e1s1 pause g11",
        "w1e1s1: Running 1 | w2e1s1: no, does not run | report g11 run 1: does not run | g11 Stopped | n1 11",
    );
}

#[test]
fn a_cause_is_told_of_the_run_that_ended_by_it() {
    let mut world = World::new();
    world.acknowledge = false;
    world.settle();
    world.send(order(1, 1, 1, 11, Act::Build(spec(11))));
    world.settle();
    world.ends(11);
    world.settle();
    // The next run has its number in the log, and has not begun.
    world.send(order(2, 1, 1, 11, Act::Start));
    world.steps(1);
    let notes = world.core.notes().into_iter().map(|note| (note.life, note.run.0, note.cause));
    assert_eq!(notes.collect::<Vec<_>>(), [(Life::Stopped, 1, "the guest powered itself off".to_owned())]);
    world.settle();
    let notes = world.core.notes().into_iter().map(|note| (note.life, note.run.0, note.cause));
    assert_eq!(notes.collect::<Vec<_>>(), [(Life::Running, 2, String::new())]);
}

#[test]
fn what_the_log_does_not_know_is_kept() {
    check(
        "stranger g99 | crash | w1e1s1 build g11",
        "w1e1s1: Running 71 | g11 Running(Run(71)) | g99 Running(Run(70)) | n1 11",
    );
    check("stranger g99 | crash | w1e1s1 destroy g99", "w1e1s1: Absent");
}

#[test]
fn a_full_disk_refuses_before_and_waits_behind() {
    check(
        "full | w1e1s1 build g11 | settle | room | w1e1s1 build g11",
        "w1e1s1: no, the node's disk is full: its log cannot be written | w1e1s1: Running 2 | g11 Running(Run(2)) | n1 11",
    );
    // It is built, but nobody is told before the log knows.
    check(
        "w1e1s1 build g11 | steps 4 | full | steps 3 | room | settle | w1e1s1 build g11",
        "w1e1s1: unknown, the node's disk is full: its log cannot be written | w1e1s1: Running 1 | g11 Running(Run(1)) | n1 11",
    );
}

#[test]
fn notes_tell_what_is_known_and_what_is_not() {
    let mut world = World::new();
    world.machine.guests.insert(guest(99), Observed::Paused(driver::Run(4)));
    world.settle();
    world.send(order(1, 1, 1, 11, Act::Build(spec(11))));
    world.settle();
    let notes = world.core.notes().into_iter().map(|note| (note.guest, note.life, note.run.0, note.known));
    assert_eq!(notes.collect::<Vec<_>>(), [(guest(11), Life::Running, 5, true), (guest(99), Life::Paused, 4, false)]);
}
