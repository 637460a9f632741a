//! Aggregates and availability zones.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::servers::aggregate::{self, Aggregate, AggregateChange};
use api::time::iso_micro;
use api::{Caller, Dialect, Fault, Json, Microversion, Path, RequestCx, Routes};
use axum::extract::State;
use placement::Node;
use serde_json::{Value, json};

use crate::body::{Object, only, text};
use crate::common::{self, Cloud, since};
use crate::servers::{is_up, presence};
use crate::{Compute, fault};

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/os-aggregates", list)
        .post("/os-aggregates", create)
        .get("/os-aggregates/{id}", show)
        .put("/os-aggregates/{id}", update)
        .delete("/os-aggregates/{id}", delete)
        .post("/os-aggregates/{id}/action", act)
        .post("/os-aggregates/{id}/images", cache_images)
        .get("/os-availability-zone", zones)
        .get("/os-availability-zone/detail", zones_in_detail)
}

fn shown(aggregate: &Aggregate, version: Microversion) -> Value {
    let mut metadata = aggregate.metadata.clone();
    if let Some(zone) = &aggregate.zone {
        metadata.insert("availability_zone".into(), zone.clone());
    }
    let mut out = json!({
        "id": aggregate.id,
        "name": aggregate.name,
        "availability_zone": aggregate.zone,
        "hosts": aggregate.hosts,
        "metadata": metadata,
        "created_at": iso_micro(aggregate.created),
        "updated_at": aggregate.updated.map(iso_micro),
        "deleted_at": null,
        "deleted": false,
    });
    if version.at_least(2, 41) {
        out["uuid"] = Value::from(aggregate.uuid.to_string());
    }
    out
}

/// A zone's name may not hold what `zone:host` is split at.
fn zone(object: &mut Object) -> Result<Option<String>, Fault> {
    let zone = object.optional_text("availability_zone", 1, 255)?;
    match zone {
        Some(zone) if zone.contains(':') || zone.trim() != zone => Err(Fault::bad_request(format!(
            "Invalid input for field/attribute availability_zone. Value: {zone}. It is no name of a zone"
        ))),
        other => Ok(other),
    }
}

/// `GET /os-aggregates`
async fn list(State(cloud): Cloud, cx: RequestCx, caller: Caller) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-aggregates:index")?;
    let found = cloud.view.read(|reader| {
        let all = reader.all::<Aggregate>().map(|found| found.map(|(aggregate, _)| shown(&aggregate, cx.microversion)));
        all.collect::<Result<Vec<_>, _>>()
    });
    Ok(Json(json!({ "aggregates": found.await?? })))
}

/// `POST /os-aggregates`
async fn create(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-aggregates:create")?;
    let mut object = only(body, "aggregate")?;
    let name = object.required_name("name")?;
    let zone = zone(&mut object)?;
    object.end()?;
    let (call, mut span) = cloud.open(&cx, "POST /os-aggregates", None);
    let made = cloud.servers.create_aggregate(&call, &name, zone.as_deref()).await;
    let made = span.note(made).map_err(fault::accept)?;
    let mut out = shown(&made, cx.microversion);
    // Nova's answer to this request has neither.
    if let Value::Object(members) = &mut out {
        members.remove("hosts");
        members.remove("metadata");
    }
    Ok(Json(json!({ "aggregate": out })))
}

/// `GET /os-aggregates/{id}`
async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-aggregates:show")?;
    let found = cloud.view.read(|reader| aggregate::required(reader, &id)).await?;
    let (aggregate, _) = found.map_err(fault::accept)?;
    Ok(Json(json!({ "aggregate": shown(&aggregate, cx.microversion) })))
}

async fn change(
    cloud: &Compute,
    cx: &RequestCx,
    id: &str,
    name: &'static str,
    changes: &[AggregateChange],
) -> Result<Json<Value>, Fault> {
    let (call, mut span) = cloud.open(cx, name, Some(id));
    let changed = span.note(cloud.servers.change_aggregate(&call, id, changes).await).map_err(fault::accept)?;
    Ok(Json(json!({ "aggregate": shown(&changed, cx.microversion) })))
}

/// `PUT /os-aggregates/{id}`
async fn update(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-aggregates:update")?;
    let mut object = only(body, "aggregate")?;
    let mut changes = Vec::new();
    if let Some(name) = object.name("name")? {
        changes.push(AggregateChange::Name(name));
    }
    if object.has("availability_zone") {
        changes.push(AggregateChange::Zone(zone(&mut object)?));
    }
    object.end()?;
    if changes.is_empty() {
        return Err(Fault::bad_request("Invalid input for field/attribute aggregate: a name or a zone is expected"));
    }
    change(&cloud, &cx, &id, "PUT /os-aggregates/{id}", &changes).await
}

