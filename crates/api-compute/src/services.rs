//! Compute services: one `nova-compute` a node, and one for each coordinator and scheduler, as Nova names them. Each is up
//! while liveness says that its process is there.

use std::sync::Arc;

use api::time::iso_micro;
use api::{Caller, Dialect, Fault, Json, Microversion, Path, Query, RequestCx, Routes};
use axum::extract::State;
use ids::uuid::Uuid;
use names::{Listing, Status};
use pki::Role;
use placement::Node;
use serde_json::{Value, json};

use crate::body::Object;
use crate::common::{self, Cloud, number_of};
use crate::servers::presence;
use crate::{Compute, fault};

const BINARY: &str = "nova-compute";

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/os-services", list)
        .put("/os-services/{what}", update)
        .delete("/os-services/{what}", delete)
}

fn id_of(node: &Node, version: Microversion) -> Value {
    if version.at_least(2, 53) { json!(node.id.to_string()) } else { json!(number_of(&node.id)) }
}

fn shown(node: &Node, status: Option<&Status>, version: Microversion) -> Value {
    let mut out = json!({
        "id": id_of(node, version),
        "binary": BINARY,
        "host": node.name,
        "zone": node.zone,
        "status": if node.disabled.is_none() { "enabled" } else { "disabled" },
        "state": if status == Some(&Status::Alive) { "up" } else { "down" },
        "updated_at": updated(status),
        "disabled_reason": node.disabled.as_ref().filter(|reason| !reason.is_empty()),
    });
    if version.at_least(2, 11) {
        out["forced_down"] = Value::Bool(false);
    }
    out
}

/// Since when it is as it is; of one that is there nothing is written down.
fn updated(status: Option<&Status>) -> Value {
    let since = status.and_then(Status::since);
    since.map_or(Value::Null, |since| json!(iso_micro(since)))
}

/// What Nova calls the processes that play these roles.
const CENTRAL: [(Role, &str); 2] = [(Role::Coordinator, "nova-conductor"), (Role::Scheduler, "nova-scheduler")];

/// The processes of the cell that are no node, as Nova would show them.
fn central(cloud: &Compute, version: Microversion) -> Vec<Value> {
    let processes = CENTRAL
        .iter()
        .flat_map(|(role, binary)| cloud.directory.of(*role).into_iter().map(move |listing| (listing, *binary)));
    let show = |(listing, binary): (Arc<Listing>, &str)| {
        let id = central_id(binary, &listing.who.name);
        let mut out = json!({
            "id": if version.at_least(2, 53) { json!(id.to_string()) } else { json!(number_of(&id)) },
            "binary": binary,
            "host": listing.who.name,
            "zone": "internal",
            "status": "enabled",
            "state": if listing.status == Status::Alive { "up" } else { "down" },
            "updated_at": updated(Some(&listing.status)),
            "disabled_reason": null,
        });
        if version.at_least(2, 11) {
            out["forced_down"] = Value::Bool(false);
        }
        out
    };
    processes.map(show).collect()
}

/// The same id in every answer of every process: drawn from the names.
fn central_id(binary: &str, host: &str) -> Uuid {
    let hash = |seed: u64| {
        let bytes = binary.bytes().chain([b'/']).chain(host.bytes());
        bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let bits = u128::from(hash(0xcbf2_9ce4_8422_2325)) << 64 | u128::from(hash(0x8422_2325_cbf2_9ce4));
    ids::uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
}

async fn nodes(cloud: &Compute) -> Result<Vec<Node>, Fault> {
    let nodes = cloud
        .view
        .read(|reader| reader.all::<Node>().map(|found| found.map(|(node, _)| node)).collect::<Result<Vec<_>, _>>());
    Ok(nodes.await??)
}

/// `GET /os-services`
async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-services:list")?;
    let unknown = pairs.iter().find(|(name, _)| name != "host" && name != "binary");
    if let Some((name, _)) = unknown.filter(|_| cx.microversion.at_least(2, 75)) {
        return Err(Fault::bad_request(format!("Additional properties are not allowed ('{name}' was unexpected)")));
    }
    let (host, binary) = (common::last(&pairs, "host"), common::last(&pairs, "binary"));
    let mut found = nodes(&cloud).await?;
    found.retain(|node| host.is_none_or(|host| host == node.name) && binary.is_none_or(|binary| binary == BINARY));
    let presence = presence(&cloud);
    let mut all: Vec<_> = found.iter().map(|node| shown(node, presence.get(&node.name), cx.microversion)).collect();
    let mut others = central(&cloud, cx.microversion);
    others.retain(|one| {
        host.is_none_or(|host| one["host"] == host) && binary.is_none_or(|binary| one["binary"] == binary)
    });
    all.extend(others);
    Ok(Json(json!({ "services": all })))
}

