//! A node that says nothing: its tenants are answered, its claims are kept, and nobody repairs anything afterwards.

use std::time::Duration;

use cell_tests::{Cell, Signal, signal, until};
use serde_json::Value;

const TENANT_WAITS: Duration = Duration::from_secs(20);

#[test]
fn a_silent_node_keeps_its_claims_and_nothing_else() {
    let cell = Cell::start(1);
    let admin = cell.admin();
    let doomed = admin.create("doomed");
    admin.reaches(&doomed, "ACTIVE");

    let agent = cell.agent_pid().expect("the agent runs");
    signal(agent, Signal::STOP);
    let begun = admin.create("begun");
    until("the create is an error or in sight", TENANT_WAITS, || {
        let works = cell.try_operator(&["work", "list"])?;
        let shown = admin.show(&begun).body;
        let in_sight = works.as_array().into_iter().flatten().any(|work| about(work, &begun) && work["error"] != "");
        if in_sight || shown["server"]["status"] == "ERROR" { Ok(()) } else { Err(format!("{works}\n{shown}")) }
    });

    admin.delete(&format!("/compute/v2.1/servers/{doomed}")).is(204);
    until("the deleted server is gone for its tenant", TENANT_WAITS, || {
        let answer = admin.show(&doomed);
        if answer.status == 404 { Ok(()) } else { Err(answer.body.to_string()) }
    });
    let works = cell.operator(&["work", "list"]);
    assert!(works.as_array().into_iter().flatten().any(|work| about(work, &doomed)), "{works}");
    let nodes = cell.operator(&["node", "list"]);
    let amounts = nodes[0]["amounts"].as_array().into_iter().flatten();
    assert!(amounts.clone().count() > 0 && amounts.clone().any(|amount| amount["used"] != 0), "{nodes}");
    assert!(cell.guests().contains_key(&doomed), "the guest runs on: nobody could tell it to end");
    // What the vanished server held is the delete's: the books balance, but nobody knows what is on the node.
    let (content, said) = cell.try_audit().expect("it is held without the node");
    assert!(!content && said["findings"] == Value::Array(Vec::new()), "{said}");
    assert_eq!(
        (&said["silent"][0]["node"], &said["compared"]),
        (&"node-1".into(), &Value::Array(Vec::new())),
        "{said}"
    );

    signal(agent, Signal::CONT);
    until("the create has ended", Duration::from_secs(60), || {
        let shown = admin.show(&begun).body;
        let server = &shown["server"];
        let with_reason = server["status"] == "ERROR" && server["fault"]["message"].is_string();
        let ended = server["OS-EXT-STS:task_state"].is_null() && (server["status"] == "ACTIVE" || with_reason);
        if ended { Ok(()) } else { Err(shown.to_string()) }
    });
    admin.delete(&format!("/compute/v2.1/servers/{begun}")).is(204);
    admin.vanishes(&begun);
    cell.settles_empty(Duration::from_secs(60));
    cell.audits_clean(Duration::from_secs(60));
}

fn about(work: &Value, server: &str) -> bool {
    work["subject"].as_str().is_some_and(|subject| subject.contains(server))
}
