//! Server groups.

use std::sync::Arc;

use ::servers::{Server, ServerGroup, group};
use api::{Caller, Dialect, Fault, Json, Microversion, Path, Query, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use store::Reader;

use crate::body::{Object, only};
use crate::common::{self, Cloud};
use crate::{Compute, fault};

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/os-server-groups", list)
        .post("/os-server-groups", create)
        .get("/os-server-groups/{id}", show)
        .delete("/os-server-groups/{id}", delete)
}

fn shown(reader: &Reader<'_>, group: &ServerGroup, version: Microversion) -> Result<Value, Fault> {
    let mut members = Vec::new();
    for found in reader.by::<Server>(::servers::BY_GROUP, &group.id.to_string()) {
        members.push(found?.0.id.to_string());
    }
    let mut out = json!({ "id": group.id.to_string(), "name": group.name, "members": members });
    if version.at_least(2, 13) {
        out["project_id"] = Value::from(group.project.as_str());
        out["user_id"] = Value::from(group.user.as_str());
    }
    if version.at_least(2, 64) {
        out["policy"] = Value::from(group.policy.as_str());
        out["rules"] = if group.policy == "anti-affinity" && group.max_per_host > 0 {
            json!({ "max_server_per_host": group.max_per_host })
        } else {
            json!({})
        };
    } else {
        out["policies"] = json!([group.policy]);
        out["metadata"] = json!({});
    }
    Ok(out)
}

/// `GET /os-server-groups`
async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    let number = |name: &str| -> Result<Option<usize>, Fault> {
        let Some(text) = common::last(&pairs, name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Fault::bad_request(format!("Invalid {name}: {text}")))
    };
    let (limit, offset) = (number("limit")?.unwrap_or(1000).min(1000), number("offset")?.unwrap_or(0));
    let all = caller.is_admin() && common::last(&pairs, "all_projects").is_some();
    let project = caller.project()?;
    let found = cloud.view.read(|reader| {
        let mut out = Vec::new();
        for found in reader.all::<ServerGroup>() {
            let (group, _) = found?;
            if all || group.project == *project {
                out.push(shown(reader, &group, cx.microversion)?);
            }
        }
        Ok::<_, Fault>(out)
    });
    let found: Vec<Value> = found.await??.into_iter().skip(offset).take(limit).collect();
    Ok(Json(json!({ "server_groups": found })))
}

fn policy(object: &mut Object, version: Microversion) -> Result<String, Fault> {
    let policy = if version.at_least(2, 64) {
        let policy = object.required_text("policy", 1, 64)?;
        if let Some(mut rules) = object.object("rules")? {
            let most = rules.number("max_server_per_host", 1, i64::from(i32::MAX))?;
            rules.end()?;
            if most.is_some() && policy != "anti-affinity" {
                return Err(Fault::bad_request("Only anti-affinity policy supports rules."));
            }
            if most.is_some_and(|most| most != 1) {
                return Err(Fault::bad_request("This cloud supports one server per host for anti-affinity, not more."));
            }
        }
        policy
    } else {
        let list = object.list("policies")?.unwrap_or_default();
        match list.as_slice() {
            [Value::String(policy)] => policy.clone(),
            _ => return Err(Fault::bad_request("Invalid input for field/attribute policies: exactly one is expected")),
        }
    };
    let soft = policy.starts_with("soft-");
    if !group::POLICIES.contains(&policy.as_str()) || (soft && !version.at_least(2, 15)) {
        return Err(Fault::bad_request(format!(
            "Invalid input for field/attribute policy. Value: {policy}. It is not one of {:?}",
            group::POLICIES
        )));
    }
    Ok(policy)
}

/// `POST /os-server-groups`
async fn create(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let mut object = only(body, "server_group")?;
    let name = object.required_name("name")?;
    let policy = policy(&mut object, cx.microversion)?;
    object.end()?;
    let (call, mut span) = cloud.open(&cx, "POST /os-server-groups", None);
    let made = cloud.servers.create_group(&call, &caller, &name, &policy).await;
    let made = span.note(made).map_err(fault::accept)?;
    let shown = cloud.view.read(|reader| shown(reader, &made, cx.microversion)).await??;
    Ok(Json(json!({ "server_group": shown })))
}

/// `GET /os-server-groups/{id}`
async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let found = cloud.view.read(|reader| {
        let (group, _) = group::visible(reader, &caller, &id).map_err(fault::accept)?;
        shown(reader, &group, cx.microversion)
    });
    Ok(Json(json!({ "server_group": found.await?? })))
}

/// `DELETE /os-server-groups/{id}`
async fn delete(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    let (call, mut span) = cloud.open(&cx, "DELETE /os-server-groups/{id}", Some(&id));
    span.note(cloud.servers.delete_group(&call, &caller, &id).await).map_err(fault::accept)?;
    Ok(StatusCode::NO_CONTENT)
}
