//! One image: create, show, delete; tags; withhold and give out again. (Updates are in [`crate::patch`].)

use std::sync::Arc;

use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::State;
use http::{HeaderName, StatusCode, header};
use images::{Change, ImageId, Images, Project};
use serde_json::{Map, Value, json};

use crate::{fault, viewer, wire};

/// `POST /v2/images`.
pub async fn create(
    State(images): State<Arc<Images>>,
    cx: RequestCx,
    caller: Caller,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Value>), Fault> {
    let owner = Project::new(caller.project()?.as_str());
    let id = body.remove("id").map(|id| chosen_id(&id)).transpose()?;
    let changes = body.iter().map(|(name, value)| wire::set(name, value)).collect::<Result<Vec<_>, _>>()?;
    let made = images.create(&viewer(&caller), owner, id, changes).await;
    let image = made.map_err(|error| match id {
        Some(id) => fault::image(id)(error),
        None => fault::image(ImageId::random(&cx.platform.world))(error),
    })?;
    let location = format!("{}/image{}", cx.platform.public_url, wire::path(&image));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(wire::image(&image))))
}

fn chosen_id(value: &Value) -> Result<ImageId, Fault> {
    let id = value.as_str().filter(|text| text.len() == 36).and_then(|text| text.parse().ok());
    id.ok_or_else(|| Fault::bad_request("Invalid value for 'id': it must be a UUID with hyphens."))
}

/// `GET /v2/images/{id}`.
pub async fn show(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let id = fault::image_id(&id)?;
    let image = images.get(&viewer(&caller), id).await.map_err(fault::image(id))?;
    Ok(Json(wire::image(&image)))
}

/// `GET /v2/images/{id}/tasks`: none. What happens to an image happens within the request.
pub async fn tasks(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let id = fault::image_id(&id)?;
    images.get(&viewer(&caller), id).await.map_err(fault::image(id))?;
    Ok(Json(json!({ "tasks": [] })))
}

/// `DELETE /v2/images/{id}`.
pub async fn delete(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    let id = fault::image_id(&id)?;
    images.delete(&viewer(&caller), id).await.map_err(fault::image(id))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn change(images: &Images, caller: &Caller, id: &str, change: Change) -> Result<StatusCode, Fault> {
    let id = fault::image_id(id)?;
    let changed = images.update(&viewer(caller), id, |_| Ok(vec![change.clone()])).await;
    changed.map_err(fault::update(id))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v2/images/{id}/tags/{tag}`.
pub async fn add_tag(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    change(&images, &caller, &id, Change::AddTag(tag)).await
}

/// `DELETE /v2/images/{id}/tags/{tag}`.
pub async fn remove_tag(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    change(&images, &caller, &id, Change::RemoveTag(tag)).await
}

/// `POST /v2/images/{id}/actions/deactivate`.
pub async fn deactivate(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    change(&images, &caller, &id, Change::Deactivated(true)).await
}

/// `POST /v2/images/{id}/actions/reactivate`.
pub async fn reactivate(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    change(&images, &caller, &id, Change::Deactivated(false)).await
}
