//! `/projects` and their tags.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::ops::projects::ProjectPatch;
use identity::record::Project;
use identity::{DomainId, Identity, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::list::{self, Filters};
use crate::shape::{self, base, created, one};
use crate::{Cloud, policy};

/// By what projects can be filtered.
pub(crate) const FIELDS: &[&str] = &["name", "enabled", "domain_id", "parent_id", "is_domain"];

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .get("/projects", list)
        .post("/projects", create)
        .get("/projects/{project_id}", show)
        .patch("/projects/{project_id}", update)
        .delete("/projects/{project_id}", delete)
        .get("/projects/{project_id}/tags", tags)
        .put("/projects/{project_id}/tags", set_tags)
        .delete("/projects/{project_id}/tags", clear_tags)
        .get("/projects/{project_id}/tags/{tag}", has_tag)
        .put("/projects/{project_id}/tags/{tag}", add_tag)
        .delete("/projects/{project_id}/tags/{tag}", remove_tag)
}

#[derive(Deserialize)]
struct Create {
    project: New,
}

#[derive(Deserialize)]
struct New {
    name: String,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    domain_id: Option<String>,
    parent_id: Option<String>,
    enabled: Option<bool>,
    is_domain: Option<bool>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Update {
    project: Patch,
}

#[derive(Deserialize)]
struct Patch {
    name: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    enabled: Option<bool>,
    tags: Option<Vec<String>>,
    domain_id: Option<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Vec<String>,
}

/// The domain that a new thing goes to: the one named, else the one of the caller's scope.
pub(crate) fn domain_for(caller: &Caller, wanted: Option<&str>) -> Result<DomainId, Fault> {
    if let Some(wanted) = wanted {
        return wanted
            .parse()
            .map_err(|_| Fault::bad_request(format!("Invalid input for field 'domain_id': {wanted:.80?}")));
    }
    let scope = caller.domain.as_ref().or(caller.project.as_ref().map(|project| &project.domain));
    Ok(scope.map_or_else(|| caller.user_domain.0.clone(), |(id, _)| id.clone()))
}

async fn list(caller: Caller, cx: RequestCx, State(cloud): Cloud, filters: Filters) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_projects")?;
    let mut projects = cloud.all::<Project>().await?;
    let has = |project: &Project, tag: &str| project.tags.iter().any(|have| have == tag);
    if let Some(tags) = list::get(&filters, "tags") {
        projects.retain(|project| tags.split(',').all(|tag| has(project, tag)));
    }
    if let Some(tags) = list::get(&filters, "tags-any") {
        projects.retain(|project| tags.split(',').any(|tag| has(project, tag)));
    }
    list::answer(&cx, "/projects", &filters, FIELDS, &projects)
}

async fn show(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let own = caller.project.as_ref().is_some_and(|project| project.id.as_str() == id);
    policy::admin_or(own, &caller, "get_project")?;
    Ok(one(&cx, &cloud.get::<Project>("project", &id).await?))
}

async fn create(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Json(Create { project: new }): Json<Create>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_project")?;
    if new.is_domain == Some(true) {
        return Err(Fault::bad_request("A project that is a domain is made by creating a domain."));
    }
    let (domain, parent) = place(&caller, &cloud, new.domain_id.as_deref(), new.parent_id.as_deref()).await?;
    let project = Project {
        id: ProjectId::random(cloud.world()),
        domain,
        name: new.name,
        description: new.description.unwrap_or_default(),
        enabled: new.enabled.unwrap_or(true),
        deleting: false,
        parent,
        tags: new.tags,
    };
    Ok(created(&cx, &cloud.create_project(project).await?))
}

/// Keystone's `parent_id` is a project, or a domain, which is no parent here.
async fn place(
    caller: &Caller,
    cloud: &Identity,
    domain: Option<&str>,
    parent: Option<&str>,
) -> Result<(DomainId, Option<ProjectId>), Fault> {
    let Some(parent) = parent else { return Ok((domain_for(caller, domain)?, None)) };
    if domain == Some(parent) {
        return Ok((domain_for(caller, domain)?, None));
    }
    match cloud.get::<Project>("project", parent).await {
        Ok(above) => {
            let domain = domain.map_or(Ok(above.domain.clone()), |domain| domain_for(caller, Some(domain)))?;
            Ok((domain, Some(above.id)))
        }
        Err(identity::Error::NotFound { .. }) if domain.is_none() => {
            let domain = cloud.get::<identity::record::Domain>("project", parent).await?;
            Ok((domain.id, None))
        }
        Err(error) => Err(error.into()),
    }
}

async fn update(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(Update { project: patch }): Json<Update>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "update_project")?;
    let Patch { name, description, enabled, tags, domain_id } = patch;
    let current = cloud.get::<Project>("project", &id).await?;
    if domain_id.is_some_and(|domain| domain != current.domain.as_str()) {
        return Err(Fault::bad_request("Cannot change Domain ID"));
    }
    Ok(one(&cx, &cloud.update_project(&id, &ProjectPatch { name, description, enabled, tags }).await?))
}

async fn delete(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_project")?;
    cloud.delete_project(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn tags_of(caller: &Caller, cloud: &Identity, id: &str) -> Result<Vec<String>, Fault> {
    let own = caller.project.as_ref().is_some_and(|project| project.id.as_str() == id);
    policy::admin_or(own, caller, "get_project_tag")?;
    Ok(cloud.get::<Project>("project", id).await?.tags)
}

async fn write_tags(caller: &Caller, cloud: &Identity, id: &str, tags: Vec<String>) -> Result<Vec<String>, Fault> {
    policy::admin(caller, "update_project_tags")?;
    let patch = ProjectPatch { tags: Some(tags), ..ProjectPatch::default() };
    Ok(cloud.update_project(id, &patch).await?.tags)
}

fn tags_json(cx: &RequestCx, id: &str, tags: &[String]) -> Json<Value> {
    Json(
        json!({ "tags": tags, "links": { "self": format!("{}/projects/{id}/tags", base(cx)), "next": null, "previous": null } }),
    )
}

async fn tags(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    Ok(tags_json(&cx, &id, &tags_of(&caller, &cloud, &id).await?))
}

async fn set_tags(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(Tags { tags }): Json<Tags>,
) -> Result<Json<Value>, Fault> {
    Ok(tags_json(&cx, &id, &write_tags(&caller, &cloud, &id, tags).await?))
}

async fn clear_tags(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    write_tags(&caller, &cloud, &id, Vec::new()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn has_tag(
    caller: Caller,
    State(cloud): Cloud,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    if tags_of(&caller, &cloud, &id).await?.contains(&tag) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Fault::not_found(format!("Could not find project tag: {tag}.")))
    }
}

async fn add_tag(
    caller: Caller,
    State(cloud): Cloud,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    let mut tags = tags_of(&caller, &cloud, &id).await?;
    if !tags.contains(&tag) {
        tags.push(tag);
        write_tags(&caller, &cloud, &id, tags).await?;
    }
    Ok(StatusCode::CREATED)
}

async fn remove_tag(
    caller: Caller,
    State(cloud): Cloud,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    let mut tags = tags_of(&caller, &cloud, &id).await?;
    let before = tags.len();
    tags.retain(|have| *have != tag);
    if tags.len() == before {
        return Err(Fault::not_found(format!("Could not find project tag: {tag}.")));
    }
    write_tags(&caller, &cloud, &id, tags).await?;
    Ok(StatusCode::NO_CONTENT)
}
