//! Guests outlive the daemons, and what guests do by themselves is seen at once.

use std::time::Duration;

use cell_tests::{Cell, Guests, Signal, has_ended, signal, timed, until};
use serde_json::json;

/// From QEMU's end until the API tells of it.
const SEEN_WITHIN: Duration = Duration::from_secs(1);
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// Powers itself off when its user asks for it.
const OFF_ON_REQUEST: &str = "#!/bin/sh\n( until [ -e ~tiny/off ]; do sleep 0.2; done; poweroff ) > /dev/null 2>&1 &\n";

#[test]
fn guests_outlive_daemons_and_their_ends_are_seen_at_once() {
    let mut guests = Guests::start(Cell::of_guests());
    let (stays, leaves) = (guests.create("stays", ""), guests.create("leaves", OFF_ON_REQUEST));
    for id in [&stays, &leaves] {
        guests.admin.reaches(id, "ACTIVE");
    }
    let (at_stays, at_leaves) = (guests.address(&stays), guests.address(&leaves));
    guests.says(&at_stays, "true");
    guests.says(&at_leaves, "true");
    let before = [guests.machine.process(&stays), guests.machine.process(&leaves)];

    guests.cell.kill_all();
    let alone = guests.login.run(&at_stays, "echo still here > note; sync; cat note");
    assert_eq!(alone.as_deref(), Ok("still here"), "a login while no daemon runs");
    guests.cell.run();
    guests.cell.all_nodes_up();
    assert_eq!(guests.login.run(&at_stays, "cat note").as_deref(), Ok("still here"), "a login after their return");
    let after = [guests.machine.process(&stays), guests.machine.process(&leaves)];
    assert_eq!(after, before, "the same processes run");
    assert_eq!(guests.admin.show(&stays).body["server"]["status"], "ACTIVE");

    // By itself; its process is no child of this agent, which adopted it.
    guests.login.run(&at_leaves, "touch off").expect("the guest lets us in");
    is_seen_to_end(&guests, &leaves, before[1]);
    assert_eq!(last_stop(&guests, &leaves), "the guest powered itself off");
    // Killed, first as one that was adopted, then as one that this agent has started.
    signal(before[0], Signal::KILL);
    is_seen_to_end(&guests, &stays, before[0]);
    assert!(last_stop(&guests, &stays).contains("QEMU process has ended"), "{}", last_stop(&guests, &stays));
    start(&guests, &stays);
    let process = guests.machine.process(&stays);
    signal(process, Signal::KILL);
    is_seen_to_end(&guests, &stays, process);
    assert!(last_stop(&guests, &stays).contains("killed by signal 9"), "{}", last_stop(&guests, &stays));

    start(&guests, &leaves);
    start(&guests, &stays);
    assert_eq!(guests.says(&at_stays, "cat note"), "still here", "what was written is there after all that");
    guests.end_empty();
}

/// Waits until the process has ended; from then on the end is told within a second.
fn is_seen_to_end(guests: &Guests, server: &str, process: u32) {
    until("the guest's process ends", ENDS_WITHIN, || {
        if has_ended(process) { Ok(()) } else { Err(format!("{process} runs")) }
    });
    let told = timed(|| {
        until("the server is SHUTOFF", SEEN_WITHIN, || {
            let shown = guests.admin.show(server).body;
            if shown["server"]["status"] == "SHUTOFF" { Ok(()) } else { Err(shown.to_string()) }
        });
    });
    println!("the end of {server} was told after {told:?}");
}

fn start(guests: &Guests, server: &str) {
    guests.admin.act(server, &json!({ "os-start": null }));
    guests.admin.reaches(server, "ACTIVE");
}

/// Why the server was stopped last, as its tenant is told.
fn last_stop(guests: &Guests, server: &str) -> String {
    let actions = guests.admin.get(&format!("/compute/v2.1/servers/{server}/os-instance-actions")).is(200).body;
    let mut all = actions["instanceActions"].as_array().into_iter().flatten();
    let stop = all.find(|action| action["action"] == "stop").unwrap_or_else(|| panic!("no stop: {actions}"));
    stop["message"].as_str().map_or_else(|| panic!("no reason: {actions}"), str::to_owned)
}