/// `PUT /os-services/{id}` since 2.53; before that `PUT /os-services/{verb}`.
async fn update(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(what): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-services:update")?;
    let body = Object::new(body, "body")?;
    if cx.microversion.at_least(2, 53) {
        by_id(&cloud, &cx, &what, body).await
    } else {
        by_verb(&cloud, &cx, &what, body).await
    }
}

async fn by_id(cloud: &Compute, cx: &RequestCx, id: &str, mut body: Object) -> Result<Json<Value>, Fault> {
    let status = body.text("status", 1, 16)?;
    let reason = body.text("disabled_reason", 1, 255)?;
    let forced_down = body.boolean("forced_down")?;
    body.end()?;
    let found = nodes(cloud).await?.into_iter().find(|node| node.id.to_string() == id);
    let node = found.ok_or_else(|| Fault::not_found(format!("Service {id} could not be found.")))?;
    if forced_down.is_some() {
        return Err(fault::not_yet("force a service down"));
    }
    let disabled = match (status.as_deref(), reason) {
        (Some("disabled"), reason) => Some(reason.unwrap_or_default()),
        (Some("enabled"), None) => None,
        (Some("enabled"), Some(_)) => {
            return Err(Fault::bad_request("Specifying disabled_reason when status is enabled is not allowed."));
        }
        (Some(_), _) => return Err(Fault::bad_request("Invalid input for field/attribute status")),
        (None, _) => {
            return Err(Fault::bad_request(
                "No updates were requested. Fields 'status' or 'forced_down' should be specified.",
            ));
        }
    };
    let node = set(cloud, cx, &node.name, disabled.as_deref()).await?;
    let status = presence(cloud).remove(&node.name);
    Ok(Json(json!({ "service": shown(&node, status.as_ref(), cx.microversion) })))
}

async fn by_verb(cloud: &Compute, cx: &RequestCx, verb: &str, mut body: Object) -> Result<Json<Value>, Fault> {
    let disabled = match verb {
        "enable" => None,
        "disable" => Some(String::new()),
        "disable-log-reason" => Some(body.required_text("disabled_reason", 1, 255)?),
        "force-down" if cx.microversion.at_least(2, 11) => return Err(fault::not_yet("force a service down")),
        _ => return Err(Fault::not_found("Unknown action")),
    };
    let host = body.required_text("host", 1, 255)?;
    let binary = body.required_text("binary", 1, 255)?;
    body.take("disabled_reason");
    body.end()?;
    if binary != BINARY {
        return Err(Fault::not_found(format!("Could not find binary {binary} on host {host}.")));
    }
    let node = set(cloud, cx, &host, disabled.as_deref()).await?;
    let mut out = json!({
        "host": node.name, "binary": BINARY, "status": if node.disabled.is_none() { "enabled" } else { "disabled" },
    });
    if let Some(reason) = node.disabled.filter(|reason| !reason.is_empty()) {
        out["disabled_reason"] = json!(reason);
    }
    Ok(Json(json!({ "service": out })))
}

async fn set(cloud: &Compute, cx: &RequestCx, name: &str, disabled: Option<&str>) -> Result<Node, Fault> {
    let (call, mut span) = cloud.open(cx, "PUT /os-services", Some(name));
    span.note(cloud.servers.disable_host(&call, name, disabled).await).map_err(fault::accept)
}

/// `DELETE /os-services/{id}`
async fn delete(caller: Caller) -> Result<(), Fault> {
    common::admin(&caller, "os_compute_api:os-services:delete")?;
    Err(fault::not_yet("forget a host"))
}
