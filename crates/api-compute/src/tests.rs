//! The router as clients meet it, over the memory store, with a coordinator that no node attends.

mod cloud;

use std::collections::BTreeMap;

use axum::body::Body;
use http::{Request, StatusCode};
use identity::ops::users::NewUser;
use identity::record::Domain;
use serde_json::{Value, json};
use telemetry::{Query, SpanId, TraceId};
use tower::ServiceExt;

use cloud::Cloud;

const ADMIN: &str = "admin:admin";
const BLUE: &str = "blue:member";

#[tokio::test]
async fn a_server_that_is_accepted_has_a_record_and_a_work() {
    let cloud = Cloud::new().await;
    let id = cloud.server(BLUE, "web", json!({ "metadata": { "made": "here" }, "tags": ["red"] })).await;
    assert_eq!(cloud.works(), 1);
    let shown = cloud.get(BLUE, "2.96", &format!("/servers/{id}")).await.is(200)["server"].clone();
    assert_eq!((&shown["status"], &shown["OS-EXT-STS:task_state"]), (&json!("BUILD"), &json!("spawning")));
    assert_eq!((&shown["metadata"], &shown["tags"]), (&json!({ "made": "here" }), &json!(["red"])));
    assert_eq!(shown["flavor"]["original_name"], "m1.tiny");
    assert!(shown.get("OS-EXT-SRV-ATTR:host").is_none(), "{shown}");
    // Another project, and one who may only look.
    cloud.get("red:member", "2.1", &format!("/servers/{id}")).await.is(404);
    cloud.send("blue:reader", "2.1", "DELETE", &format!("/servers/{id}"), Value::Null).await.is(403);
    cloud.get(ADMIN, "2.96", &format!("/servers/{id}")).await.is(200);
    // What was asked, and by which request.
    let actions = cloud.get(BLUE, "2.96", &format!("/servers/{id}/os-instance-actions")).await.is(200);
    assert_eq!(actions["instanceActions"][0]["action"], "create");
    cloud.send(BLUE, "2.1", "DELETE", &format!("/servers/{id}"), Value::Null).await.is(204);
    assert_eq!(cloud.works(), 2);
}

#[tokio::test]
async fn a_create_whose_commit_is_unknown_is_accepted_once_also_if_it_has_ended_since() {
    let cloud = Cloud::new().await;
    cloud.store.lose_next();
    let id = cloud.server(BLUE, "web", json!({})).await;
    cloud.get(BLUE, "2.96", &format!("/servers/{id}")).await.is(200);
    assert_eq!(cloud.live_servers().await, 1);
}

#[tokio::test]
async fn a_server_looks_as_its_version_says() {
    let cloud = Cloud::new().await;
    let id = cloud.server(BLUE, "web", json!({})).await;
    for (version, there, not_there) in [
        ("2.1", "OS-EXT-STS:vm_state", "locked"),
        ("2.9", "locked", "description"),
        ("2.19", "description", "tags"),
        ("2.26", "tags", "trusted_image_certificates"),
        ("2.63", "trusted_image_certificates", "server_groups"),
        ("2.73", "locked_reason", "OS-EXT-SRV-ATTR:hostname"),
        ("2.90", "OS-EXT-SRV-ATTR:hostname", "pinned_availability_zone"),
        ("2.96", "pinned_availability_zone", "host_status"),
    ] {
        let shown = cloud.get(BLUE, version, &format!("/servers/{id}")).await.is(200)["server"].clone();
        assert!(shown.get(there).is_some() && shown.get(not_there).is_none(), "{version}: {shown}");
    }
    let shown = cloud.get(ADMIN, "2.16", &format!("/servers/{id}")).await.is(200)["server"].clone();
    assert_eq!(shown["flavor"]["id"], "1");
    assert_eq!(shown["host_status"], "");
    let listed = cloud.get(BLUE, "2.96", "/servers/detail").await.is(200)["servers"][0].clone();
    assert!(listed.get("locked_reason").is_some() && listed.get("server_groups").is_none(), "{listed}");
    cloud.get(BLUE, "2.97", "/servers").await.is(406);
    cloud.get(BLUE, "2.25", &format!("/servers/{id}/tags")).await.is(404);
}

