//! A policy that binds holds for members that boot at the same moment too.

use std::time::Duration;

use cell_tests::Cell;
use serde_json::json;

const ROUNDS: usize = 5;
const NODES: usize = 3;

#[test]
fn members_that_boot_at_once_keep_to_their_groups_policy() {
    let cell = Cell::start(NODES);
    let admin = cell.admin();
    for (policy, nodes) in [("anti-affinity", NODES), ("affinity", 1)] {
        let group = json!({ "server_group": { "name": policy, "policies": [policy] } });
        let group = admin.post("/compute/v2.1/os-server-groups", &group).is(200).text("/server_group/id");
        for round in 0..ROUNDS {
            let mut body = admin.server(&format!("{policy}-{round}"));
            body["server"]["min_count"] = json!(NODES);
            body["server"]["max_count"] = json!(NODES);
            body["os:scheduler_hints"] = json!({ "group": group });
            admin.post("/compute/v2.1/servers", &body).is(202);
            let ids: Vec<String> =
                admin.servers().iter().map(|server| server["id"].as_str().expect("an id").to_owned()).collect();
            assert_eq!(ids.len(), NODES);
            let hosts: std::collections::BTreeSet<String> = ids
                .iter()
                .map(|id| {
                    let shown = admin.reaches(id, "ACTIVE");
                    shown["OS-EXT-SRV-ATTR:host"].as_str().unwrap_or_else(|| panic!("no host: {shown}")).to_owned()
                })
                .collect();
            assert_eq!(hosts.len(), nodes, "{policy}, round {round}: {hosts:?}");
            for id in &ids {
                admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204);
            }
            ids.iter().for_each(|id| admin.vanishes(id));
        }
    }
    cell.settles_empty(Duration::from_secs(20));
    cell.audits_clean(Duration::from_secs(20));
}
