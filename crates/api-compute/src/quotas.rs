//! Limits and quotas.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::servers::limits::used;
use api::{Caller, Dialect, Fault, Json, Microversion, Path, Query, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::ProjectId;
use identity::record::Project;
use placement::quota::{self, DEFAULTS, InForce};
use serde_json::{Map, Value, json};
use store::Reader;

use crate::body::only;
use crate::common::{self, Cloud};
use crate::{Compute, fault};

/// Resources of the networking API that Nova spoke for before 2.36; limits on them are set there.
const OF_NETWORKS: [(&str, i64); 4] =
    [("fixed_ips", -1), ("floating_ips", -1), ("security_groups", -1), ("security_group_rules", -1)];

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/limits", limits)
        .get("/os-quota-sets/{project}", show)
        .put("/os-quota-sets/{project}", update)
        .delete("/os-quota-sets/{project}", reset)
        .get("/os-quota-sets/{project}/defaults", defaults)
        .get("/os-quota-sets/{project}/detail", detail)
        .get("/os-quota-class-sets/{class}", class)
        .put("/os-quota-class-sets/{class}", change_class)
}

/// The project with this id; a request that names none that exists is a mistake of its own.
pub(crate) async fn existing(cloud: &Compute, id: &str) -> Result<ProjectId, Fault> {
    let wrong = || Fault::bad_request(format!("Project ID {id} is not a valid project."));
    let project: ProjectId = id.parse().map_err(|_| wrong())?;
    let found = cloud.view.read(|reader| reader.get::<Project>(&project)).await??;
    found.map(|_| project).ok_or_else(wrong)
}

/// Resources that this version speaks of, with their default limits.
fn resources(version: Microversion) -> impl Iterator<Item = (&'static str, i64)> {
    DEFAULTS.iter().copied().filter(move |(name, _)| !(version.at_least(2, 57) && name.starts_with("injected_")))
}

fn limit(in_force: &InForce, resource: &str) -> i64 {
    in_force.limit(resource).map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

fn set_of(version: Microversion, value: impl Fn(&str, i64) -> Value) -> Map<String, Value> {
    let mut out: Map<String, Value> =
        resources(version).map(|(name, default)| (name.to_owned(), value(name, default))).collect();
    if !version.at_least(2, 36) {
        out.extend(OF_NETWORKS.iter().map(|(name, limit)| ((*name).to_owned(), value(name, *limit))));
    }
    out
}

fn may_see(caller: &Caller, project: &str) -> Result<(), Fault> {
    let own = caller.project.as_ref().is_some_and(|scope| scope.id.as_str() == project);
    if own { Ok(()) } else { common::admin(caller, "os_compute_api:os-quota-sets:show") }
}

fn named(mut set: Map<String, Value>, project: &str) -> Json<Value> {
    set.insert("id".into(), Value::from(project));
    Json(json!({ "quota_set": set }))
}

/// `GET /os-quota-sets/{project}`
async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(project): Path<String>,
) -> Result<Json<Value>, Fault> {
    may_see(&caller, &project)?;
    Ok(named(current(&cloud, &cx, &project).await?, &project))
}

async fn current(cloud: &Compute, cx: &RequestCx, project: &str) -> Result<Map<String, Value>, Fault> {
    let in_force = cloud.view.read(|reader| quota::in_force(reader, project)).await??;
    Ok(set_of(cx.microversion, |name, default| json!(if of_networks(name) { default } else { limit(&in_force, name) })))
}

fn of_networks(name: &str) -> bool {
    OF_NETWORKS.iter().any(|(known, _)| *known == name)
}

/// `GET /os-quota-sets/{project}/detail`
async fn detail(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(project): Path<String>,
) -> Result<Json<Value>, Fault> {
    may_see(&caller, &project)?;
    let set = cloud.view.read(|reader| {
        let in_force = quota::in_force(reader, &project)?;
        Ok::<_, Fault>(set_of(cx.microversion, |name, default| {
            let limit = if of_networks(name) { default } else { limit(&in_force, name) };
            json!({ "limit": limit, "in_use": in_use(reader, &project, name), "reserved": 0 })
        }))
    });
    Ok(named(set.await??, &project))
}

fn in_use(reader: &Reader<'_>, project: &str, resource: &str) -> u64 {
    match resource {
        // Counted for a user, and for a group: a project has none of its own.
        "key_pairs" | "server_group_members" | "metadata_items" => 0,
        counted => used(reader, project, counted),
    }
}

/// `GET /os-quota-sets/{project}/defaults`
async fn defaults(cx: RequestCx, caller: Caller, Path(project): Path<String>) -> Result<Json<Value>, Fault> {
    caller.project()?;
    Ok(named(set_of(cx.microversion, |_, default| json!(default)), &project))
}

