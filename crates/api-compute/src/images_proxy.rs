//! Images, for clients that speak versions before 2.36: they come with servers' snapshots and are shown in the old form.
//!
//! Everything is decided where the image API has it decided; metadata (to 2.38) are custom properties there.
//! Deliberately absent: everything else that an image is; the image API has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::time::rfc3339;
use api::{Caller, Dialect, Fault, Json, Path, Query, RequestCx, Routes};
use axum::extract::{RawQuery, State};
use http::StatusCode;
use images::{Change, Image, ImageId, Project, Status, UpdateError, Viewer, Visibility};
use serde_json::{Value, json};

use crate::common::{self, Cloud, until};
use crate::metadata::{item, no_item, parsed};
use crate::{Compute, fault};

const PAGE_ENTRIES_MAX: usize = 1000;
/// Properties under which a snapshot says what it is, and of which server.
const KIND: &str = "image_type";
const SERVER: &str = "instance_uuid";

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/images", brief)
        .get("/images/detail", detail)
        .get("/images/{id}", show)
        .delete("/images/{id}", delete)
        .get("/images/{id}/metadata", metadata)
        .post("/images/{id}/metadata", merge)
        .put("/images/{id}/metadata", replace)
        .get("/images/{id}/metadata/{key}", metadata_item)
        .put("/images/{id}/metadata/{key}", set)
        .delete("/images/{id}/metadata/{key}", remove)
}

fn viewer(caller: &Caller) -> Viewer {
    Viewer {
        project: caller.project.as_ref().map(|scope| Project::new(scope.id.as_str())),
        admin: caller.is_admin(),
        writes: caller.is_admin() || caller.has_role("member"),
    }
}

fn missing() -> Fault {
    Fault::not_found("Image not found.")
}

fn id_of(text: &str) -> Result<ImageId, Fault> {
    text.parse().map_err(|_| missing())
}

fn status(image: &Image) -> (&'static str, u8) {
    match image.status {
        Status::Queued => ("SAVING", 25),
        Status::Saving(_) => ("SAVING", 50),
        Status::Active(_) => ("ACTIVE", 100),
        Status::Deactivated(_) => ("UNKNOWN", 100),
    }
}

fn named(cx: &RequestCx, image: &Image) -> Value {
    let url = &cx.platform.public_url;
    let mut links = common::links(url, &format!("images/{}", image.id));
    if let Some(links) = links.as_array_mut() {
        let href = format!("{url}/image/v2/images/{}", image.id);
        links.push(json!({ "rel": "alternate", "type": "application/vnd.openstack.image", "href": href }));
    }
    json!({ "id": image.id.to_string(), "name": image.name, "links": links })
}

fn whole(cx: &RequestCx, image: &Image) -> Value {
    let mut out = named(cx, image);
    let (status, progress) = status(image);
    out["status"] = json!(status);
    out["progress"] = json!(progress);
    out["created"] = json!(rfc3339(image.created));
    out["updated"] = json!(rfc3339(image.updated));
    out["minDisk"] = json!(image.min_disk_gib);
    out["minRam"] = json!(image.min_ram_mib);
    out["metadata"] = json!(image.properties);
    out["OS-EXT-IMG-SIZE:size"] = json!(image.content().map(|content| content.size_bytes));
    if let Some(server) = image.properties.get(SERVER) {
        let links = common::links(&cx.platform.public_url, &format!("servers/{server}"));
        out["server"] = json!({ "id": server, "links": links });
    }
    out
}

/// Whether a list with these parameters has the image.
fn admits(pairs: &[(String, String)], image: &Image) -> bool {
    let property = |name: &str| image.properties.get(name).map(String::as_str);
    pairs.iter().all(|(name, value)| match name.as_str() {
        "name" => image.name.as_deref() == Some(value),
        "status" => status(image).0.eq_ignore_ascii_case(value),
        // Given as an id or as a link.
        "server" => property(SERVER).is_some_and(|server| value.rsplit('/').next() == Some(server)),
        "type" => property(KIND).unwrap_or("base").eq_ignore_ascii_case(value),
        "minDisk" => value.parse() == Ok(image.min_disk_gib),
        "minRam" => value.parse() == Ok(image.min_ram_mib),
        "changes-since" => changed_since(value).is_some_and(|since| rfc3339(image.updated) >= since),
        _ => true,
    })
}

/// A time in UTC to the second, as this API writes it: then texts are in the order of the times.
fn changed_since(text: &str) -> Option<String> {
    let date = text.get(..19).filter(|date| date.is_ascii())?;
    let rest = text.get(19..)?.trim_start_matches(|char: char| char == '.' || char.is_ascii_digit());
    matches!(rest, "" | "Z" | "+00:00").then(|| format!("{date}Z"))
}

