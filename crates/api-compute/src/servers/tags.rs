//! Tags of a server: a set of short words.

use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use servers::{AcceptError, Server};

use super::create::{TAG_CHARS_MAX, TAGS_MAX};
use super::records::with;
use crate::body::{Object, text};
use crate::common::{Cloud, since};
use crate::{Compute, fault};

/// Tags of a body: each once, in their order.
pub(super) fn checked(list: Vec<Value>) -> Result<Vec<String>, Fault> {
    let mut tags = Vec::new();
    for value in list {
        let tag = text(value, "tags", 1, TAG_CHARS_MAX)?;
        check_word(&tag)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.len() > TAGS_MAX {
        return Err(Fault::bad_request(format!("The number of tags exceeded the per-server limit {TAGS_MAX}")));
    }
    Ok(tags)
}

fn check_word(tag: &str) -> Result<(), Fault> {
    if tag.is_empty() || tag.chars().count() > TAG_CHARS_MAX || tag.contains(['/', ',']) {
        return Err(Fault::bad_request(format!(
            "Invalid tag '{tag}': a tag has 1 to {TAG_CHARS_MAX} characters and neither a slash nor a comma"
        )));
    }
    Ok(())
}

async fn change(
    cloud: &Compute,
    cx: &RequestCx,
    caller: &Caller,
    id: &str,
    name: &'static str,
    change: impl Fn(&mut Vec<String>) -> Result<(), AcceptError>,
) -> Result<Server, Fault> {
    let (call, mut span) = cloud.open(cx, name, Some(id));
    let changed = cloud.servers.update(&call, caller, id, |server| change(&mut server.tags)).await;
    span.note(changed).map_err(fault::accept)
}

/// `GET /servers/{id}/tags`
pub(crate) async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    since(cx.microversion, 26)?;
    let tags = with(&cloud, &caller, &id, |_, server| Ok(server.tags)).await?;
    Ok(Json(json!({ "tags": tags })))
}

/// `PUT /servers/{id}/tags`
pub(crate) async fn replace(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    since(cx.microversion, 26)?;
    let mut body = Object::new(body, "body")?;
    let list = body.list("tags")?.ok_or_else(|| Fault::bad_request("'tags' is a required property"))?;
    body.end()?;
    let tags = checked(list)?;
    let set = |all: &mut Vec<String>| {
        all.clone_from(&tags);
        Ok(())
    };
    let server = change(&cloud, &cx, &caller, &id, "PUT /servers/{id}/tags", set).await?;
    Ok(Json(json!({ "tags": server.tags })))
}

/// `DELETE /servers/{id}/tags`
pub(crate) async fn clear(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    since(cx.microversion, 26)?;
    let clear = |all: &mut Vec<String>| {
        all.clear();
        Ok(())
    };
    change(&cloud, &cx, &caller, &id, "DELETE /servers/{id}/tags", clear).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /servers/{id}/tags/{tag}`
pub(crate) async fn check(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    since(cx.microversion, 26)?;
    let tags = with(&cloud, &caller, &id, |_, server| Ok(server.tags)).await?;
    if tags.contains(&tag) { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&id, &tag)) }
}

fn missing(id: &str, tag: &str) -> Fault {
    Fault::not_found(format!("Server {id} has no tag '{tag}'"))
}

/// `PUT /servers/{id}/tags/{tag}`: 201 if it is new.
pub(crate) async fn add(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<Response, Fault> {
    since(cx.microversion, 26)?;
    check_word(&tag)?;
    let had = with(&cloud, &caller, &id, |_, server| Ok(server.tags.contains(&tag))).await?;
    if had {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let add = |all: &mut Vec<String>| {
        if !all.contains(&tag) {
            all.push(tag.clone());
        }
        if all.len() > TAGS_MAX {
            let text = format!("The number of tags exceeded the per-server limit {TAGS_MAX}");
            return Err(AcceptError::Invalid(text));
        }
        Ok(())
    };
    change(&cloud, &cx, &caller, &id, "PUT /servers/{id}/tags/{tag}", add).await?;
    let mut response = StatusCode::CREATED.into_response();
    let place = format!("{}/compute/v2.1/servers/{id}/tags/{tag}", cx.platform.public_url);
    if let Ok(place) = HeaderValue::from_str(&place) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

/// `DELETE /servers/{id}/tags/{tag}`
pub(crate) async fn remove(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    since(cx.microversion, 26)?;
    if !with(&cloud, &caller, &id, |_, server| Ok(server.tags.contains(&tag))).await? {
        return Err(missing(&id, &tag));
    }
    let take = |all: &mut Vec<String>| {
        all.retain(|there| *there != tag);
        Ok(())
    };
    change(&cloud, &cx, &caller, &id, "DELETE /servers/{id}/tags/{tag}", take).await?;
    Ok(StatusCode::NO_CONTENT)
}
