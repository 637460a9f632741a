//! Every role as a process of its own: what they have of each other, they have over mutual TLS.

use std::time::Duration;

use cell_tests::{Apart, Cell};

#[test]
fn roles_in_processes_of_their_own_finish_what_a_killed_coordinator_began() {
    let mut cell = Cell::start(2);
    cell.stop();
    cell.agent_ends();
    let mut apart = Apart::start(&cell, 2);
    cell.all_nodes_up();

    let admin = cell.admin();
    let first = admin.create("first");
    admin.reaches(&first, "ACTIVE");
    let mut servers = vec![first];
    for round in 0..3 {
        // Creates go on while nobody coordinates: the api needs only the store to accept them.
        servers.push(admin.create(&format!("before-{round}")));
        servers.push(admin.create(&format!("at-{round}")));
        apart.kill("coordinator");
        servers.push(admin.create(&format!("after-{round}")));
        apart.run("coordinator");
    }
    servers.iter().for_each(|id| drop(admin.reaches(id, "ACTIVE")));
    assert_eq!(cell.guests().len(), servers.len());
    servers.iter().for_each(|id| drop(admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204)));
    servers.iter().for_each(|id| admin.vanishes(id));
    cell.settles_empty(Duration::from_secs(30));
}
