//! The configuration: refused with the reason, applied while everything runs, remembered, and rolled back.

use std::time::Duration;

use cell_tests::{Apart, Cell, until};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(20);

/// What may be claimed of `class` on `node`.
fn capacity(cell: &Cell, node: &str, class: &str) -> u64 {
    let nodes = cell.operator(&["node", "list"]);
    let node = nodes.as_array().into_iter().flatten().find(|one| one["name"] == node).cloned().expect("the node");
    let amount = node["amounts"].as_array().into_iter().flatten().find(|one| one["class"] == class).cloned();
    amount.expect("the class")["capacity"].as_u64().expect("a number")
}

fn becomes(cell: &Cell, node: &str, class: &str, expected: u64) {
    until(&format!("{class} of {node} is {expected}"), WITHIN, || match capacity(cell, node, class) {
        found if found == expected => Ok(()),
        found => Err(found.to_string()),
    });
}

fn values(got: &Value) -> Vec<String> {
    let text = |value: &Value| {
        ["key", "scope", "value"].map(|field| value[field].as_str().unwrap_or_default().to_owned()).join(" ")
    };
    got["values"].as_array().into_iter().flatten().map(text).collect()
}

#[test]
fn a_change_is_refused_or_applied_at_once_and_can_be_taken_back() {
    let mut cell = Cell::start(2);
    let admin = cell.admin();
    let (first, second) = (capacity(&cell, "node-1", "VCPU"), capacity(&cell, "node-2", "VCPU"));
    let before = admin.create("before");
    admin.reaches(&before, "ACTIVE");

    // What is not allowed is refused with what is, and nothing has changed.
    let refusals: [(&[&str], &str); 5] = [
        (&["compute.vcpu_ratio", "900"], "cannot be \"900\": it takes a ratio from 0.1 to 64"),
        (&["compute.vpcu_ratio", "2"], "did you mean compute.vcpu_ratio?"),
        (&["compute.vcpu_ratio", "2", "--role", "agent"], "can be set for the cell, a zone or a node"),
        (&["log.level", "loud"], "it takes one of off, error, warn, info, debug, trace"),
        (&["coordinator.works_max", "-1"], "a whole number of works from 1 to 65536"),
    ];
    for (words, reason) in refusals {
        let error = cell.try_operator(&[&["config", "set"], words].concat()).expect_err("it is refused");
        assert!(error.contains(reason), "{words:?}: {error}");
    }
    let nothing = cell.operator(&["config", "get"]);
    assert_eq!((values(&nothing), &nothing["revision"]), (Vec::new(), &json!(0)));

    // Applied without a restart, to those whom it concerns.
    let set = cell.operator(&["config", "set", "compute.vcpu_ratio", "2"]);
    let original = set["revision"].as_u64().expect("a revision") - 1;
    becomes(&cell, "node-1", "VCPU", first / 8);
    becomes(&cell, "node-2", "VCPU", second / 8);
    let set = cell.operator(&["config", "set", "compute.vcpu_ratio", "1", "--node", "node-2"]);
    assert_eq!(set["note"], "", "the node is known: {set}");
    becomes(&cell, "node-2", "VCPU", second / 16);
    assert_eq!(capacity(&cell, "node-1", "VCPU"), first / 8);
    let unknown = cell.operator(&["config", "set", "compute.vcpu_ratio", "1", "--node", "node-9"]);
    assert!(unknown["note"].as_str().is_some_and(|note| note.contains("no node is named node-9")), "{unknown}");

    // Nothing fits any more. What is there stays, and the books balance.
    cell.operator(&["config", "set", "compute.reserved_memory_mib", "16777216"]);
    becomes(&cell, "node-1", "MEMORY_MB", 0);
    becomes(&cell, "node-2", "MEMORY_MB", 0);
    let refused = admin.create("refused");
    let shown = admin.reaches(&refused, "ERROR");
    assert!(shown["fault"]["message"].as_str().is_some_and(|text| text.contains("too little MEMORY_MB")), "{shown}");
    admin.reaches(&before, "ACTIVE");
    cell.audits_clean(WITHIN);
    cell.operator(&["config", "unset", "compute.reserved_memory_mib"]);
    let fits = admin.create("fits");
    admin.reaches(&fits, "ACTIVE");

    // Why it is what it is.
    let why = cell.operator(&["config", "explain", "compute.vcpu_ratio", "--node", "node-2"]);
    assert_eq!((&why["value"], &why["winner"], &why["default"]), (&json!("1"), &json!("node/node-2"), &json!("16")));
    assert_eq!(why["zone"], "nova", "the zone of a node is known");
    let (ended_well, text) = cell.said(&["config", "explain", "compute.vcpu_ratio"]);
    assert!(ended_well && text.contains("cell         2      wins"), "{text}");
    let set = ["compute.vcpu_ratio cell 2", "compute.vcpu_ratio node/node-2 1", "compute.vcpu_ratio node/node-9 1"];
    assert_eq!(values(&cell.operator(&["config", "get"])), set);

    // It outlives the process, with its history.
    cell.kill();
    cell.agent_ends();
    cell.run();
    cell.all_nodes_up();
    assert_eq!((capacity(&cell, "node-1", "VCPU"), capacity(&cell, "node-2", "VCPU")), (first / 8, second / 16));
    let history = cell.operator(&["config", "history"]);
    let changes = history["changes"].as_array().expect("changes");
    assert_eq!((changes.len(), &changes[4]["who"]), (5, &json!("operator/admin")));
    assert_eq!((&changes[0]["old"], &changes[0]["new"]), (&json!("16777216"), &Value::Null));

    // And back.
    let rolled = cell.operator(&["config", "rollback", &original.to_string()]);
    assert_eq!(rolled["changes"].as_array().map(Vec::len), Some(3), "{rolled}");
    becomes(&cell, "node-1", "VCPU", first);
    becomes(&cell, "node-2", "VCPU", second);
    assert_eq!(values(&cell.operator(&["config", "get"])), Vec::<String>::new());
    let error = cell.try_operator(&["config", "rollback", "9999999999"]).expect_err("it is still to come");
    assert!(error.contains("is still to come"), "{error}");
    cell.audits_clean(WITHIN);
}

