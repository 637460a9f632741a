//! `/users`.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::ops::users::{NewUser, UserPatch};
use identity::record::User;
use identity::{Identity, ProjectId};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::list::{self, Filters};
use crate::projects::domain_for;
use crate::shape::{self, created, one};
use crate::{Cloud, policy, projects};

/// By what users can be filtered.
pub(crate) const FIELDS: &[&str] = &["name", "enabled", "domain_id"];

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .get("/users", list)
        .post("/users", create)
        .get("/users/{user_id}", show)
        .patch("/users/{user_id}", update)
        .delete("/users/{user_id}", delete)
        .post("/users/{user_id}/password", change_password)
        .get("/users/{user_id}/groups", groups)
        .get("/users/{user_id}/projects", user_projects)
}

#[derive(Deserialize)]
struct Create {
    user: New,
}

#[derive(Deserialize)]
struct New {
    name: String,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    email: Option<String>,
    domain_id: Option<String>,
    default_project_id: Option<String>,
    enabled: Option<bool>,
    password: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Deserialize)]
struct Update {
    user: Patch,
}

#[derive(Deserialize)]
struct Patch {
    name: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    email: Option<String>,
    domain_id: Option<String>,
    #[serde(default, deserialize_with = "shape::nullable")]
    default_project_id: Option<Option<String>>,
    enabled: Option<bool>,
    password: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Deserialize)]
struct ChangePassword {
    user: Passwords,
}

#[derive(Deserialize)]
struct Passwords {
    original_password: String,
    password: String,
}

/// An empty id means none: openstackclient sends that to clear it.
fn project(id: Option<String>) -> Result<Option<ProjectId>, Fault> {
    let bad = |_| Fault::bad_request("Invalid input for field 'default_project_id'");
    id.filter(|id| !id.is_empty()).map(|id| id.parse().map_err(bad)).transpose()
}

/// Keystone keeps whatever else clients attach to a user, and gives it back; `null` takes it away.
fn extra(before: &str, changes: Map<String, Value>) -> String {
    let mut all = serde_json::from_str::<Map<String, Value>>(before).unwrap_or_default();
    for (name, value) in changes {
        // These are ours to say.
        if matches!(name.as_str(), "id" | "links" | "options" | "password_expires_at") {
            continue;
        }
        if value.is_null() {
            all.remove(&name);
        } else {
            all.insert(name, value);
        }
    }
    if all.is_empty() { String::new() } else { Value::Object(all).to_string() }
}

async fn list(caller: Caller, cx: RequestCx, State(cloud): Cloud, filters: Filters) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_users")?;
    list::answer(&cx, "/users", &filters, FIELDS, &cloud.all::<User>().await?)
}

async fn show(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    policy::owner_or_admin(&caller, &id, "get_user")?;
    Ok(one(&cx, &cloud.get::<User>("user", &id).await?))
}

async fn create(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Json(Create { user: new }): Json<Create>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_user")?;
    let domain = domain_for(&caller, new.domain_id.as_deref())?;
    let user = NewUser {
        name: new.name,
        description: new.description.unwrap_or_default(),
        email: new.email.unwrap_or_default(),
        enabled: new.enabled.unwrap_or(true),
        default_project: project(new.default_project_id)?,
        password: new.password,
        extra: extra("", new.extra),
    };
    Ok(created(&cx, &cloud.create_user(&domain, user).await?))
}

async fn update(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(Update { user: patch }): Json<Update>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "update_user")?;
    let current = cloud.get::<User>("user", &id).await?;
    if patch.domain_id.is_some_and(|domain| domain != current.domain.as_str()) {
        return Err(Fault::bad_request("Cannot change Domain ID"));
    }
    let patch = UserPatch {
        name: patch.name,
        description: patch.description,
        email: patch.email,
        enabled: patch.enabled,
        default_project: patch.default_project_id.map(project).transpose()?,
        password: patch.password,
        extra: Some(extra(&current.extra, patch.extra)),
    };
    Ok(one(&cx, &cloud.update_user(&id, &patch).await?))
}

async fn delete(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_user")?;
    cloud.delete_user(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Needs no token, as with Keystone: whoever knows the old password may set a new one.
async fn change_password(
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(ChangePassword { user }): Json<ChangePassword>,
) -> Result<StatusCode, Fault> {
    if cloud.change_password(&id, &user.original_password, &user.password).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Fault::unauthorized("The request you have made requires authentication."))
    }
}

async fn groups(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    filters: Filters,
) -> Result<Json<Value>, Fault> {
    policy::owner_or_admin(&caller, &id, "list_groups_for_user")?;
    list::answer(&cx, &format!("/users/{id}/groups"), &filters, &["name"], &cloud.groups_of(&id).await?)
}

async fn user_projects(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    filters: Filters,
) -> Result<Json<Value>, Fault> {
    policy::owner_or_admin(&caller, &id, "list_user_projects")?;
    list::answer(&cx, &format!("/users/{id}/projects"), &filters, projects::FIELDS, &cloud.projects_of(&id).await?)
}
