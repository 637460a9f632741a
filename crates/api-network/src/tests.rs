//! Requests through the whole family, over a memory store.

use std::sync::Arc;

use api::{Authenticator, Platform, Unobserved};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use identity::caller::ProjectScope;
use identity::{AuthError, Caller, DomainId};
use networks::Networks;
use serde_json::{Value, json};
use tower::ServiceExt;
use world::{Wall, World};

/// A token is `project:role`.
struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, token: &str) -> Result<Arc<Caller>, AuthError> {
        let (project, role) = token.split_once(':').ok_or(AuthError::Invalid("it is none"))?;
        let domain: DomainId = "default".parse().unwrap();
        let roles: &[&str] = match role {
            "admin" => &["admin", "member", "reader"],
            "member" => &["member", "reader"],
            _ => &["reader"],
        };
        Ok(Arc::new(Caller {
            user_id: "u".parse().unwrap(),
            user_name: "u".into(),
            user_domain: (domain.clone(), "Default".into()),
            project: Some(ProjectScope {
                id: project.parse().unwrap(),
                name: project.into(),
                domain: (domain, "Default".into()),
            }),
            domain: None,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            issued: Wall::from_micros(0),
            expires: Wall::from_micros(u64::MAX),
            audit_ids: Vec::new(),
            methods: Vec::new(),
            application_credential: None,
        }))
    }
}

struct Site {
    router: Router,
    routes: Vec<api::Route>,
    world: World,
    cloud: Networks,
}

async fn site() -> Site {
    let world = world::os::OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
    let engine = store::memory::open(&world);
    let view = store::View::open(&world, Arc::new(engine), networks::indexes()).await.unwrap();
    let cloud = Networks::new(&world, view);
    let platform = Platform {
        world: world.clone(),
        auth: Arc::new(Tokens),
        observer: Arc::new(Unobserved),
        region: "RegionOne".into(),
        public_url: "https://cloud".into(),
    };
    let (router, routes) = api::Site::new(&platform).nest("/network", crate::routes(), cloud.clone()).build();
    Site { router, routes, world, cloud }
}

const ME: &str = "p1:member";
const OTHER: &str = "p2:member";
const READER: &str = "p1:reader";
const ADMIN: &str = "admin:admin";