#[test]
fn the_level_of_a_log_follows() {
    let cell = Cell::start(1);
    let logged = || std::fs::read_to_string(cell.log("dev")).expect("a log");
    let change = || {
        let before = logged();
        cell.operator(&["config", "set", "dns.ttl_seconds", "2"]);
        cell.operator(&["config", "unset", "dns.ttl_seconds"]);
        logged() != before
    };
    cell.operator(&["config", "set", "log.level", "error"]);
    until("the log falls silent", WITHIN, || if change() { Err("it still speaks".into()) } else { Ok(()) });
    cell.operator(&["config", "set", "log.level", "info"]);
    until("the log speaks again", WITHIN, || if change() { Ok(()) } else { Err("it is silent".into()) });
}

#[test]
fn the_life_of_tokens_follows() {
    let cell = Cell::start(1);
    let password = std::fs::read_to_string(cell.home().join("admin-password")).expect("the admin's password");
    let user = json!({ "name": "admin", "password": password.trim(), "domain": { "id": "default" } });
    let body = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": user } } } });
    let hours = || {
        let token = cell.anonymous().post("/identity/v3/auth/tokens", &body).is(201);
        let hour = |moment: &str| -> u32 {
            let text = token.text(moment);
            text.split(['T', ':']).nth(1).and_then(|hour| hour.parse().ok()).unwrap_or_else(|| panic!("{text}"))
        };
        (hour("/token/expires_at") + 24 - hour("/token/issued_at")) % 24
    };
    let becomes = |expected: u32| {
        until(&format!("tokens are good for {expected} h"), WITHIN, || match hours() {
            found if found == expected => Ok(()),
            found => Err(format!("{found} h")),
        });
    };
    becomes(1);
    let set = cell.operator(&["config", "set", "identity.token_hours", "7"]);
    becomes(7);
    let before = set["revision"].as_u64().expect("a revision") - 1;
    cell.operator(&["config", "rollback", &before.to_string()]);
    becomes(1);
}

/// Waits until every process says that it runs this revision of the configuration.
fn all_run(cell: &Cell, revision: &Value, processes: usize) {
    until("every process runs the newest", WITHIN, || {
        let status = cell.try_operator(&["status"])?;
        let all = status["processes"].as_array().cloned().unwrap_or_default();
        let there = all.iter().filter(|process| process["up"] == true);
        let current = there.filter(|process| process["config"] == *revision && process["behind"] == false).count();
        if status["config"] == *revision && current >= processes { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn every_process_hears_of_a_change_and_says_what_it_runs() {
    let mut cell = Cell::start(3);
    all_run(&cell, &json!(0), 4);
    let set = cell.operator(&["config", "set", "rpc.calls_max", "100", "--role", "agent"]);
    all_run(&cell, &set["revision"], 4);
    // One that was away has what holds from the start.
    cell.kill();
    cell.agent_ends();
    cell.run();
    cell.all_nodes_up();
    all_run(&cell, &set["revision"], 4);

    // The same where nobody who tells of it can read it.
    cell.stop();
    cell.agent_ends();
    let mut apart = Apart::start(&cell, 3);
    cell.all_nodes_up();
    all_run(&cell, &set["revision"], 8);
    let set = cell.operator(&["config", "set", "coordinator.works_max", "10"]);
    all_run(&cell, &set["revision"], 8);
    apart.kill("liveness");
    let set = cell.operator(&["config", "set", "coordinator.works_max", "20"]);
    apart.run("liveness");
    all_run(&cell, &set["revision"], 8);
}