async fn found(cloud: &Compute, caller: &Caller, pairs: &[(String, String)]) -> Result<Vec<Image>, Fault> {
    if common::last(pairs, "changes-since").is_some_and(|text| changed_since(text).is_none()) {
        return Err(Fault::bad_request("Invalid changes-since value"));
    }
    let viewer = viewer(caller);
    let listed = |image: &Image| {
        let offered = viewer.owns(image) || viewer.membership(image) == Some(images::MemberStatus::Accepted);
        !image.hidden && (image.visibility == Visibility::Public || offered) && admits(pairs, image)
    };
    let mut all = cloud.images.list(listed).await?;
    all.sort_by_key(|image| (std::cmp::Reverse(image.created), image.id));
    Ok(all)
}

async fn list(
    cloud: &Compute,
    cx: &RequestCx,
    caller: &Caller,
    (pairs, raw, path): (&[(String, String)], Option<&str>, &str),
    shown: impl Fn(&RequestCx, &Image) -> Value,
) -> Result<Json<Value>, Fault> {
    until(cx.microversion, 36)?;
    caller.project()?;
    let all = found(cloud, caller, pairs).await?;
    let paged = common::page(pairs).cut(all, PAGE_ENTRIES_MAX, |image| image.id.to_string())?;
    let mut body = json!({ "images": paged.entries.iter().map(|image| shown(cx, image)).collect::<Vec<_>>() });
    if let Some(last) = paged.entries.last().filter(|_| paged.more) {
        body["images_links"] = common::next(cx, path, raw, &last.id.to_string());
    }
    Ok(Json(body))
}

/// `GET /images`
async fn brief(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, Fault> {
    list(&cloud, &cx, &caller, (&pairs, raw.as_deref(), "images"), named).await
}

/// `GET /images/detail`
async fn detail(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, Fault> {
    list(&cloud, &cx, &caller, (&pairs, raw.as_deref(), "images/detail"), whole).await
}

async fn get(cloud: &Compute, caller: &Caller, id: &str) -> Result<Image, Fault> {
    cloud.images.get(&viewer(caller), id_of(id)?).await.map_err(fault::image)
}

/// `GET /images/{id}`
async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    until(cx.microversion, 36)?;
    Ok(Json(json!({ "image": whole(&cx, &get(&cloud, &caller, &id).await?) })))
}

/// `DELETE /images/{id}`
async fn delete(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    until(cx.microversion, 36)?;
    cloud.images.delete(&viewer(&caller), id_of(&id)?).await.map_err(fault::image)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /images/{id}/metadata`
async fn metadata(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    until(cx.microversion, 39)?;
    Ok(Json(json!({ "metadata": get(&cloud, &caller, &id).await?.properties })))
}

async fn change(
    cloud: &Compute,
    (cx, caller, id): (&RequestCx, &Caller, &str),
    wish: impl Fn(&Image) -> Result<Vec<Change>, Fault> + Send,
) -> Result<BTreeMap<String, String>, Fault> {
    until(cx.microversion, 39)?;
    let changed = cloud.images.update(&viewer(caller), id_of(id)?, wish).await;
    let image = changed.map_err(|error| match error {
        UpdateError::Wish(fault) => fault,
        UpdateError::Image(error) => fault::image(error),
    })?;
    Ok(image.properties)
}

fn set_all(all: &BTreeMap<String, String>) -> Vec<Change> {
    all.iter().map(|(name, value)| Change::SetProperty(name.clone(), value.clone())).collect()
}

/// `POST /images/{id}/metadata`: more, or others under the same names.
async fn merge(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let more = parsed(body, "metadata")?;
    let all = change(&cloud, (&cx, &caller, &id), |_| Ok(set_all(&more))).await?;
    Ok(Json(json!({ "metadata": all })))
}

/// `PUT /images/{id}/metadata`: these and no others.
async fn replace(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let these = parsed(body, "metadata")?;
    let all = change(&cloud, (&cx, &caller, &id), |image| {
        let gone = image.properties.keys().filter(|name| !these.contains_key(*name));
        Ok(gone.cloned().map(Change::RemoveProperty).chain(set_all(&these)).collect())
    });
    Ok(Json(json!({ "metadata": all.await? })))
}

/// `GET /images/{id}/metadata/{key}`
async fn metadata_item(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    until(cx.microversion, 39)?;
    let image = get(&cloud, &caller, &id).await?;
    let value = image.properties.get(&key).ok_or_else(no_item)?;
    Ok(Json(json!({ "meta": { key.as_str(): value } })))
}

/// `PUT /images/{id}/metadata/{key}`
async fn set(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let given = item(body, &key)?;
    change(&cloud, (&cx, &caller, &id), |_| Ok(set_all(&given))).await?;
    Ok(Json(json!({ "meta": given })))
}

/// `DELETE /images/{id}/metadata/{key}`
async fn remove(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    change(&cloud, (&cx, &caller, &id), |image| {
        if image.properties.contains_key(&key) { Ok(vec![Change::RemoveProperty(key.clone())]) } else { Err(no_item()) }
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
