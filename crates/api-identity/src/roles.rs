//! `/roles`, and which follows from which.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::record::{Implication, Role};
use identity::{Identity, RoleId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::list::{self, Filters};
use crate::shape::{self, base, created, one};
use crate::{Cloud, policy};

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .get("/roles", list)
        .post("/roles", create)
        .get("/roles/{role_id}", show)
        .patch("/roles/{role_id}", update)
        .delete("/roles/{role_id}", delete)
        .get("/roles/{prior_id}/implies", implied)
        .put("/roles/{prior_id}/implies/{implied_id}", imply)
        .get("/roles/{prior_id}/implies/{implied_id}", implication)
        .head("/roles/{prior_id}/implies/{implied_id}", implies)
        .delete("/roles/{prior_id}/implies/{implied_id}", unimply)
        .get("/role_inferences", all_implications)
}

#[derive(Deserialize)]
struct Create {
    role: New,
}

#[derive(Deserialize)]
struct New {
    name: String,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    domain_id: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    role: Patch,
}

#[derive(Deserialize)]
struct Patch {
    name: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
}

async fn list(caller: Caller, cx: RequestCx, State(cloud): Cloud, filters: Filters) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_roles")?;
    let mut roles = cloud.all::<Role>().await?;
    // Roles that are private to a domain are listed only for that domain.
    if list::get(&filters, "domain_id").is_none() {
        roles.retain(|role| role.domain.is_none());
    }
    list::answer(&cx, "/roles", &filters, &["name", "domain_id"], &roles)
}

async fn show(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "get_role")?;
    Ok(one(&cx, &cloud.get::<Role>("role", &id).await?))
}

async fn create(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Json(Create { role: new }): Json<Create>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_role")?;
    let bad = |error: identity::BadName| Fault::bad_request(error.to_string());
    let role = Role {
        id: RoleId::random(cloud.world()),
        name: new.name,
        description: new.description.unwrap_or_default(),
        domain: new.domain_id.map(|id| id.parse().map_err(bad)).transpose()?,
        deleting: false,
    };
    Ok(created(&cx, &cloud.create_role(role).await?))
}

async fn update(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(Update { role: patch }): Json<Update>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "update_role")?;
    Ok(one(&cx, &cloud.update_role(&id, patch.name, patch.description).await?))
}

async fn delete(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_role")?;
    cloud.delete_role(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A role as it is written in implications.
fn brief(cx: &RequestCx, role: &Role) -> Value {
    let link = format!("{}/roles/{}", base(cx), role.id);
    json!({ "id": role.id.as_str(), "name": role.name, "links": { "self": link } })
}

fn inference(cx: &RequestCx, prior: &Role, implied: Value, path: &str) -> Json<Value> {
    Json(json!({
        "role_inference": { "prior_role": brief(cx, prior), "implies": implied },
        "links": { "self": format!("{}{path}", base(cx)) },
    }))
}

/// All roles, and all implications between them.
async fn graph(cloud: &Identity) -> Result<(Vec<Role>, Vec<Implication>), Fault> {
    Ok((cloud.all::<Role>().await?, cloud.all::<Implication>().await?))
}

fn follows(cx: &RequestCx, prior: &Role, (roles, implications): &(Vec<Role>, Vec<Implication>)) -> Vec<Value> {
    let ids = implications.iter().filter(|it| it.prior == prior.id).map(|it| &it.implied);
    ids.filter_map(|id| roles.iter().find(|role| role.id == *id)).map(|role| brief(cx, role)).collect()
}

async fn implied(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(prior): Path<String>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_implied_roles")?;
    let role = cloud.get::<Role>("role", &prior).await?;
    let implied = follows(&cx, &role, &graph(&cloud).await?);
    Ok(inference(&cx, &role, Value::from(implied), &format!("/roles/{prior}/implies")))
}

async fn imply(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path((prior, implied)): Path<(String, String)>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_implied_role")?;
    let (prior, implied) = cloud.imply(&prior, &implied).await?;
    let path = format!("/roles/{}/implies/{}", prior.id, implied.id);
    Ok((StatusCode::CREATED, inference(&cx, &prior, brief(&cx, &implied), &path)))
}

async fn implication(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path((prior, implied)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "get_implied_role")?;
    let prior = cloud.get::<Role>("role", &prior).await?;
    let implied = cloud.get::<Role>("role", &implied).await?;
    let (_, implications) = graph(&cloud).await?;
    if !implications.iter().any(|it| it.prior == prior.id && it.implied == implied.id) {
        return Err(Fault::not_found(format!("{} does not imply {}.", prior.id, implied.id)));
    }
    let path = format!("/roles/{}/implies/{}", prior.id, implied.id);
    Ok(inference(&cx, &prior, brief(&cx, &implied), &path))
}

async fn implies(
    caller: Caller,
    cx: RequestCx,
    cloud: Cloud,
    ids: Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    implication(caller, cx, cloud, ids).await.map(|_| StatusCode::NO_CONTENT)
}

async fn unimply(
    caller: Caller,
    State(cloud): Cloud,
    Path((prior, implied)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_implied_role")?;
    cloud.unimply(&prior, &implied).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn all_implications(caller: Caller, cx: RequestCx, State(cloud): Cloud) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_role_inference_rules")?;
    let graph = graph(&cloud).await?;
    let inferences = graph.0.iter().filter_map(|prior| {
        let implies = follows(&cx, prior, &graph);
        (!implies.is_empty()).then(|| json!({ "prior_role": brief(&cx, prior), "implies": implies }))
    });
    let inferences: Vec<Value> = inferences.collect();
    Ok(Json(json!({ "role_inferences": inferences, "links": { "self": format!("{}/role_inferences", base(&cx)) } })))
}
