//! No host will do: the fault counts the hosts by the reason why each was refused.

use cell_tests::{Cell, until};
use serde_json::json;

#[test]
fn no_valid_host_is_told_with_counts_by_reason() {
    let cell = Cell::start(3);
    let admin = cell.admin();
    let disable = json!({ "host": "node-2", "binary": "nova-compute", "disabled_reason": "a new disk" });
    let services = admin.get("/compute/v2.1/os-services?host=node-2&binary=nova-compute").is(200).body;
    let service = services.pointer("/services/0/id").unwrap_or_else(|| panic!("no service: {services}"));
    let (path, body) = match service.as_str() {
        Some(id) => (
            format!("/compute/v2.1/os-services/{id}"),
            json!({ "status": "disabled", "disabled_reason": "a new disk" }),
        ),
        None => ("/compute/v2.1/os-services/disable-log-reason".to_owned(), disable),
    };
    admin.ask("PUT", &path, Some(&body)).expect("an answer").is(200);
    // More disk than a node has; no quota counts disk.
    let flavor = json!({ "flavor": { "name": "vast", "vcpus": 1, "ram": 128, "disk": 2 << 20 } });
    let flavor = admin.post("/compute/v2.1/flavors", &flavor).is(200).text("/flavor/id");
    let mut body = admin.server("nowhere");
    body["server"]["flavorRef"] = json!(flavor);
    let id = admin.post("/compute/v2.1/servers", &body).is(202).text("/server/id");
    let fault = until("the server is in error", std::time::Duration::from_secs(20), || {
        let shown = admin.show(&id).body;
        let fault = shown.pointer("/server/fault/message").and_then(|message| message.as_str());
        fault.map(str::to_owned).ok_or_else(|| shown.to_string())
    });
    assert!(fault.contains("No valid host was found"), "{fault}");
    assert!(fault.contains("2 × too little DISK_GB") && fault.contains("1 × disabled: a new disk"), "{fault}");
    admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204);
    admin.vanishes(&id);
    cell.settles_empty(std::time::Duration::from_secs(20));
}
