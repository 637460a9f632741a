//! `/domains`.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::ops::domains::DomainPatch;
use identity::record::Domain;
use identity::{DomainId, Identity};
use serde::Deserialize;
use serde_json::Value;

use crate::list::{self, Filters};
use crate::shape::{self, created, one};
use crate::{Cloud, policy};

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .get("/domains", list)
        .post("/domains", create)
        .get("/domains/{domain_id}", show)
        .patch("/domains/{domain_id}", update)
        .delete("/domains/{domain_id}", delete)
}

#[derive(Deserialize)]
struct Create {
    domain: New,
}

#[derive(Deserialize)]
struct New {
    name: String,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    enabled: Option<bool>,
    #[serde(default)]
    tags: Vec<String>,
    explicit_domain_id: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    domain: Patch,
}

#[derive(Deserialize)]
struct Patch {
    name: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    enabled: Option<bool>,
    tags: Option<Vec<String>>,
}

async fn list(caller: Caller, cx: RequestCx, State(cloud): Cloud, filters: Filters) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_domains")?;
    list::answer(&cx, "/domains", &filters, &["name", "enabled"], &cloud.all::<Domain>().await?)
}

async fn show(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let own = caller.user_domain.0.as_str() == id
        || caller.project.as_ref().is_some_and(|project| project.domain.0.as_str() == id);
    policy::admin_or(own, &caller, "get_domain")?;
    Ok(one(&cx, &cloud.get::<Domain>("domain", &id).await?))
}

async fn create(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Json(Create { domain: new }): Json<Create>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_domain")?;
    let id = match new.explicit_domain_id {
        Some(id) => id.parse().map_err(|error: identity::BadName| Fault::bad_request(error.to_string()))?,
        None => DomainId::random(cloud.world()),
    };
    let domain = Domain {
        id,
        name: new.name,
        description: new.description.unwrap_or_default(),
        enabled: new.enabled.unwrap_or(true),
        deleting: false,
        tags: new.tags,
    };
    Ok(created(&cx, &cloud.create_domain(domain).await?))
}

async fn update(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(Update { domain: patch }): Json<Update>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "update_domain")?;
    let Patch { name, description, enabled, tags } = patch;
    Ok(one(&cx, &cloud.update_domain(&id, &DomainPatch { name, description, enabled, tags }).await?))
}

async fn delete(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_domain")?;
    cloud.delete_domain(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
