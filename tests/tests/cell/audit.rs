//! The ledger, as an operator sees it: it balances, and what somebody has changed behind the cell's back is named.

use std::time::Duration;

use cell_tests::{Cell, records};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);

/// The finding about this.
fn about<'a>(said: &'a Value, key: &str) -> &'a Value {
    let findings = said["findings"].as_array().expect("findings");
    let found = findings.iter().find(|found| found["about"].as_str().is_some_and(|about| about.contains(key)));
    found.unwrap_or_else(|| panic!("nothing about {key}: {said}"))
}

#[test]
fn an_audit_finds_nothing_until_somebody_has_tampered_with_the_store() {
    let mut cell = Cell::start(3);
    let admin = cell.admin();
    let servers: Vec<String> = (0..3).map(|number| admin.create(&format!("s{number}"))).collect();
    servers.iter().for_each(|id| drop(admin.reaches(id, "ACTIVE")));
    admin.act(&servers[2], &json!({ "os-stop": null }));
    admin.reaches(&servers[2], "SHUTOFF");
    let clean = cell.audits_clean(WITHIN);
    assert_eq!(clean["compared"], json!(["node-1", "node-2", "node-3"]));
    assert!(clean["accounts"].as_u64() > Some(10) && clean["entries"].as_u64() > Some(20), "{clean}");

    cell.stop();
    cell.agent_ends();
    let held = cell.records();
    let cores = held.held(&["quota/used/"]).into_iter().find(|(key, _)| key.ends_with("/cores")).expect("a counter");
    let address = held.under("addr/")[0].to_owned();
    records::set_counter(&cell.home(), cores.0, cores.1 + 1);
    records::remove(&cell.home(), &address);
    records::remove(&cell.home(), &format!("p/claim/{}", servers[0]));
    cell.run();
    cell.all_nodes_up();

    let (content, said) = cell.try_audit().expect("it is held");
    assert!(!content, "{said}");
    let found = about(&said, cores.0);
    assert_eq!(found["kind"], "unbalanced", "{found}");
    assert_eq!(found["behind"].as_array().map(Vec::len), Some(3), "all servers are behind it: {found}");
    assert_eq!(about(&said, &address)["kind"], "unbalanced");
    assert_eq!(about(&said, &format!("srv/server/{}", servers[0]))["kind"], "not held");
    assert!(about(&said, "p/used/")["text"].as_str().is_some_and(|text| text.contains("come to")), "{said}");
    assert!(about(&said, "port/")["text"].as_str().is_some_and(|text| text.contains("holds nothing")), "{said}");
}
