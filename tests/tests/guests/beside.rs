//! Two nodes of a cell on one machine.

use std::collections::BTreeSet;
use std::time::Duration;

use cell_tests::{Cell, Guests, Signal, has_ended, signal, until};

const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Which node a server is on.
fn host(guests: &Guests, id: &str) -> String {
    guests.admin.show(id).is(200).text("/server/OS-EXT-SRV-ATTR:host")
}

#[test]
fn nodes_of_one_machine_run_their_guests_side_by_side() {
    let mut guests = Guests::start(Cell::of_guests_on(2));
    let nodes = guests.cell.operator(&["node", "list"]);
    println!("each has a part: {nodes}");
    let ids = [guests.create("one", ""), guests.create("two", "")];
    ids.iter().for_each(|id| drop(guests.admin.reaches(id, "ACTIVE")));
    let hosts = ids.each_ref().map(|id| host(&guests, id));
    assert_eq!(BTreeSet::from(hosts.each_ref()).len(), 2, "the emptier node comes first: {hosts:?}");
    let addresses = ids.each_ref().map(|id| guests.address(id));
    for ((id, host), address) in ids.iter().zip(&hosts).zip(&addresses) {
        assert_eq!(guests.machine.directories_of(host), BTreeSet::from([id.clone()]));
        guests.says(address, "echo mine > note; sync");
    }
    let processes = ids.each_ref().map(|id| guests.machine.process(id));

    // One agent dies and comes back; then all of them do. Nobody's guest notices.
    let agent = guests.cell.agent_pid_of(&hosts[1]).expect("the agent runs");
    signal(agent, Signal::KILL);
    until("the agent ends", ENDS_WITHIN, || if has_ended(agent) { Ok(()) } else { Err(agent.to_string()) });
    guests.cell.all_nodes_up();
    guests.cell.kill_all();
    guests.cell.run();
    guests.cell.all_nodes_up();
    assert_eq!(ids.each_ref().map(|id| guests.machine.process(id)), processes);
    addresses.iter().for_each(|address| assert_eq!(guests.says(address, "cat note"), "mine"));
    guests.cell.audits_clean(ENDS_WITHIN);

    // What goes with one guest is one node's, and `down` takes the rest.
    guests.delete(&ids[0]);
    assert_eq!(guests.says(&addresses[1], "cat note"), "mine");
    guests.cell.stop();
    guests.cell.agent_ends();
    assert!(!guests.machine.namespaces().is_empty() && has_ended(processes[0]) && !has_ended(processes[1]));
    let (went_well, said) = guests.cell.said(&["down"]);
    assert!(went_well, "{said}");
    assert!(guests.machine.processes().is_empty(), "{:?}", guests.machine.processes());
    assert_eq!((guests.machine.namespaces(), guests.machine.links()), (BTreeSet::new(), BTreeSet::new()));
    assert_eq!(guests.machine.groups(&ids), Vec::<std::path::PathBuf>::new());
}
