//! The machine loses power. After its boot networks are made again, and guests are off or run again, as configured.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cell_tests::{Cell, Guests, until};
use serde_json::json;

const RESUME: &str = "--resume-guests-after-boot";

#[test]
fn after_a_power_cut_guests_are_off_or_run_again_as_configured() {
    let mut cell = Cell::of_guests();
    let boot = cell.dir().join("boot-id");
    boots(&mut cell, &boot, "first", &[]);
    let mut guests = Guests::start(cell);
    let (id, stopped) = (guests.create("runs", ""), guests.create("stopped", ""));
    guests.admin.reaches(&id, "ACTIVE");
    guests.admin.reaches(&stopped, "ACTIVE");
    let (address, other) = (guests.address(&id), guests.address(&stopped));
    guests.says(&address, "echo kept > note; sync");
    guests.says(&other, "true");
    guests.admin.act(&stopped, &json!({ "os-stop": null }));
    guests.admin.reaches(&stopped, "SHUTOFF");
    let networks = guests.machine.namespaces();
    assert!(!networks.is_empty());

    // As it is at first: what ran is off, and says why.
    power_is_lost(&mut guests);
    boots(&mut guests.cell, &boot, "second", &[]);
    comes_up(&mut guests, &networks);
    guests.admin.reaches(&id, "SHUTOFF");
    let actions = guests.admin.get(&format!("/compute/v2.1/servers/{id}/os-instance-actions")).is(200).body;
    assert!(actions.to_string().contains("the machine that it ran on was restarted"), "{actions}");
    assert!(guests.machine.processes().is_empty(), "{:?}", guests.machine.processes());
    guests.admin.act(&id, &json!({ "os-start": null }));
    guests.admin.reaches(&id, "ACTIVE");
    assert_eq!(guests.says(&address, "cat note"), "kept", "it has its address and its disk");

    // As configured: what ran runs again, by itself.
    power_is_lost(&mut guests);
    boots(&mut guests.cell, &boot, "third", &[RESUME]);
    comes_up(&mut guests, &networks);
    assert_eq!(guests.says(&address, "cat note"), "kept", "it runs again with its address and its disk");
    assert_eq!(guests.admin.show(&id).body["server"]["status"], "ACTIVE");
    let running: Vec<String> = guests.machine.processes().into_keys().collect();
    assert_eq!(running, [&*id], "what was stopped stays so");
    guests.admin.reaches(&stopped, "SHUTOFF");

    // What was configured is kept; and a daemon that merely starts again starts nothing.
    let process = guests.machine.process(&id);
    guests.cell.kill_all();
    boots(&mut guests.cell, &boot, "third", &[]);
    comes_up(&mut guests, &networks);
    assert_eq!(guests.machine.process(&id), process);
    guests.cell.kill_all();
    guests.machine.lose_power();
    boots(&mut guests.cell, &boot, "fourth", &[]);
    comes_up(&mut guests, &networks);
    until("the guest runs again", Duration::from_secs(30), || {
        let all = guests.machine.processes();
        if all.keys().eq([&id]) { Ok(()) } else { Err(format!("{all:?}")) }
    });
    assert_ne!(guests.machine.process(&id), process);
    guests.end_empty();
}

/// From now on the machine is in this boot.
fn boots(cell: &mut Cell, file: &Path, id: &str, options: &[&str]) {
    std::fs::write(file, id).expect("the test's own file");
    let file = file.display().to_string();
    let words: Vec<&str> = ["--boot-id-file", &file].into_iter().chain(options.iter().copied()).collect();
    cell.set_options(&words);
}

fn power_is_lost(guests: &mut Guests) {
    guests.cell.kill_all();
    guests.machine.lose_power();
    assert!(guests.machine.processes().is_empty() && guests.machine.namespaces().is_empty());
}

fn comes_up(guests: &mut Guests, networks: &BTreeSet<String>) {
    guests.cell.run();
    guests.cell.all_nodes_up();
    until("the networks are made again", Duration::from_secs(30), || {
        let now = guests.machine.namespaces();
        if now == *networks { Ok(()) } else { Err(format!("{now:?}")) }
    });
}