impl Site {
    async fn raw(&self, token: &str, method: Method, path: &str, body: Option<String>) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = if token.is_empty() { request } else { request.header("x-auth-token", token) };
        let request = request.body(body.map_or_else(Body::empty, Body::from)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    #[track_caller]
    fn call(&self, token: &str, line: &str, body: Value) -> impl Future<Output = (u16, Value)> {
        let (method, path) = line.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let (token, path) = (token.to_owned(), format!("/network/v2.0/{path}"));
        let body = (!body.is_null()).then(|| body.to_string());
        async move {
            let (status, answer) = self.raw(&token, method, &path, body).await;
            (status.as_u16(), answer)
        }
    }

    /// A call that has to go well.
    async fn ok(&self, token: &str, line: &str, body: Value) -> Value {
        let (status, answer) = self.call(token, line, body).await;
        assert!((200..300).contains(&status), "{line}: {status} {answer}");
        answer
    }

    /// A call that has to be refused: status and type.
    async fn refused(&self, token: &str, line: &str, body: Value) -> String {
        let (status, answer) = self.call(token, line, body).await;
        let kind = answer["NeutronError"]["type"].as_str().unwrap_or("no NeutronError");
        assert!(answer["NeutronError"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{line}: {answer}");
        format!("{status} {kind}")
    }

    async fn network(&self) -> String {
        let body = json!({ "network": { "name": "n" } });
        self.ok(ME, "POST networks", body).await["network"]["id"].as_str().unwrap().to_owned()
    }

    async fn subnet(&self, network: &str, cidr: &str) -> Value {
        let version = if cidr.contains(':') { 6 } else { 4 };
        let body = json!({ "subnet": { "network_id": network, "cidr": cidr, "ip_version": version } });
        self.ok(ME, "POST subnets", body).await["subnet"].clone()
    }
}

#[tokio::test]
async fn a_tenant_makes_and_deletes_everything_as_the_client_does() {
    let site = site().await;
    let network = site.network().await;
    let subnet = site.subnet(&network, "10.66.0.0/24").await;
    assert_eq!((&subnet["gateway_ip"], &subnet["enable_dhcp"]), (&json!("10.66.0.1"), &json!(true)));
    assert_eq!(subnet["allocation_pools"], json!([{ "start": "10.66.0.2", "end": "10.66.0.254" }]));
    assert_eq!((&subnet["tenant_id"], &subnet["project_id"]), (&json!("p1"), &json!("p1")));
    let shown = site.ok(ME, &format!("GET networks/{network}"), Value::Null).await;
    assert_eq!(shown["network"]["subnets"], json!([subnet["id"]]));
    let port = site.ok(ME, "POST ports", json!({ "port": { "network_id": network, "name": "p" } })).await;
    let port = &port["port"];
    assert!(port["fixed_ips"][0]["ip_address"].as_str().unwrap().starts_with("10.66.0."), "{port}");
    assert_eq!(port["security_groups"].as_array().unwrap().len(), 1);
    let address = port["fixed_ips"][0]["ip_address"].as_str().unwrap();
    let found = site.ok(ME, &format!("GET ports?fixed_ips=ip_address%3D{address}&fields=id"), Value::Null).await;
    assert_eq!(found["ports"], json!([{ "id": port["id"] }]));
    assert_eq!(site.refused(ME, &format!("DELETE networks/{network}"), Value::Null).await, "409 NetworkInUse");
    let subnet_line = format!("DELETE subnets/{}", subnet["id"].as_str().unwrap());
    assert_eq!(site.refused(ME, &subnet_line, Value::Null).await, "409 SubnetInUse");
    site.ok(ME, &format!("DELETE ports/{}", port["id"].as_str().unwrap()), Value::Null).await;

    let group = site.ok(ME, "POST security-groups", json!({ "security_group": { "name": "web" } })).await;
    let group = &group["security_group"];
    assert_eq!(group["security_group_rules"].as_array().unwrap().len(), 2);
    let rule = json!({ "security_group_rule": {
        "security_group_id": group["id"], "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
        "port_range_min": "22", "port_range_max": 22, "remote_ip_prefix": "0.0.0.0/0",
    }});
    let made = site.ok(ME, "POST security-group-rules", rule.clone()).await["security_group_rule"].clone();
    assert_eq!((&made["port_range_min"], &made["protocol"]), (&json!(22), &json!("tcp")));
    assert_eq!(site.refused(ME, "POST security-group-rules", rule).await, "409 SecurityGroupRuleExists");
    site.ok(ME, &format!("DELETE security-group-rules/{}", made["id"].as_str().unwrap()), Value::Null).await;
    site.ok(ME, &format!("DELETE security-groups/{}", group["id"].as_str().unwrap()), Value::Null).await;

    let router = site.ok(ME, "POST routers", json!({ "router": { "name": "r", "external_gateway_info": {} } })).await;
    let router = router["router"]["id"].as_str().unwrap().to_owned();
    let body = json!({ "subnet_id": subnet["id"] });
    let added = site.ok(ME, &format!("PUT routers/{router}/add_router_interface"), body.clone()).await;
    assert_eq!((&added["subnet_id"], &added["id"]), (&subnet["id"], &json!(router)));
    let legs = site.ok(ME, &format!("GET ports?device_id={router}"), Value::Null).await;
    assert_eq!(legs["ports"][0]["device_owner"], "network:router_interface");
    assert_eq!(site.refused(ME, &format!("DELETE routers/{router}"), Value::Null).await, "409 RouterInUse");
    site.ok(ME, &format!("PUT routers/{router}/remove_router_interface"), body).await;
    site.ok(ME, &format!("DELETE routers/{router}"), Value::Null).await;
    site.ok(ME, &format!("DELETE networks/{network}"), Value::Null).await;
    let gone = site.refused(ME, &format!("GET subnets/{}", subnet["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(gone, "404 SubnetNotFound");
}

#[tokio::test]
async fn refusals_are_those_of_neutron() {
    let site = site().await;
    let network = site.network().await;
    site.subnet(&network, "10.1.0.0/24").await;
    let nowhere = "00000000-0000-4000-8000-000000000000";
    let port = |attrs: Value| {
        let mut port = json!({ "network_id": network });
        port.as_object_mut().unwrap().extend(attrs.as_object().unwrap().clone());
        json!({ "port": port })
    };
    let subnet = |attrs: Value| {
        let mut subnet = json!({ "network_id": network, "ip_version": 4, "cidr": "10.2.0.0/24" });
        subnet.as_object_mut().unwrap().extend(attrs.as_object().unwrap().clone());
        json!({ "subnet": subnet })
    };
    let pools = |start: &str, end: &str| json!({ "allocation_pools": [{ "start": start, "end": end }] });
    let cases = [
        (ME, "POST networks", json!({ "network": { "colour": "red" } }), "400 HTTPBadRequest"),
        (ME, "POST networks", json!({ "network": { "admin_state_up": "maybe" } }), "400 HTTPBadRequest"),
        (ME, "POST networks", json!({ "network": { "name": "x".repeat(256) } }), "400 HTTPBadRequest"),
        (ME, "POST networks", json!({ "network": { "mtu": 20 } }), "400 InvalidInput"),
        (ME, "POST networks", json!({ "network": { "shared": true } }), "403 PolicyNotAuthorized"),
        (ME, "POST networks", json!({ "network": { "project_id": "p2" } }), "403 PolicyNotAuthorized"),
        (ADMIN, "POST networks", json!({ "network": { "router:external": true } }), "501 HTTPNotImplemented"),
        (ME, "POST networks", json!({ "networks": [] }), "400 HTTPBadRequest"),
        (ME, "POST networks", json!([]), "400 HTTPBadRequest"),
        (READER, "POST networks", json!({ "network": {} }), "403 PolicyNotAuthorized"),
        (OTHER, "GET networks/{n}", Value::Null, "404 NetworkNotFound"),
        (OTHER, "PUT networks/{n}", json!({ "network": { "name": "mine" } }), "404 NetworkNotFound"),
        (OTHER, "DELETE networks/{n}", Value::Null, "404 NetworkNotFound"),
        (OTHER, "POST ports", port(json!({})), "404 NetworkNotFound"),
        (ME, "GET networks/nonsense", Value::Null, "404 NetworkNotFound"),
        (ME, "GET floatingips", Value::Null, "404 HTTPNotFound"),
        (ME, "PATCH networks/{n}", Value::Null, "405 HTTPMethodNotAllowed"),
        (ME, "GET networks?colour=red", Value::Null, "400 HTTPBadRequest"),
        (ME, "POST subnets", subnet(json!({ "cidr": "10.1.0.128/25" })), "400 InvalidInput"),
        (ME, "POST subnets", subnet(json!({ "cidr": "10.2.0.0" })), "400 HTTPBadRequest"),
        (ME, "POST subnets", subnet(json!({ "ip_version": 6 })), "400 HTTPBadRequest"),
        (ME, "POST subnets", subnet(json!({ "gateway_ip": "10.3.0.1" })), "400 InvalidInput"),
        (ME, "POST subnets", subnet(pools("10.2.0.1", "10.2.0.9")), "409 GatewayConflictWithAllocationPools"),
        (ME, "POST subnets", subnet(pools("10.2.0.9", "10.2.0.3")), "400 InvalidAllocationPool"),
        (ME, "POST subnets", subnet(pools("10.2.0.9", "10.9.0.3")), "400 InvalidInput"),
        (ME, "POST ports", port(json!({ "fixed_ips": [{ "ip_address": "10.1.0.1" }] })), "409 IpAddressInUse"),
        (ME, "POST ports", port(json!({ "fixed_ips": [{ "ip_address": "10.9.0.1" }] })), "400 InvalidInput"),
        (ME, "POST ports", port(json!({ "security_groups": [nowhere] })), "404 SecurityGroupNotFound"),
        (ME, "POST ports", port(json!({ "mac_address": "nonsense" })), "400 HTTPBadRequest"),
        (ME, "POST ports", port(json!({ "binding:host_id": "n1" })), "403 PolicyNotAuthorized"),
        (ME, "POST ports", port(json!({ "fixed_ips": "all" })), "400 HTTPBadRequest"),
        (ME, "POST security-groups", json!({ "security_group": { "name": "default" } }), "409 SecurityGroupConflict"),
        (
            ME,
            "POST security-group-rules",
            json!({ "security_group_rule": {
                "security_group_id": nowhere, "direction": "ingress", "remote_group_id": "no id",
            } }),
            "404 SecurityGroupNotFound",
        ),
        (
            ME,
            "POST routers",
            json!({ "router": { "external_gateway_info": { "network_id": nowhere } } }),
            "404 NetworkNotFound",
        ),
        (
            ME,
            "POST routers",
            json!({ "router": { "external_gateway_info": { "network_id": network } } }),
            "400 InvalidInput",
        ),
        (ME, "GET quotas/p2", Value::Null, "403 PolicyNotAuthorized"),
        (ME, "PUT quotas/p1", json!({ "quota": { "network": 1 } }), "403 PolicyNotAuthorized"),
        (ADMIN, "PUT quotas/p1", json!({ "quota": { "unicorns": 1 } }), "400 HTTPBadRequest"),
    ];
    for (token, line, body, expected) in cases {
        let found = site.refused(token, &line.replace("{n}", &network), body.clone()).await;
        assert_eq!(found, expected, "{line} {body}");
    }
    let (status, answer) = site.call("", "GET networks", Value::Null).await;
    assert_eq!((status, answer["error"]["code"].as_u64()), (401, Some(401)));
}

#[tokio::test]
async fn quotas_hold_and_are_told() {
    let site = site().await;
    site.ok(ADMIN, "PUT quotas/p1", json!({ "quota": { "network": 1, "port": -1 } })).await;
    let network = site.network().await;
    let (status, answer) = site.call(ME, "POST networks", json!({ "network": {} })).await;
    assert_eq!((status, &answer["NeutronError"]["type"]), (409, &json!("OverQuota")));
    // The client asks for this by itself, unless it is told to force the change.
    let lower = |more: Value| json!({ "quota": { "network": 0, "check_limit": true, "force": more } });
    site.refused(ADMIN, "PUT quotas/p1", lower(json!(false))).await;
    site.ok(ADMIN, "PUT quotas/p1", lower(json!(true))).await;
    site.ok(ADMIN, "PUT quotas/p1", json!({ "quota": { "network": 1, "check_limit": true } })).await;
    let details = site.ok(ME, "GET quotas/p1/details.json", Value::Null).await;
    assert_eq!(details["quota"]["network"], json!({ "limit": 1, "used": 1, "reserved": 0 }));
    assert_eq!(site.ok(ME, "GET quotas/p1", Value::Null).await["quota"]["port"], -1);
    site.ok(ADMIN, "DELETE quotas/p1", Value::Null).await;
    assert_eq!(site.ok(ME, "GET quotas/p1", Value::Null).await["quota"]["network"], 100);
    site.ok(ME, &format!("DELETE networks/{network}"), Value::Null).await;
    assert_eq!(site.ok(ME, "GET quotas/p1/details", Value::Null).await["quota"]["network"]["used"], 0);
}

#[tokio::test]
async fn what_is_shared_is_seen_by_all_and_changed_by_few() {
    let site = site().await;
    site.cloud.bootstrap(&"admin".parse().unwrap(), &[]).await.unwrap();
    let seen = site.ok(ME, "GET networks", Value::Null).await;
    let network = seen["networks"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&seen["networks"][0]["name"], &seen["networks"][0]["shared"]), (&json!("private"), &json!(true)));
    let subnets = site.ok(ME, &format!("GET subnets?network_id={network}"), Value::Null).await;
    assert_eq!(subnets["subnets"].as_array().unwrap().len(), 2);
    let id = subnets["subnets"][0]["id"].as_str().unwrap();
    site.ok(ME, &format!("GET subnets/{id}"), Value::Null).await;
    assert_eq!(site.refused(ME, &format!("DELETE networks/{network}"), Value::Null).await, "403 PolicyNotAuthorized");
    let port = site.ok(ME, "POST ports", json!({ "port": { "network_id": network } })).await;
    assert_eq!(port["port"]["fixed_ips"].as_array().unwrap().len(), 2);
    assert!(port["port"].get("binding:host_id").is_none());
    let others = site.ok(OTHER, "GET ports", Value::Null).await;
    assert_eq!(others["ports"], json!([]));
    let port = format!("GET ports/{}", port["port"]["id"].as_str().unwrap());
    assert_eq!(site.refused(OTHER, &port, Value::Null).await, "404 PortNotFound");
    assert_eq!(site.ok(ADMIN, &port, Value::Null).await["port"]["binding:vif_type"], "unbound");
    // Nobody has to make a default group, and each project has its own.
    for token in [ME, OTHER, READER] {
        let groups = site.ok(token, "GET security-groups?name=default", Value::Null).await;
        assert_eq!(groups["security_groups"].as_array().unwrap().len(), 1);
        assert_eq!(groups["security_groups"][0]["security_group_rules"].as_array().unwrap().len(), 4);
    }
}

#[tokio::test]
async fn lists_come_in_pages_and_bulk_creates_as_a_whole() {
    let site = site().await;
    let names = json!({ "networks": [{ "name": "a" }, { "name": "b" }, { "name": "c" }] });
    let made = site.ok(ME, "POST networks", names).await;
    assert_eq!(made["networks"].as_array().unwrap().len(), 3);
    let page = site.ok(ME, "GET networks?limit=2&sort_key=name&fields=name", Value::Null).await;
    assert_eq!(page["networks"], json!([{ "name": "a" }, { "name": "b" }]));
    let next = page["networks_links"][0]["href"].as_str().unwrap();
    let (_, rest) = site.raw(ME, Method::GET, next.strip_prefix("https://cloud").unwrap(), None).await;
    assert_eq!(rest["networks"], json!([{ "name": "c" }]));
    assert_eq!(rest["networks_links"][0]["rel"], "previous");
    let network = made["networks"][0]["id"].clone();
    let bad = json!({ "ports": [{ "network_id": network }, { "network_id": network, "security_groups": ["x"] }] });
    assert_eq!(site.call(ME, "POST ports", bad).await.0, 400);
    assert_eq!(site.ok(ME, "GET ports", Value::Null).await["ports"], json!([]));
    let subnet = |cidr: &str| json!({ "network_id": network, "ip_version": 4, "cidr": cidr });
    let twice = json!({ "subnets": [subnet("10.0.0.0/24"), subnet("10.0.0.0/25")] });
    assert_eq!(site.refused(ME, "POST subnets", twice).await, "400 InvalidInput");
    site.ok(ME, "POST subnets", json!({ "subnets": [subnet("10.0.0.0/24"), subnet("10.0.1.0/24")] })).await;
    let two = json!({ "ports": [{ "network_id": network }, { "network_id": network }] });
    assert_eq!(site.ok(ME, "POST ports", two).await["ports"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn ports_change_and_labels_stick() {
    let site = site().await;
    let network = site.network().await;
    let subnet = site.subnet(&network, "10.1.0.0/24").await;
    let port = site.ok(ME, "POST ports", json!({ "port": { "network_id": network } })).await["port"].clone();
    let line = format!("ports/{}", port["id"].as_str().unwrap());
    let second = json!({ "port": { "name": "x", "admin_state_up": false, "fixed_ips": [
        port["fixed_ips"][0], { "subnet_id": subnet["id"] },
    ], "allowed_address_pairs": [{ "ip_address": "10.9.0.0/24" }], "security_groups": [] } });
    let changed = site.ok(ME, &format!("PUT {line}"), second).await["port"].clone();
    assert_eq!(changed["fixed_ips"].as_array().unwrap().len(), 2);
    assert_eq!(changed["fixed_ips"][0], port["fixed_ips"][0]);
    assert_eq!(changed["allowed_address_pairs"][0]["mac_address"], port["mac_address"]);
    assert_eq!((&changed["revision_number"], &changed["status"]), (&json!(2), &json!("DOWN")));
    let foreign = json!({ "port": { "allowed_address_pairs": [
        { "ip_address": "10.9.0.1", "mac_address": "fa:16:3e:00:00:09" },
    ] } });
    assert_eq!(site.refused(ME, &format!("PUT {line}"), foreign).await, "501 HTTPNotImplemented");
    let one = json!({ "port": { "fixed_ips": [{ "subnet_id": subnet["id"] }] } });
    let changed = site.ok(ME, &format!("PUT {line}"), one).await["port"].clone();
    assert_eq!(changed["fixed_ips"], port["fixed_ips"], "an address of that subnet is kept");
    assert_eq!(site.call(ME, &format!("PUT {line}/tags/red"), Value::Null).await.0, 201);
    assert_eq!(site.call(ME, &format!("GET {line}/tags/red"), Value::Null).await.0, 204);
    assert_eq!(site.refused(ME, &format!("DELETE {line}/tags/blue"), Value::Null).await, "404 TagNotFound");
    let found = site.ok(ME, "GET ports?tags=red", Value::Null).await;
    assert_eq!(found["ports"][0]["tags"], json!(["red"]));
    site.ok(ME, &format!("DELETE {line}/tags"), Value::Null).await;
    site.ok(ME, &format!("DELETE {line}"), Value::Null).await;
}

#[tokio::test]
async fn discovery_needs_no_token_and_extensions_are_found_by_alias() {
    let site = site().await;
    let (status, versions) = site.raw("", Method::GET, "/network", None).await;
    assert_eq!((status, &versions["versions"][0]["id"]), (StatusCode::OK, &json!("v2.0")));
    assert_eq!(versions["versions"][0]["links"][0]["href"], "https://cloud/network/v2.0/");
    for path in ["/network/", "/network/v2.0", "/network/v2.0/"] {
        assert_eq!(site.raw("", Method::GET, path, None).await.0, StatusCode::OK, "{path}");
    }
    let all = site.ok(ME, "GET extensions", Value::Null).await;
    for extension in all["extensions"].as_array().unwrap() {
        site.ok(ME, &format!("GET extensions/{}", extension["alias"].as_str().unwrap()), Value::Null).await;
    }
    for absent in ["external-net", "floating-ip-port-forwarding"] {
        assert_eq!(site.call(ME, &format!("GET extensions/{absent}"), Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn no_route_fails_for_reasons_of_its_own() {
    let site = site().await;
    let id = ids_like(&site.world);
    let bodies =
        [None, Some("{"), Some("[]"), Some("{}"), Some("null"), Some("7"), Some(r#"{"port":{"network_id":{}}}"#)];
    for route in &site.routes {
        for id in [id.as_str(), "nonsense", "%00", "..%2f"] {
            let mut path = route.path.clone();
            while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
                path.replace_range(from..=to, id);
            }
            for body in bodies {
                for token in ["", "bad", ME, ADMIN] {
                    let (status, answer) = site.raw(token, route.method.clone(), &path, body.map(str::to_owned)).await;
                    assert!(status.as_u16() < 500, "{} {path} {body:?}: {status} {answer}", route.method);
                }
            }
        }
    }
}

fn ids_like(world: &World) -> String {
    networks::NetworkId::random(world).to_string()
}
