//! What an operator sees and does, on a whole cell: traces, health, metrics, keys.

use std::io::{Read, Write};
use std::net::TcpStream;

use cell_tests::Cell;
use serde_json::Value;

fn texts<'a>(all: &'a Value, field: &str) -> Vec<&'a str> {
    all.as_array().into_iter().flatten().filter_map(|one| one[field].as_str()).collect()
}

/// What a process serves to Prometheus.
fn metrics(process: &Value) -> String {
    let mut socket = TcpStream::connect(process["metrics"].as_str().expect("an address")).expect("it listens");
    socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("it reads");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("it answers");
    text
}

#[test]
fn a_request_is_seen_in_every_process_and_each_of_them_says_how_it_is() {
    let mut cell = Cell::start(3);
    let admin = cell.admin();
    let server = admin.create("one");
    let shown = admin.reaches(&server, "ACTIVE");
    let host = format!("agent/{}", shown["OS-EXT-SRV-ATTR:host"].as_str().expect("the admin sees the host"));

    let trace = cell.operator(&["trace", &server]);
    let (processes, names) = (texts(&trace["spans"], "process"), texts(&trace["spans"], "name"));
    assert!(processes.contains(&&*host), "three nodes share a process, and the span names its own: {processes:?}");
    let steps = ["POST /servers", "claim manifest", "build on node", "driver.run", "hand over", "commit"];
    let calls = ["/mainstay.scheduler.v1.SchedulerService/Select", "/mainstay.agent.v1.AgentService/Perform"];
    for name in steps.iter().chain(&calls) {
        assert!(names.contains(name), "{name} is missing: {names:?}");
    }
    assert_eq!(texts(&trace["actions"][0]["steps"], "name"), ["claim manifest", "build on node", "hand over"]);
    assert_eq!(trace["silent"], Value::Array(Vec::new()));

    let status = cell.operator(&["status"]);
    let all = status["processes"].as_array().expect("processes");
    assert_eq!(texts(&status["processes"], "identity")[0], "control/main");
    assert_eq!(all.len(), 4, "{status}");
    assert!(all.iter().all(|process| process["up"] == true && process["serving"] == true), "{status}");
    assert_eq!((&all[0]["views_loaded"], &all[1]["views_loaded"]), (&Value::Bool(true), &Value::Bool(false)));
    let (control, agent) = (metrics(&all[0]), metrics(&all[1]));
    for family in
        ["mainstay_store_commits_total ", "mainstay_http_seconds_count{method=\"POST\",route=\"/compute/v2.1/"]
    {
        assert!(control.contains(family), "{family}: {control}");
    }
    for family in ["mainstay_log_syncs_total ", "AgentService/Perform\",verdict=\"ok\"} 1\n"] {
        assert!(agent.contains(family), "{family}: {agent}");
    }

    // The agents' rings are gone with their process; the record of what was done is not.
    cell.kill();
    cell.agent_ends();
    cell.run();
    cell.all_nodes_up();
    let trace = cell.operator(&["trace", &server]);
    assert_eq!(texts(&trace["actions"][0]["steps"], "name"), ["claim manifest", "build on node", "hand over"]);
    let error = cell.try_operator(&["trace", "req-unknown"]).expect_err("nobody knows it");
    assert!(error.contains("nothing is known of req-unknown"), "{error}");
}

#[test]
fn token_keys_rotate_without_ending_a_session_unless_they_shall() {
    let cell = Cell::start(1);
    let before = cell.admin();
    let rotated = cell.operator(&["keys", "rotate"]);
    assert_eq!((&rotated["kept"], &rotated["removed"]), (&1.into(), &0.into()));
    let after = cell.admin();
    drop(before.get("/compute/v2.1/servers").is(200));
    drop(after.get("/compute/v2.1/servers").is(200));
    let rotated = cell.operator(&["keys", "rotate", "--void-tokens"]);
    assert_eq!((&rotated["kept"], &rotated["removed"]), (&0.into(), &2.into()));
    for client in [&before, &after] {
        drop(client.get("/compute/v2.1/servers").is(401));
    }
    drop(cell.admin().get("/compute/v2.1/servers").is(200));
}
