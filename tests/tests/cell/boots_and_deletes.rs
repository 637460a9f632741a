//! One server's life, and the cell's: stopped, killed, started again.

use std::time::Duration;

use cell_tests::{Cell, until};
use serde_json::{Value, json};

#[test]
fn a_new_cell_is_ready_when_servers_find_a_host() {
    let cell = Cell::just_ready(40);
    let known = cell.operator(&["node", "list"]);
    assert_eq!(known.as_array().map(Vec::len), Some(40), "{known}");
    let admin = cell.admin();
    let id = admin.create("at-once");
    admin.reaches(&id, "ACTIVE");
}

#[test]
fn a_server_lives_and_dies() {
    let cell = Cell::start(3);
    let admin = cell.admin();
    let accepted = admin.post("/compute/v2.1/servers", &admin.server("one")).is(202);
    let id = accepted.text("/server/id");
    let active = admin.reaches(&id, "ACTIVE");
    let address = active.pointer("/addresses/private/0/addr").and_then(Value::as_str);
    assert!(address.is_some_and(|address| address.starts_with("10.") || address.starts_with("fd")), "{active}");
    assert_eq!(cell.guests().len(), 1);

    admin.act(&id, &json!({ "os-stop": null }));
    admin.reaches(&id, "SHUTOFF");
    admin.act(&id, &json!({ "os-start": null }));
    admin.reaches(&id, "ACTIVE");
    admin.act(&id, &json!({ "reboot": { "type": "HARD" } }));
    admin.reaches(&id, "ACTIVE");

    let trace = cell.operator(&["trace", &accepted.request_id]);
    let processes: Vec<&str> =
        trace["spans"].as_array().into_iter().flatten().filter_map(|span| span["process"].as_str()).collect();
    assert!(processes.iter().any(|process| process.contains("control")), "{trace}");
    assert!(processes.iter().any(|process| process.contains("agent")), "{trace}");
    assert_eq!(trace["actions"][0]["action"], "create", "{trace}");
    assert_eq!(trace["actions"][0]["server"], Value::String(id.clone()));
    assert!(trace["actions"][0]["steps"].as_array().is_some_and(|steps| steps.len() >= 3), "{trace}");

    admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204);
    admin.vanishes(&id);
    cell.settles_empty(Duration::from_secs(20));
}

#[test]
fn a_cell_resumes_after_an_end_and_after_a_kill() {
    let mut cell = Cell::start(3);
    let admin = cell.admin();
    let servers: Vec<String> = (0..4).map(|number| admin.create(&format!("s{number}"))).collect();
    servers.iter().for_each(|id| drop(admin.reaches(id, "ACTIVE")));
    admin.act(&servers[3], &json!({ "os-stop": null }));
    let before: Vec<Value> =
        servers.iter().zip(["ACTIVE", "ACTIVE", "ACTIVE", "SHUTOFF"]).map(|(id, to)| admin.reaches(id, to)).collect();

    let again = |cell: &mut Cell| {
        cell.agent_ends();
        cell.run();
        cell.all_nodes_up();
        let after: Vec<Value> = servers.iter().map(|id| admin.show(id).is(200).body["server"].clone()).collect();
        for (before, after) in before.iter().zip(&after) {
            for field in ["id", "name", "status", "addresses", "OS-EXT-SRV-ATTR:host", "created", "flavor", "image"] {
                assert_eq!(after[field], before[field], "{field} of {after}");
            }
        }
        assert_eq!(cell.guests().len(), servers.len());
    };
    cell.stop();
    again(&mut cell);
    cell.kill();
    again(&mut cell);

    // A create that was acknowledged an instant before the kill.
    let late = admin.create("late");
    cell.kill();
    again_with(&mut cell);
    until("the late server has settled", Duration::from_secs(60), || {
        let shown = admin.show(&late).is(200).body;
        if shown["server"]["status"] == "ACTIVE" { Ok(()) } else { Err(shown.to_string()) }
    });

    servers.iter().chain([&late]).for_each(|id| drop(admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204)));
    servers.iter().chain([&late]).for_each(|id| admin.vanishes(id));
    cell.settles_empty(Duration::from_secs(20));
}

fn again_with(cell: &mut Cell) {
    cell.run();
    cell.all_nodes_up();
}
