//! Compute services: one `nova-compute` a node, up while the node attends.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Microversion, Path, Query, RequestCx, Routes};
use axum::extract::State;
use placement::Node;
use serde_json::{Value, json};

use crate::body::Object;
use crate::common::{self, Cloud, number_of};
use crate::servers::attending;
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

fn shown(node: &Node, up: &BTreeSet<String>, version: Microversion) -> Value {
    let mut out = json!({
        "id": id_of(node, version),
        "binary": BINARY,
        "host": node.name,
        "zone": node.zone,
        "status": if node.disabled.is_none() { "enabled" } else { "disabled" },
        "state": if up.contains(&node.name) { "up" } else { "down" },
        "updated_at": null,
        "disabled_reason": node.disabled.as_ref().filter(|reason| !reason.is_empty()),
    });
    if version.at_least(2, 11) {
        out["forced_down"] = Value::Bool(false);
    }
    out
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
    let up = attending(&cloud, &cx).await.unwrap_or_default();
    let shown: Vec<_> = found.iter().map(|node| shown(node, &up, cx.microversion)).collect();
    Ok(Json(json!({ "services": shown })))
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
    let up = attending(cloud, cx).await.unwrap_or_default();
    Ok(Json(json!({ "service": shown(&node, &up, cx.microversion) })))
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
