//! `/groups` and who is in them.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::record::Group;
use identity::{GroupId, Identity};
use serde::Deserialize;
use serde_json::Value;

use crate::list::{self, Filters};
use crate::projects::domain_for;
use crate::shape::{self, created, one};
use crate::{Cloud, policy, users};

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .get("/groups", list)
        .post("/groups", create)
        .get("/groups/{group_id}", show)
        .patch("/groups/{group_id}", update)
        .delete("/groups/{group_id}", delete)
        .get("/groups/{group_id}/users", members)
        .put("/groups/{group_id}/users/{user_id}", add)
        .get("/groups/{group_id}/users/{user_id}", contains)
        .delete("/groups/{group_id}/users/{user_id}", remove)
}

#[derive(Deserialize)]
struct Create {
    group: New,
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
    group: Patch,
}

#[derive(Deserialize)]
struct Patch {
    name: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
}

async fn list(caller: Caller, cx: RequestCx, State(cloud): Cloud, filters: Filters) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_groups")?;
    list::answer(&cx, "/groups", &filters, &["name", "domain_id"], &cloud.all::<Group>().await?)
}

async fn show(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "get_group")?;
    Ok(one(&cx, &cloud.get::<Group>("group", &id).await?))
}

async fn create(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Json(Create { group: new }): Json<Create>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_group")?;
    let group = Group {
        id: GroupId::random(cloud.world()),
        domain: domain_for(&caller, new.domain_id.as_deref())?,
        name: new.name,
        description: new.description.unwrap_or_default(),
        deleting: false,
    };
    Ok(created(&cx, &cloud.create_group(group).await?))
}

async fn update(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(Update { group: patch }): Json<Update>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "update_group")?;
    Ok(one(&cx, &cloud.update_group(&id, patch.name, patch.description).await?))
}

async fn delete(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_group")?;
    cloud.delete_group(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn members(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    filters: Filters,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_users_in_group")?;
    list::answer(&cx, &format!("/groups/{id}/users"), &filters, users::FIELDS, &cloud.members(&id).await?)
}

async fn add(
    caller: Caller,
    State(cloud): Cloud,
    Path((group, user)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "add_user_to_group")?;
    cloud.add_member(&group, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn contains(
    caller: Caller,
    State(cloud): Cloud,
    Path((group, user)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    policy::owner_or_admin(&caller, &user, "check_user_in_group")?;
    if cloud.members(&group).await?.iter().any(|member| member.id.as_str() == user) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Fault::not_found(format!("Could not find user {user} in group {group}.")))
    }
}

async fn remove(
    caller: Caller,
    State(cloud): Cloud,
    Path((group, user)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "remove_user_from_group")?;
    cloud.remove_member(&group, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}