#[tokio::test]
async fn a_server_shows_the_groups_that_its_ports_have() {
    let cloud = Cloud::new().await;
    let path = format!("/servers/{}", cloud.server(BLUE, "web", json!({})).await);
    cloud.build(&path[9..]).await;
    let groups = async || cloud.get(BLUE, "2.1", &path).await.is(200)["server"].get("security_groups").cloned();
    assert_eq!(groups().await, None, "it has no card");
    cloud.plug(&path[9..]).await;
    assert_eq!(groups().await, Some(json!([{ "name": "default" }])));
    let remove = json!({ "removeSecurityGroup": { "name": "default" } });
    cloud.send(BLUE, "2.1", "POST", &format!("{path}/action"), remove).await.is(202);
    assert_eq!(groups().await, None, "its last group was taken from it");
    let listed = cloud.get(BLUE, "2.1", "/servers/detail").await.is(200)["servers"][0].clone();
    assert!(listed.get("security_groups").is_none(), "{listed}");
}

#[tokio::test]
async fn a_body_that_is_wrong_is_refused_with_the_right_status() {
    let cloud = Cloud::new().await;
    let image = cloud.image.clone();
    let good = json!({ "name": "x", "flavorRef": "1", "imageRef": image, "networks": "none" });
    for (version, change, status) in [
        ("2.96", json!({ "colour": "red" }), 400),
        ("2.96", json!({ "name": "" }), 400),
        ("2.96", json!({ "name": 7 }), 400),
        ("2.96", json!({ "networks": null }), 400),
        ("2.96", json!({ "networks": [{ "uuid": "nonsense" }] }), 400),
        ("2.96", json!({ "networks": [{ "uuid": "00000000-0000-4000-8000-000000000000" }] }), 400),
        ("2.96", json!({ "flavorRef": "none" }), 400),
        ("2.96", json!({ "imageRef": "00000000-0000-4000-8000-000000000000" }), 400),
        ("2.96", json!({ "key_name": "none" }), 400),
        ("2.96", json!({ "user_data": "not base64!" }), 400),
        ("2.96", json!({ "min_count": 3, "max_count": 2 }), 400),
        ("2.96", json!({ "personality": [] }), 400),
        (
            "2.96",
            json!({ "block_device_mapping_v2": [{ "boot_index": 0, "source_type": "volume", "uuid": "x" }] }),
            400,
        ),
        ("2.96", json!({ "availability_zone": "nova:node-1" }), 403),
        ("2.96", json!({ "security_groups": [{ "name": "none" }] }), 400),
        ("2.96", json!({ "max_count": 11, "min_count": 11 }), 403),
        ("2.96", json!({ "hostname": "-" }), 400),
        ("2.96", json!({ "metadata": { "k": 1 } }), 400),
    ] {
        let mut server = good.clone();
        server.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        cloud.send(BLUE, version, "POST", "/servers", json!({ "server": server })).await.is(status);
    }
    assert_eq!(cloud.live_servers().await, 0, "a request that was refused leaves nothing");
    cloud.send(BLUE, "2.96", "POST", "/servers", json!({ "server": good, "more": 1 })).await.is(400);
    let disk = json!({ "boot_index": 0, "source_type": "image", "destination_type": "local", "uuid": image });
    let mut server = good.clone();
    server["block_device_mapping_v2"] = json!([disk]);
    cloud.send(BLUE, "2.96", "POST", "/servers", json!({ "server": server })).await.is(202);
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let cloud = Cloud::new().await;
    let mut ids = Vec::new();
    for name in ["a1", "b1", "b2"] {
        ids.push(cloud.server(BLUE, name, json!({})).await);
    }
    cloud.server("red:member", "r1", json!({})).await;
    for (who, query, want) in [
        (BLUE, "", "b2 b1 a1"),
        (BLUE, "?name=^b", "b2 b1"),
        (BLUE, "?name=B", "b2 b1"),
        (BLUE, "?sort_key=display_name&sort_dir=asc", "a1 b1 b2"),
        (BLUE, "?status=ACTIVE", ""),
        (BLUE, "?status=build&name=1", "b1 a1"),
        (BLUE, "?flavor=2", ""),
        (BLUE, "?changes-since=2999-01-01T00:00:00Z", ""),
        (BLUE, "?limit=1", "b2"),
        (ADMIN, "", ""),
        (ADMIN, "?all_tenants=1", "r1 b2 b1 a1"),
        (ADMIN, "?all_tenants&project_id=red", "r1"),
        (ADMIN, "?all_tenants=true&host=node-1", ""),
    ] {
        let body = cloud.get(who, "2.1", &format!("/servers/detail{query}")).await.is(200);
        let names: Vec<&str> =
            body["servers"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), want, "{who} {query}");
    }
    let page = cloud.get(BLUE, "2.1", "/servers?limit=1").await.is(200);
    let next = page["servers_links"][0]["href"].as_str().unwrap().to_owned();
    let next = next.strip_prefix("https://cloud/compute/v2.1").unwrap();
    assert_eq!(cloud.get(BLUE, "2.1", next).await.is(200)["servers"][0]["name"], "b1");
    for (version, query, status) in [
        ("2.1", "?limit=x", 400),
        ("2.1", "?marker=none", 400),
        ("2.1", "?sort_key=none", 400),
        ("2.1", "?name=[", 400),
        ("2.1", "?colour=red", 200),
        ("2.75", "?colour=red", 400),
        ("2.1", "?status=NONE", 200),
        ("2.38", "?status=NONE", 400),
        ("2.1", "?all_tenants=1", 403),
    ] {
        cloud.get(BLUE, version, &format!("/servers{query}")).await.is(status);
    }
    let by_id = cloud.get(ADMIN, "2.1", &format!("/servers?all_tenants=1&uuid={}", ids[0])).await.is(200);
    assert_eq!(by_id["servers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_is_changed_and_asked_in_the_ways_that_its_state_allows() {
    let cloud = Cloud::new().await;
    let id = cloud.server(BLUE, "web", json!({})).await;
    let path = format!("/servers/{id}");
    let action = format!("{path}/action");
    let act = |version: &'static str, body: Value| cloud.send(BLUE, version, "POST", &action, body);
    act("2.1", json!({ "os-stop": null })).await.is(409);
    act("2.1", json!({ "rebuild": { "imageRef": cloud.image } })).await.is(501);
    act("2.1", json!({ "dance": null })).await.is(400);
    act("2.1", json!({ "reboot": { "type": "GENTLE" } })).await.is(400);
    act("2.1", json!({ "os-resetState": { "state": "error" } })).await.is(403);
    act("2.1", json!({ "os-getConsoleOutput": {} })).await.is(409);
    act("2.44", json!({ "addFixedIp": {} })).await.is(400);
    cloud.build(&id).await;
    act("2.1", json!({ "os-start": null })).await.is(409);
    let image = act("2.45", json!({ "createImage": { "name": "snap" } })).await.is(202)["image_id"].clone();
    assert_eq!(image.as_str().unwrap().len(), 36);
    act("2.45", json!({ "os-stop": null })).await.is(409);
    act("2.73", json!({ "lock": { "locked_reason": "mine" } })).await.is(202);
    cloud.send(BLUE, "2.1", "DELETE", &path, Value::Null).await.is(409);
    let shown = cloud.get(BLUE, "2.73", &path).await.is(200);
    assert_eq!(shown["server"]["locked_reason"], "mine");
    act("2.1", json!({ "unlock": null })).await.is(202);
    let change = json!({ "server": { "name": "new", "accessIPv4": "192.0.2.1", "description": "d" } });
    let shown = cloud.send(BLUE, "2.19", "PUT", &path, change).await.is(200)["server"].clone();
    assert_eq!((&shown["name"], &shown["accessIPv4"]), (&json!("new"), &json!("192.0.2.1")));
    cloud.send(BLUE, "2.1", "PUT", &path, json!({ "server": { "description": "d" } })).await.is(400);
    cloud.send(BLUE, "2.1", "PUT", &path, json!({ "server": { "accessIPv6": "x" } })).await.is(400);
    for (method, path, body, status) in [
        ("POST", "metadata", json!({ "metadata": { "a": "1", "b": "2" } }), 200),
        ("PUT", "metadata/b", json!({ "meta": { "a": "3" } }), 400),
        ("PUT", "metadata/b", json!({ "meta": { "b": "3" } }), 200),
        ("DELETE", "metadata/a", Value::Null, 204),
        ("GET", "metadata/a", Value::Null, 404),
        ("PUT", "tags/red", Value::Null, 201),
        ("PUT", "tags/red", Value::Null, 204),
        ("GET", "tags/blue", Value::Null, 404),
        ("PUT", "tags", json!({ "tags": ["a,b"] }), 400),
        ("DELETE", "tags", Value::Null, 204),
    ] {
        cloud.send(BLUE, "2.26", method, &format!("/servers/{id}/{path}"), body).await.is(status);
    }
    let metadata = cloud.get(BLUE, "2.1", &format!("{path}/metadata")).await.is(200);
    assert_eq!(metadata, json!({ "metadata": { "b": "3" } }));
}

#[tokio::test]
async fn flavors_are_made_by_administrators_and_shared_with_care() {
    let cloud = Cloud::new().await;
    let flavors = cloud.get(BLUE, "2.1", "/flavors").await.is(200);
    assert_eq!(flavors["flavors"].as_array().unwrap().len(), 4);
    let new = json!({ "flavor": {
        "name": "big", "ram": "64", "vcpus": 1, "disk": 1, "id": 9, "os-flavor-access:is_public": "False",
    } });
    cloud.send(BLUE, "2.1", "POST", "/flavors", new.clone()).await.is(403);
    let made = cloud.send(ADMIN, "2.1", "POST", "/flavors", new.clone()).await.is(200)["flavor"].clone();
    assert_eq!((&made["id"], &made["swap"]), (&json!("9"), &json!("")));
    cloud.send(ADMIN, "2.1", "POST", "/flavors", new).await.is(409);
    cloud.get(BLUE, "2.1", "/flavors/9").await.is(404);
    let grant = |verb: &str| json!({ verb: { "tenant": "blue" } });
    cloud.send(ADMIN, "2.1", "POST", "/flavors/9/action", grant("addTenantAccess")).await.is(200);
    cloud.send(ADMIN, "2.1", "POST", "/flavors/9/action", grant("addTenantAccess")).await.is(409);
    cloud.get(BLUE, "2.1", "/flavors/9").await.is(200);
    cloud.send(ADMIN, "2.1", "POST", "/flavors/9/action", grant("removeTenantAccess")).await.is(200);
    cloud.send(ADMIN, "2.1", "POST", "/flavors/9/action", grant("removeTenantAccess")).await.is(404);
    let specs = json!({ "extra_specs": { "hw:x": "1" } });
    cloud.send(ADMIN, "2.1", "POST", "/flavors/9/os-extra_specs", specs.clone()).await.is(200);
    assert_eq!(cloud.get(ADMIN, "2.61", "/flavors/9").await.is(200)["flavor"]["extra_specs"], specs["extra_specs"]);
    cloud.send(ADMIN, "2.1", "DELETE", "/flavors/9/os-extra_specs/hw:y", Value::Null).await.is(404);
    cloud.send(ADMIN, "2.1", "DELETE", "/flavors/9", Value::Null).await.is(202);
    cloud.get(ADMIN, "2.1", "/flavors/9").await.is(404);
    cloud.bootstrap_flavors().await;
    cloud.send(ADMIN, "2.1", "DELETE", "/flavors/4", Value::Null).await.is(202);
    cloud.bootstrap_flavors().await;
    cloud.get(ADMIN, "2.1", "/flavors/4").await.is(404);
}

#[tokio::test]
async fn keys_groups_and_quotas_are_kept() {
    let cloud = Cloud::new().await;
    let made = cloud.send(BLUE, "2.2", "POST", "/os-keypairs", json!({ "keypair": { "name": "k" } })).await.is(201);
    assert!(made["keypair"]["private_key"].as_str().unwrap().starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    let public = made["keypair"]["public_key"].clone();
    let import = json!({ "keypair": { "name": "i", "public_key": public } });
    let kept = cloud.send(BLUE, "2.92", "POST", "/os-keypairs", import.clone()).await.is(201);
    assert_eq!(kept["keypair"]["fingerprint"], made["keypair"]["fingerprint"]);
    cloud.send(BLUE, "2.1", "POST", "/os-keypairs", import).await.is(409);
    cloud.send(BLUE, "2.92", "POST", "/os-keypairs", json!({ "keypair": { "name": "n" } })).await.is(400);
    cloud.send(BLUE, "2.1", "POST", "/os-keypairs", json!({ "keypair": { "name": "a/b" } })).await.is(400);
    cloud.send(BLUE, "2.1", "DELETE", "/os-keypairs/k", Value::Null).await.is(202);
    cloud.get(BLUE, "2.1", "/os-keypairs/k").await.is(404);

    let group = json!({ "server_group": { "name": "g", "policy": "anti-affinity" } });
    let made = cloud.send(BLUE, "2.64", "POST", "/os-server-groups", group).await.is(200)["server_group"].clone();
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        cloud.get(BLUE, "2.1", &format!("/os-server-groups/{id}")).await.is(200)["server_group"]["policies"],
        json!(["anti-affinity"])
    );
    let soft = json!({ "server_group": { "name": "g", "policies": ["soft-affinity"] } });
    cloud.send(BLUE, "2.14", "POST", "/os-server-groups", soft).await.is(400);
    cloud.send("red:member", "2.1", "DELETE", &format!("/os-server-groups/{id}"), Value::Null).await.is(404);
    let few = json!({ "quota_set": { "server_group_members": 1 } });
    cloud.send(ADMIN, "2.36", "PUT", "/os-quota-sets/blue", few).await.is(200);
    let member = |name: &str| {
        let server = json!({ "name": name, "flavorRef": "1", "imageRef": cloud.image, "networks": "none" });
        json!({ "server": server, "os:scheduler_hints": { "group": id } })
    };
    let first = cloud.send(BLUE, "2.37", "POST", "/servers", member("first")).await.is(202)["server"]["id"].clone();
    let refused = cloud.send(BLUE, "2.37", "POST", "/servers", member("second")).await.is(403);
    assert_eq!(refused["forbidden"]["message"], "Quota exceeded, too many servers in group");
    let first = format!("/servers/{}", first.as_str().unwrap());
    cloud.send(BLUE, "2.1", "POST", &format!("{first}/action"), json!({ "lock": null })).await.is(202);
    let meta = json!({ "metadata": { "a": "b" } });
    cloud.send(BLUE, "2.1", "PUT", &format!("{first}/metadata"), meta.clone()).await.is(409);
    cloud.send(BLUE, "2.1", "DELETE", &first, Value::Null).await.is(409);
    cloud.send(BLUE, "2.1", "PUT", &first, json!({ "server": { "name": "renamed" } })).await.is(200);
    cloud.send(ADMIN, "2.1", "PUT", &format!("{first}/metadata"), meta).await.is(200);
    cloud.send(BLUE, "2.1", "POST", &format!("{first}/action"), json!({ "unlock": null })).await.is(202);
    cloud.send(ADMIN, "2.36", "DELETE", "/os-quota-sets/blue", Value::Null).await.is(202);
    cloud.send(BLUE, "2.1", "DELETE", &format!("/os-server-groups/{id}"), Value::Null).await.is(204);

    let limit = json!({ "quota_set": { "instances": 2, "cores": 33 } });
    cloud.send(BLUE, "2.36", "PUT", "/os-quota-sets/blue", limit.clone()).await.is(403);
    cloud.send(ADMIN, "2.36", "PUT", "/os-quota-sets/none", limit.clone()).await.is(400);
    let set = cloud.send(ADMIN, "2.36", "PUT", "/os-quota-sets/blue", limit).await.is(200);
    assert_eq!(set["quota_set"]["cores"], 33);
    cloud.server(BLUE, "one", json!({})).await;
    let second = json!({ "server": { "name": "two", "flavorRef": "1", "imageRef": cloud.image, "networks": "none" } });
    let refused = cloud.send(BLUE, "2.37", "POST", "/servers", second).await;
    let refused = refused.is(403)["forbidden"]["message"].clone();
    assert!(refused.as_str().unwrap().starts_with("Quota exceeded for instances: Requested 1"), "{refused}");
    let low = json!({ "quota_set": { "instances": 1 } });
    cloud.send(ADMIN, "2.36", "PUT", "/os-quota-sets/blue", low).await.is(400);
    let limits = cloud.get(BLUE, "2.57", "/limits").await.is(200)["limits"]["absolute"].clone();
    assert_eq!((&limits["maxTotalCores"], &limits["totalCoresUsed"]), (&json!(33), &json!(2)));
    cloud.send(ADMIN, "2.36", "DELETE", "/os-quota-sets/blue?user_id=someone", Value::Null).await.is(400);
    assert_eq!(cloud.get(BLUE, "2.36", "/os-quota-sets/blue").await.is(200)["quota_set"]["cores"], 33);
    cloud.send(ADMIN, "2.36", "DELETE", "/os-quota-sets/blue", Value::Null).await.is(202);
    assert_eq!(cloud.get(BLUE, "2.36", "/os-quota-sets/blue").await.is(200)["quota_set"]["cores"], 20);
}

#[tokio::test]
async fn key_pairs_go_with_their_user() {
    let cloud = Cloud::new().await;
    let domain = Domain {
        id: "people".parse().unwrap(),
        name: "people".into(),
        description: String::new(),
        enabled: true,
        deleting: false,
        tags: Vec::new(),
    };
    let domain = cloud.identity.create_domain(domain).await.unwrap();
    let new = NewUser {
        name: "anna".into(),
        description: String::new(),
        email: String::new(),
        enabled: true,
        default_project: None,
        password: None,
        extra: String::new(),
    };
    let user = cloud.identity.create_user(&domain.id, new).await.unwrap().id;
    // More than one transaction removes: between two of them, what is left is what is counted.
    let pairs: u64 = 100;
    for number in 0..pairs {
        let pair = json!({ "keypair": { "name": format!("k{number}"), "user_id": user.as_str() } });
        cloud.send(ADMIN, "2.10", "POST", "/os-keypairs", pair).await.is(201);
    }
    assert_eq!(cloud.keys_with(user.as_str()), 102, "the user, the pairs, and how many there are");
    let part = cloud.view.read(|reader| ::servers::keypair::remove_of_user(reader, &user, 50)).await.unwrap().unwrap();
    cloud.view.store().commit(part).await.unwrap();
    let counted = cloud.view.read(|reader| ::servers::limits::used(reader, user.as_str(), "key_pairs")).await.unwrap();
    assert!(counted > 0 && counted < pairs);
    assert_eq!(cloud.keys_with(user.as_str()) as u64, 2 + counted);
    cloud.identity.delete_user(user.as_str()).await.unwrap();
    assert_eq!(cloud.keys_with(user.as_str()), 0);
}

#[tokio::test]
async fn a_client_s_trace_knows_the_request_and_does_not_name_its_trace() {
    let cloud = Cloud::new().await;
    let theirs = TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    let server = json!({ "name": "s", "flavorRef": "1", "imageRef": cloud.image, "networks": "none" });
    let request = Request::post("/servers").header("x-auth-token", BLUE).header("content-type", "application/json");
    let request = request.header("openstack-api-version", "compute 2.37");
    let request = request.header("traceparent", format!("00-{theirs}-00f067aa0ba902b7-01"));
    let body = Body::from(json!({ "server": server }).to_string());
    let response = cloud.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 202);
    let id = response.headers()["x-openstack-request-id"].to_str().unwrap();
    let query = Query { request: Some(id.to_owned()), ..Query::default() };
    let traces: BTreeMap<TraceId, SpanId> =
        cloud.ring.find(&query).into_iter().map(|span| (span.trace, span.parent)).collect();
    assert_eq!(traces.len(), 2, "ours and theirs: {traces:?}");
    assert_eq!(traces[&theirs], SpanId(0x00f0_67aa_0ba9_02b7));
}

