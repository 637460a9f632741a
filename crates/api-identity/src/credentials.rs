//! `/users/{id}/application_credentials`.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::Identity;
use identity::ops::credentials::NewCredential;
use identity::record::{ApplicationCredential, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::list::{self, Filters};
use crate::shape::{self, base};
use crate::{Cloud, policy};

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .get("/users/{user_id}/application_credentials", list)
        .post("/users/{user_id}/application_credentials", create)
        .get("/users/{user_id}/application_credentials/{credential_id}", show)
        .delete("/users/{user_id}/application_credentials/{credential_id}", delete)
}

#[derive(Deserialize)]
struct Create {
    application_credential: New,
}

#[derive(Deserialize)]
struct New {
    name: String,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    secret: Option<String>,
    roles: Option<Vec<RoleRef>>,
    expires_at: Option<String>,
    unrestricted: Option<bool>,
    access_rules: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct RoleRef {
    id: Option<String>,
    name: Option<String>,
}

fn object(cx: &RequestCx, credential: &ApplicationCredential, roles: &[Role]) -> Value {
    let of = |role: &&Role| credential.roles.contains(&role.id);
    let roles = roles.iter().filter(of).map(|role| {
        let domain = role.domain.as_ref().map(identity::DomainId::as_str);
        json!({ "id": role.id.as_str(), "name": role.name, "domain_id": domain })
    });
    let link = format!("{}/users/{}/application_credentials/{}", base(cx), credential.user, credential.id);
    json!({
        "id": credential.id,
        "name": credential.name,
        "description": credential.description,
        "user_id": credential.user.as_str(),
        "project_id": credential.project.as_str(),
        "system": null,
        "roles": roles.collect::<Vec<_>>(),
        "expires_at": credential.expires.map(api::time::iso_micro),
        "unrestricted": credential.unrestricted,
        "links": { "self": link },
    })
}

/// A credential may make and remove others only if it was made to.
fn unrestricted(cloud_credential: Option<&ApplicationCredential>) -> Result<(), Fault> {
    match cloud_credential {
        Some(credential) if !credential.unrestricted => Err(Fault::forbidden(
            "Using method 'application_credential' is not allowed for managing application credentials.",
        )),
        Some(_) | None => Ok(()),
    }
}

async fn own_credential(caller: &Caller, cloud: &Identity) -> Result<Option<ApplicationCredential>, Fault> {
    match &caller.application_credential {
        Some(id) => Ok(Some(cloud.get::<ApplicationCredential>("application credential", id).await?)),
        None => Ok(None),
    }
}

async fn list(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(user): Path<String>,
    filters: Filters,
) -> Result<Json<Value>, Fault> {
    policy::owner_or_admin(&caller, &user, "list_application_credentials")?;
    let mut credentials = cloud.credentials_of(&user).await?;
    if let Some(name) = list::get(&filters, "name") {
        credentials.retain(|credential| credential.name == name);
    }
    let roles = cloud.all::<Role>().await?;
    let objects = credentials.iter().map(|credential| object(&cx, credential, &roles)).collect();
    list::wrap(&cx, &format!("/users/{user}/application_credentials"), &filters, "application_credentials", objects)
}

async fn show(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path((user, id)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    policy::owner_or_admin(&caller, &user, "get_application_credential")?;
    let credential = cloud.get::<ApplicationCredential>("application credential", &id).await?;
    if credential.user.as_str() != user {
        return Err(Fault::not_found(format!("Could not find application credential: {id}.")));
    }
    let roles = cloud.all::<Role>().await?;
    Ok(Json(json!({ "application_credential": object(&cx, &credential, &roles) })))
}

async fn create(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(user): Path<String>,
    Json(Create { application_credential: new }): Json<Create>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::owner(&caller, &user, "create_application_credential")?;
    unrestricted(own_credential(&caller, &cloud).await?.as_ref())?;
    if new.access_rules.is_some_and(|rules| !rules.is_empty()) {
        return Err(Fault::bad_request("Access rules are not supported: leave access_rules out."));
    }
    let ended = || Fault::bad_request("Invalid input for field 'expires_at': a time in UTC is expected");
    let expires = new.expires_at.map(|text| api::time::parse(&text).ok_or_else(ended)).transpose()?;
    let nameless = || Fault::bad_request("Invalid input for field 'roles': each needs an id or a name");
    let roles = match new.roles {
        None => None,
        Some(roles) if roles.is_empty() => None,
        Some(roles) => {
            let wanted = roles.into_iter().map(|role| role.id.or(role.name).ok_or_else(nameless));
            Some(wanted.collect::<Result<Vec<_>, _>>()?)
        }
    };
    let (credential, secret) = cloud
        .create_credential(NewCredential {
            user: caller.user_id.clone(),
            project: caller.project()?.clone(),
            name: new.name,
            description: new.description.unwrap_or_default(),
            secret: new.secret,
            roles,
            expires,
            unrestricted: new.unrestricted.unwrap_or(false),
        })
        .await?;
    let mut object = object(&cx, &credential, &cloud.all::<Role>().await?);
    object["secret"] = json!(secret);
    Ok((StatusCode::CREATED, Json(json!({ "application_credential": object }))))
}

async fn delete(
    caller: Caller,
    State(cloud): Cloud,
    Path((user, id)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    policy::owner_or_admin(&caller, &user, "delete_application_credential")?;
    unrestricted(own_credential(&caller, &cloud).await?.as_ref())?;
    cloud.delete_credential(&user, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
