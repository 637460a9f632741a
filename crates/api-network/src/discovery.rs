//! What the API says of itself: its version, its resources, its extensions.

use api::{Fault, Json, Path, RequestCx};
use serde_json::{Value, json};

/// The extensions that are there: (alias, name, what it does). Of `allowed-address-pairs` one thing is missing: a pair with
/// another hardware address than the port's is refused as not there yet. Without the alias clients would not offer the rest.
const EXTENSIONS: [(&str, &str, &str); 19] = [
    ("allowed-address-pairs", "Allowed Address Pairs", "Addresses that may pass a port beside its own"),
    ("binding", "Port Binding", "Where ports are realised"),
    ("filter-validation", "Filter parameters validation", "Filters on unknown fields are refused"),
    ("ip-substring-filtering", "IP address substring filtering", "Ports by a part of an address"),
    ("net-mtu", "Network MTU", "The MTU of networks"),
    ("net-mtu-writable", "Network MTU (writable)", "The MTU of networks may be set"),
    ("pagination", "Pagination support", "Lists come in pages"),
    ("port-security", "Port Security", "Anti-spoofing may be switched off for a port"),
    ("project-id", "project_id field enabled", "project_id beside tenant_id"),
    ("quota-check-limit", "Quota engine limit check", "A limit below what is used is refused if that is asked for"),
    ("quota_details", "Quota details management support", "Limits with what is used of them"),
    ("quotas", "Quota management support", "Limits of projects"),
    ("router", "Neutron L3 Router", "Routers between the networks of a project"),
    ("security-group", "security-group", "Stateful filters on ports"),
    ("security-groups-normalized-cidr", "Normalized CIDR field for security group rules", "What a rule's range means"),
    ("sorting", "Sorting support", "Lists in any order"),
    ("standard-attr-description", "standard-attr-description", "Descriptions of all resources"),
    ("standard-attr-revisions", "Resource revision numbers", "A number that rises with each change"),
    ("standard-attr-timestamp", "Resource timestamps", "When resources were made and changed"),
];
/// An extension with labels has a name of its own, and a filter language.
const TAGS: (&str, &str, &str) = ("standard-attr-tag", "Tag support for resources with standard attribute", "Labels");

/// Collections: the name of one, of many in a body, of many in a path.
const COLLECTIONS: [(&str, &str, &str); 6] = [
    ("network", "networks", "networks"),
    ("subnet", "subnets", "subnets"),
    ("port", "ports", "ports"),
    ("router", "routers", "routers"),
    ("security_group", "security_groups", "security-groups"),
    ("security_group_rule", "security_group_rules", "security-group-rules"),
];

fn base(cx: &RequestCx) -> String {
    format!("{}/network/v2.0/", cx.platform.public_url)
}

/// `GET /`
pub(crate) async fn versions(cx: RequestCx) -> Json<Value> {
    let links = json!([{ "rel": "self", "href": base(&cx) }]);
    Json(json!({ "versions": [{ "id": "v2.0", "status": "CURRENT", "links": links }] }))
}

/// `GET /v2.0`
pub(crate) async fn resources(cx: RequestCx) -> Json<Value> {
    let base = base(&cx);
    let resource = |(one, many, path): &(&str, &str, &str)| {
        let links = json!([{ "rel": "self", "href": format!("{base}{path}") }]);
        json!({ "name": one, "collection": many, "links": links })
    };
    Json(json!({ "resources": COLLECTIONS.iter().map(resource).collect::<Vec<_>>() }))
}

fn shown((alias, name, description): &(&str, &str, &str)) -> Value {
    json!({
        "alias": alias,
        "name": name,
        "description": description,
        "updated": "2026-01-01T00:00:00-00:00",
        "links": [],
    })
}

/// `GET /v2.0/extensions`
pub(crate) async fn extensions(_caller: api::Caller) -> Json<Value> {
    let all: Vec<Value> = EXTENSIONS.iter().chain([&TAGS]).map(shown).collect();
    Json(json!({ "extensions": all }))
}

/// `GET /v2.0/extensions/{alias}`
pub(crate) async fn extension(_caller: api::Caller, Path(alias): Path<String>) -> Result<Json<Value>, Fault> {
    let found = EXTENSIONS.iter().chain([&TAGS]).find(|(known, _, _)| *known == alias);
    let missing = || {
        let alias: String = alias.chars().take(64).collect();
        Fault::not_found(format!("Extension with alias {alias} does not exist")).kind("HTTPNotFound")
    };
    Ok(Json(json!({ "extension": shown(found.ok_or_else(missing)?) })))
}