#[tokio::test]
async fn hosts_are_shown_disabled_and_put_into_zones() {
    let cloud = Cloud::new().await;
    cloud.get(BLUE, "2.1", "/os-services").await.is(403);
    let service = cloud.get(ADMIN, "2.53", "/os-services").await.is(200)["services"][0].clone();
    assert_eq!((&service["state"], &service["status"]), (&json!("down"), &json!("enabled")));
    let path = format!("/os-services/{}", service["id"].as_str().unwrap());
    let disable = json!({ "status": "disabled", "disabled_reason": "broken" });
    let set = cloud.send(ADMIN, "2.53", "PUT", &path, disable).await.is(200);
    assert_eq!(set["service"]["disabled_reason"], "broken");
    let enable = json!({ "host": "node-1", "binary": "nova-compute" });
    cloud.send(ADMIN, "2.1", "PUT", "/os-services/enable", enable).await.is(200);
    let old = cloud.get(ADMIN, "2.1", "/os-hypervisors/detail").await.is(200)["hypervisors"][0].clone();
    assert_eq!((&old["vcpus"], &old["hypervisor_hostname"]), (&json!(8), &json!("node-1")));
    let new = cloud.get(ADMIN, "2.88", "/os-hypervisors/detail").await.is(200)["hypervisors"][0].clone();
    assert!(new.get("vcpus").is_none() && new.get("uptime").is_some(), "{new}");
    cloud.get(ADMIN, "2.88", "/os-hypervisors/statistics").await.is(404);

    let body = json!({ "aggregate": { "name": "rack", "availability_zone": "east" } });
    let made = cloud.send(ADMIN, "2.1", "POST", "/os-aggregates", body.clone()).await.is(200);
    let path = format!("/os-aggregates/{}", made["aggregate"]["id"]);
    cloud.send(ADMIN, "2.1", "POST", "/os-aggregates", body).await.is(409);
    let action = format!("{path}/action");
    let add = json!({ "add_host": { "host": "node-1" } });
    cloud.send(ADMIN, "2.1", "POST", &action, json!({ "add_host": { "host": "none" } })).await.is(404);
    cloud.send(ADMIN, "2.1", "POST", &action, add.clone()).await.is(200);
    cloud.send(ADMIN, "2.1", "POST", &action, add).await.is(409);
    let zones = cloud.get(BLUE, "2.1", "/os-availability-zone").await.is(200);
    assert_eq!(zones["availabilityZoneInfo"][0]["zoneName"], "east");
    cloud.send(ADMIN, "2.1", "DELETE", &path, Value::Null).await.is(400);
    let remove = json!({ "remove_host": { "host": "node-1" } });
    cloud.send(ADMIN, "2.1", "POST", &action, remove).await.is(200);
    cloud.send(ADMIN, "2.1", "DELETE", &path, Value::Null).await.is(200);
    let zones = cloud.get(BLUE, "2.1", "/os-availability-zone").await.is(200);
    assert_eq!(zones["availabilityZoneInfo"][0]["zoneName"], "nova");
}