/// `DELETE /os-aggregates/{id}`
async fn delete(State(cloud): Cloud, cx: RequestCx, caller: Caller, Path(id): Path<String>) -> Result<(), Fault> {
    common::admin(&caller, "os_compute_api:os-aggregates:delete")?;
    let (call, mut span) = cloud.open(&cx, "DELETE /os-aggregates/{id}", Some(&id));
    span.note(cloud.servers.delete_aggregate(&call, &id).await).map_err(fault::accept)
}

/// `POST /os-aggregates/{id}/action`
async fn act(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let Some((verb, value)) = Object::new(body, "body")?.single() else {
        return Err(Fault::bad_request("Malformed request body: exactly one action is expected"));
    };
    common::admin(&caller, &format!("os_compute_api:os-aggregates:{verb}"))?;
    let mut object = Object::new(value, &verb)?;
    let wanted = match verb.as_str() {
        "add_host" => AggregateChange::AddHost(object.required_text("host", 1, 255)?),
        "remove_host" => AggregateChange::RemoveHost(object.required_text("host", 1, 255)?),
        "set_metadata" => AggregateChange::Metadata(metadata(object.required_object("metadata")?)?),
        other => return Err(Fault::bad_request(format!("There is no such action: {other}"))),
    };
    object.end()?;
    change(&cloud, &cx, &id, "POST /os-aggregates/{id}/action", &[wanted]).await
}

fn metadata(mut object: Object) -> Result<BTreeMap<String, Option<String>>, Fault> {
    let mut out = BTreeMap::new();
    for name in object.names() {
        if name.is_empty() || name.chars().count() > 255 {
            return Err(Fault::bad_request(
                "Invalid input for field/attribute metadata: keys have 1 to 255 characters",
            ));
        }
        let value = object.given(&name).map(|value| text(value, "metadata", 0, 255)).transpose()?;
        out.insert(name, value);
    }
    Ok(out)
}

/// `POST /os-aggregates/{id}/images`
async fn cache_images(cx: RequestCx, caller: Caller) -> Result<(), Fault> {
    since(cx.microversion, 81)?;
    common::admin(&caller, "compute:aggregates:images")?;
    Err(fault::not_yet("put images into the caches of hosts ahead of time"))
}

async fn by_zone(cloud: &Compute) -> Result<BTreeMap<String, Vec<Node>>, Fault> {
    let nodes = cloud
        .view
        .read(|reader| reader.all::<Node>().map(|found| found.map(|(node, _)| node)).collect::<Result<Vec<_>, _>>());
    let mut zones: BTreeMap<String, Vec<Node>> = BTreeMap::new();
    for node in nodes.await?? {
        zones.entry(node.zone.clone()).or_default().push(node);
    }
    Ok(zones)
}

fn zone_state(nodes: &[Node]) -> Value {
    json!({ "available": nodes.iter().any(|node| node.disabled.is_none()) })
}

/// `GET /os-availability-zone`
async fn zones(State(cloud): Cloud, caller: Caller) -> Result<Json<Value>, Fault> {
    caller.project()?;
    let zones = by_zone(&cloud).await?;
    let shown =
        zones.iter().map(|(name, nodes)| json!({ "zoneName": name, "zoneState": zone_state(nodes), "hosts": null }));
    Ok(Json(json!({ "availabilityZoneInfo": shown.collect::<Vec<_>>() })))
}

/// `GET /os-availability-zone/detail`
async fn zones_in_detail(State(cloud): Cloud, caller: Caller) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-availability-zone:detail")?;
    let zones = by_zone(&cloud).await?;
    let presence = presence(&cloud);
    let host = |node: &Node| {
        let service =
            json!({ "available": node.disabled.is_none(), "active": is_up(&presence, &node.name), "updated_at": null });
        (node.name.clone(), json!({ "nova-compute": service }))
    };
    let shown = zones.iter().map(|(name, nodes)| {
        let hosts: serde_json::Map<String, Value> = nodes.iter().map(host).collect();
        json!({ "zoneName": name, "zoneState": zone_state(nodes), "hosts": hosts })
    });
    Ok(Json(json!({ "availabilityZoneInfo": shown.collect::<Vec<_>>() })))
}
