//! Quotas of projects.

use std::collections::BTreeMap;

use api::{Caller, Fault, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use networks::quota::{self, Quota, Resource};
use networks::{NetError, Networks, ProjectId, Who};
use serde_json::{Map, Value, json};

use crate::attrs::Attrs;
use crate::common::viewer;
use crate::fault::fault;

pub(crate) fn routes() -> Routes<Networks> {
    Routes::new(api::Dialect::Neutron)
        .get("/v2.0/quotas", list)
        .get("/v2.0/quotas/tenant", tenant)
        .get("/v2.0/quotas/project", tenant)
        .get("/v2.0/quotas/{project}", show)
        .put("/v2.0/quotas/{project}", update)
        .delete("/v2.0/quotas/{project}", delete)
        .get("/v2.0/quotas/{project}/default", default)
        .get("/v2.0/quotas/{project}/details", details)
        .get("/v2.0/quotas/{project}/details.json", details)
}

fn limit(most: Option<u64>) -> Value {
    most.map_or(json!(-1), Value::from)
}

fn object(quota: &Quota) -> Map<String, Value> {
    Resource::ALL.into_iter().map(|resource| (resource.name().to_owned(), limit(quota.limit(resource)))).collect()
}

/// One's own project, or any for an admin.
fn project(caller: &Caller, text: &str) -> Result<(Who, ProjectId), Fault> {
    let who = viewer(caller)?;
    let project: ProjectId = text.parse().map_err(|_| Fault::not_found("There is no such project."))?;
    if who.owns(&project) {
        Ok((who, project))
    } else {
        Err(Fault::forbidden("Only an administrator sees the quotas of another project."))
    }
}

/// `GET /quotas`: those that differ from the defaults.
async fn list(State(cloud): State<Networks>, caller: Caller) -> Result<Json<Value>, Fault> {
    let who = viewer(&caller)?;
    if !who.admin {
        return Err(Fault::forbidden("Only an administrator lists quotas."));
    }
    let found = cloud.read(|reader| Ok(reader.all::<Quota>().collect::<Result<Vec<_>, _>>()?)).await.map_err(fault)?;
    let quotas = found.iter().map(|(quota, _)| {
        let mut object = object(quota);
        object.insert("tenant_id".into(), json!(quota.project.as_str()));
        object.insert("project_id".into(), json!(quota.project.as_str()));
        object
    });
    Ok(Json(json!({ "quotas": quotas.collect::<Vec<_>>() })))
}

/// `GET /quotas/project`: which project a request is for.
async fn tenant(caller: Caller) -> Result<Json<Value>, Fault> {
    let who = viewer(&caller)?;
    Ok(Json(json!({ "tenant": { "tenant_id": who.project.as_str(), "project_id": who.project.as_str() } })))
}

/// `GET /quotas/{project}`
async fn show(State(cloud): State<Networks>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let (_, project) = project(&caller, &id)?;
    let quota = cloud.read(|reader| quota::of(reader, &project)).await.map_err(fault)?;
    Ok(Json(json!({ "quota": object(&quota) })))
}

/// `GET /quotas/{project}/default`
async fn default(caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let (_, project) = project(&caller, &id)?;
    Ok(Json(json!({ "quota": object(&Quota::default_of(project)) })))
}

/// `GET /quotas/{project}/details`
async fn details(State(cloud): State<Networks>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let (_, project) = project(&caller, &id)?;
    let details = cloud.read(|reader| {
        let quota = quota::of(reader, &project)?;
        let one = |resource: Resource| {
            let used = quota::used(reader, &project, resource);
            let detail = json!({ "limit": limit(quota.limit(resource)), "used": used, "reserved": 0 });
            (resource.name().to_owned(), detail)
        };
        Ok(Resource::ALL.into_iter().map(one).collect::<Map<String, Value>>())
    });
    Ok(Json(json!({ "quota": details.await.map_err(fault)? })))
}

/// `PUT /quotas/{project}`
async fn update(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let (who, project) = project(&caller, &id)?;
    caller.require_admin()?;
    let mut attrs = Attrs::one(body, "quota")?;
    let mut changes = BTreeMap::new();
    for resource in Resource::ALL {
        match attrs.number(resource.name())?.flatten() {
            None => {}
            Some(-1) => drop(changes.insert(resource, None)),
            Some(number) => match u64::try_from(number) {
                Ok(number) if number <= u64::from(u32::MAX) => drop(changes.insert(resource, Some(number))),
                Ok(_) | Err(_) => {
                    let text =
                        format!("Invalid input for {}. Reason: {number} is not in -1..=4294967295.", resource.name());
                    return Err(Fault::bad_request(text));
                }
            },
        }
    }
    attrs.project()?;
    let checked = attrs.flag("check_limit")?.unwrap_or(false) && !attrs.flag("force")?.unwrap_or(false);
    attrs.done()?;
    let quota = cloud.decide(&who, |plan| {
        let low = |resource: &Resource, most: u64| checked && quota::used(plan.reader(), &project, *resource) > most;
        if let Some((resource, most)) =
            changes.iter().filter_map(|(resource, most)| Some((resource, (*most)?))).find(|(of, most)| low(of, *most))
        {
            let text = format!("Quota limit {most} for {} is less than what the project has already", resource.name());
            return Err(NetError::Invalid(text));
        }
        let (txn, quota) = quota::set(plan.reader(), &project, &changes)?;
        plan.merge(txn);
        Ok(quota)
    });
    Ok(Json(json!({ "quota": object(&quota.await.map_err(fault)?) })))
}

/// `DELETE /quotas/{project}`: back to the defaults.
async fn delete(State(cloud): State<Networks>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    let (who, project) = project(&caller, &id)?;
    caller.require_admin()?;
    let reset = cloud.decide(&who, |plan| {
        if let Some(txn) = quota::reset(plan.reader(), &project)? {
            plan.merge(txn);
        }
        Ok(())
    });
    reset.await.map_err(fault)?;
    Ok(StatusCode::NO_CONTENT)
}