/// A change for one user must not become one for all.
fn of_no_user(pairs: &[(String, String)]) -> Result<(), Fault> {
    match common::last(pairs, "user_id") {
        None => Ok(()),
        Some(_) => Err(Fault::bad_request("Quotas of single users within a project are not supported by this cloud.")),
    }
}

/// `PUT /os-quota-sets/{project}`
async fn update(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(project): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-quota-sets:update")?;
    of_no_user(&pairs)?;
    existing(&cloud, &project).await?;
    let mut object = only(body, "quota_set")?;
    let force = object.boolean("force")?.unwrap_or(false);
    object.optional_text("tenant_id", 0, 255)?;
    let mut limits = BTreeMap::new();
    for (name, _) in resources(cx.microversion) {
        if let Some(limit) = object.number(name, -1, i64::from(i32::MAX))? {
            limits.insert(name.to_owned(), limit);
        }
    }
    if !cx.microversion.at_least(2, 36) {
        for (name, _) in OF_NETWORKS {
            if object.number(name, -1, i64::from(i32::MAX))?.is_some_and(|limit| limit != -1) {
                return Err(Fault::bad_request(format!("The limit of {name} is set with the networking API.")));
            }
        }
    }
    object.end()?;
    let (call, mut span) = cloud.open(&cx, "PUT /os-quota-sets/{project}", Some(&project));
    span.note(cloud.servers.set_limits(&call, &project, &limits, force).await).map_err(fault::accept)?;
    Ok(Json(json!({ "quota_set": current(&cloud, &cx, &project).await? })))
}

/// `DELETE /os-quota-sets/{project}`: back to the defaults.
async fn reset(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(project): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<StatusCode, Fault> {
    common::admin(&caller, "os_compute_api:os-quota-sets:delete")?;
    of_no_user(&pairs)?;
    let (call, mut span) = cloud.open(&cx, "DELETE /os-quota-sets/{project}", Some(&project));
    span.note(cloud.servers.reset_limits(&call, &project).await).map_err(fault::accept)?;
    Ok(StatusCode::ACCEPTED)
}

/// `GET /os-quota-class-sets/{class}`: the defaults, whatever the class is called.
async fn class(cx: RequestCx, caller: Caller, Path(class): Path<String>) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-quota-class-sets:show")?;
    let version = cx.microversion;
    let mut set = set_of(version, |_, default| json!(default));
    if !version.at_least(2, 50) {
        set.remove("server_groups");
        set.remove("server_group_members");
    }
    set.insert("id".into(), Value::from(class));
    Ok(Json(json!({ "quota_class_set": set })))
}

/// `PUT /os-quota-class-sets/{class}`
async fn change_class(caller: Caller) -> Result<(), Fault> {
    common::admin(&caller, "os_compute_api:os-quota-class-sets:update")?;
    Err(fault::not_yet("change the default quotas"))
}

/// `GET /limits`
async fn limits(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    let project = match common::last(&pairs, "tenant_id") {
        Some(other) if caller.project()?.as_str() != other => {
            common::admin(&caller, "os_compute_api:limits:other_project")?;
            other.to_owned()
        }
        Some(_) | None => caller.project()?.to_string(),
    };
    let version = cx.microversion;
    let absolute = cloud.view.read(|reader| {
        let in_force = quota::in_force(reader, &project)?;
        let limit = |name: &str| json!(limit(&in_force, name));
        let used = |name: &str| json!(used(reader, &project, name));
        let mut out = json!({
            "maxTotalInstances": limit("instances"),
            "maxTotalCores": limit("cores"),
            "maxTotalRAMSize": limit("ram"),
            "maxServerMeta": limit("metadata_items"),
            "maxTotalKeypairs": limit("key_pairs"),
            "maxServerGroups": limit("server_groups"),
            "maxServerGroupMembers": limit("server_group_members"),
            "totalInstancesUsed": used("instances"),
            "totalCoresUsed": used("cores"),
            "totalRAMUsed": used("ram"),
            "totalServerGroupsUsed": used("server_groups"),
        });
        if !version.at_least(2, 36) {
            for name in ["maxTotalFloatingIps", "maxSecurityGroups", "maxSecurityGroupRules"] {
                out[name] = json!(-1);
            }
            out["totalFloatingIpsUsed"] = json!(0);
            out["totalSecurityGroupsUsed"] = json!(0);
        }
        if !version.at_least(2, 39) {
            out["maxImageMeta"] = limit("metadata_items");
        }
        if !version.at_least(2, 57) {
            out["maxPersonality"] = limit("injected_files");
            out["maxPersonalitySize"] = limit("injected_file_content_bytes");
        }
        Ok::<_, Fault>(out)
    });
    Ok(Json(json!({ "limits": { "rate": [], "absolute": absolute.await?? } })))
}