#[tokio::test]
async fn no_route_answers_without_a_token_but_the_versions() {
    let cloud = Cloud::new().await;
    for route in &cloud.table {
        let path = route.path.replace("{id}", "x").replace(['{', '}'], "");
        let answer = cloud.send("", "2.1", route.method.as_str(), &path, json!({})).await;
        let open = path == "/";
        assert_eq!(answer.status == StatusCode::UNAUTHORIZED, !open, "{} {path}: {}", route.method, answer.status);
    }
}

#[tokio::test]
async fn old_clients_see_images_and_change_their_metadata() {
    let cloud = Cloud::new().await;
    let server = cloud.server(BLUE, "web", json!({})).await;
    cloud.build(&server).await;
    let snap = json!({ "createImage": { "name": "snap", "metadata": { "a": "1" } } });
    let made = cloud.send(BLUE, "2.45", "POST", &format!("/servers/{server}/action"), snap).await.is(202);
    let path = format!("/images/{}", made["image_id"].as_str().unwrap());
    let image = cloud.get(BLUE, "2.1", &path).await.is(200)["image"].clone();
    assert_eq!((&image["status"], &image["server"]["id"]), (&json!("SAVING"), &json!(server)));
    assert_eq!(image["metadata"]["a"], "1");
    for (query, names) in [
        ("?type=snapshot", json!(["snap"])),
        ("?status=ACTIVE&name=snap", json!([])),
        ("?server=https://cloud/servers/none", json!([])),
        ("?changes-since=2100-01-01T00:00:00Z", json!([])),
    ] {
        let listed = cloud.get(BLUE, "2.35", &format!("/images/detail{query}")).await.is(200);
        let found: Value = listed["images"].as_array().unwrap().iter().map(|image| image["name"].clone()).collect();
        assert_eq!(found, names, "{query}");
    }
    cloud.get(BLUE, "2.1", "/images?changes-since=yesterday").await.is(400);
    cloud.get("red:member", "2.1", &path).await.is(404);
    for (version, method, below, body, status) in [
        ("2.38", "POST", "/metadata", json!({ "metadata": { "b": "2" } }), 200),
        ("2.38", "PUT", "/metadata/b", json!({ "meta": { "c": "2" } }), 400),
        ("2.38", "PUT", "/metadata/b", json!({ "meta": { "b": "3" } }), 200),
        ("2.38", "DELETE", "/metadata/a", Value::Null, 204),
        ("2.38", "GET", "/metadata/a", Value::Null, 404),
        ("2.39", "GET", "/metadata", Value::Null, 404),
        ("2.36", "GET", "", Value::Null, 404),
    ] {
        cloud.send(BLUE, version, method, &format!("{path}{below}"), body).await.is(status);
    }
    let all = json!({ "metadata": { "z": "9" } });
    assert_eq!(cloud.send(BLUE, "2.1", "PUT", &format!("{path}/metadata"), all.clone()).await.is(200), all);
    cloud.send("blue:reader", "2.1", "DELETE", &path, Value::Null).await.is(403);
    cloud.send(BLUE, "2.1", "DELETE", &path, Value::Null).await.is(204);
    cloud.get(BLUE, "2.1", &path).await.is(404);
}
