//! Sharing: the owner offers an image to projects, each of them accepts or rejects.
//!
//! The owner sees all members; a member sees itself.

use std::sync::Arc;

use api::time::rfc3339;
use api::{Caller, Fault, Json, Path};
use axum::extract::State;
use http::StatusCode;
use images::{Change, Image, Images, Member, MemberStatus, Project, Viewer};
use serde_json::{Map, Value, json};

use crate::{fault, viewer, wire};

fn body(image: &Image, project: &Project, member: &Member) -> Value {
    json!({
        "member_id": project.as_str(),
        "image_id": image.id.to_string(),
        "status": member.status.name(),
        "created_at": rfc3339(member.created),
        "updated_at": rfc3339(member.updated),
        "schema": "/v2/schemas/member",
    })
}

fn may_see(viewer: &Viewer, image: &Image, member: &Project) -> bool {
    viewer.admin || viewer.owns(image) || viewer.project.as_ref() == Some(member)
}

fn found(image: &Image, project: &Project) -> Result<Json<Value>, Fault> {
    let member = image.members.get(project);
    let member = member.ok_or_else(|| Fault::not_found(format!("{project} is no member of image {}", image.id)))?;
    Ok(Json(body(image, project, member)))
}

/// `GET /v2/images/{id}/members`.
pub async fn list(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let (id, viewer) = (fault::image_id(&id)?, viewer(&caller));
    let image = images.get(&viewer, id).await.map_err(fault::image(id))?;
    let seen = image.members.iter().filter(|(project, _)| may_see(&viewer, &image, project));
    let members: Vec<_> = seen.map(|(project, member)| body(&image, project, member)).collect();
    Ok(Json(json!({ "members": members, "schema": "/v2/schemas/members" })))
}

/// `GET /v2/images/{id}/members/{member}`.
pub async fn show(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path((id, member)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let (id, viewer, member) = (fault::image_id(&id)?, viewer(&caller), Project::new(member));
    let image = images.get(&viewer, id).await.map_err(fault::image(id))?;
    if !may_see(&viewer, &image, &member) {
        return Err(Fault::not_found(format!("{member} is no member of image {id}")));
    }
    found(&image, &member)
}

/// `POST /v2/images/{id}/members`.
pub async fn add(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
    Json(wish): Json<Map<String, Value>>,
) -> Result<Json<Value>, Fault> {
    let id = fault::image_id(&id)?;
    let member = wire::string("member", wish.get("member").unwrap_or(&Value::Null))?;
    // The id becomes part of paths, and no project has a longer one.
    if member.is_empty() || member.len() > 64 || member.contains('/') {
        return Err(Fault::bad_request("Invalid value for 'member': it must be the id of a project."));
    }
    let member = Project::new(member);
    let shared = images.update(&viewer(&caller), id, |_| Ok(vec![Change::AddMember(member.clone())])).await;
    found(&shared.map_err(fault::update(id))?, &member)
}

/// `PUT /v2/images/{id}/members/{member}`.
pub async fn answer(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path((id, member)): Path<(String, String)>,
    Json(wish): Json<Map<String, Value>>,
) -> Result<Json<Value>, Fault> {
    let (id, viewer, member) = (fault::image_id(&id)?, viewer(&caller), Project::new(member));
    let status = wire::string("status", wish.get("status").unwrap_or(&Value::Null))?;
    let status = MemberStatus::from_name(&status)
        .ok_or_else(|| Fault::bad_request("Invalid value for 'status': it must be pending, accepted or rejected."))?;
    let answered = images
        .update(&viewer, id, |image| {
            if !may_see(&viewer, image, &member) {
                return Err(Fault::not_found(format!("{member} is no member of image {id}")));
            }
            Ok(vec![Change::Answer(member.clone(), status)])
        })
        .await;
    found(&answered.map_err(fault::update(id))?, &member)
}

/// `DELETE /v2/images/{id}/members/{member}`.
pub async fn remove(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path((id, member)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    let (id, member) = (fault::image_id(&id)?, Project::new(member));
    let removed = images.update(&viewer(&caller), id, |_| Ok(vec![Change::RemoveMember(member.clone())])).await;
    removed.map_err(fault::update(id))?;
    Ok(StatusCode::NO_CONTENT)
}
