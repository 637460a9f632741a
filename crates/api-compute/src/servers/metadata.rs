//! Metadata of a server: short texts under short names.

use std::collections::BTreeMap;

use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use servers::AcceptError;

use super::records::with;
use crate::common::Cloud;
use crate::metadata::{item, no_item, parsed};
use crate::{Compute, fault};

async fn change(
    cloud: &Compute,
    cx: &RequestCx,
    caller: &Caller,
    id: &str,
    name: &'static str,
    change: impl Fn(&mut BTreeMap<String, String>),
) -> Result<BTreeMap<String, String>, Fault> {
    let limit = with(cloud, caller, id, |reader, server| {
        Ok(placement::quota::in_force(reader, server.project.as_str())?.limit("metadata_items"))
    });
    let limit = limit.await?.unwrap_or(u64::MAX);
    let (call, mut span) = cloud.open(cx, name, Some(id));
    let changed = cloud.servers.update_metadata(&call, caller, id, |server| {
        change(&mut server.metadata);
        if server.metadata.len() as u64 > limit {
            return Err(AcceptError::Forbidden(format!("Maximum number of metadata items exceeds {limit}")));
        }
        Ok(())
    });
    let server = span.note(changed.await).map_err(fault::accept)?;
    Ok(server.metadata)
}

/// `GET /servers/{id}/metadata`
pub(crate) async fn list(State(cloud): Cloud, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let metadata = with(&cloud, &caller, &id, |_, server| Ok(server.metadata)).await?;
    Ok(Json(json!({ "metadata": metadata })))
}

/// `POST /servers/{id}/metadata`: more, or others under the same names.
pub(crate) async fn merge(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let more = parsed(body, "metadata")?;
    let merge = |metadata: &mut BTreeMap<String, String>| metadata.extend(more.clone());
    let metadata = change(&cloud, &cx, &caller, &id, "POST /servers/{id}/metadata", merge).await?;
    Ok(Json(json!({ "metadata": metadata })))
}

/// `PUT /servers/{id}/metadata`: these and no others.
pub(crate) async fn replace(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let all = parsed(body, "metadata")?;
    let set = |metadata: &mut BTreeMap<String, String>| metadata.clone_from(&all);
    let metadata = change(&cloud, &cx, &caller, &id, "PUT /servers/{id}/metadata", set).await?;
    Ok(Json(json!({ "metadata": metadata })))
}

/// `GET /servers/{id}/metadata/{key}`
pub(crate) async fn show(
    State(cloud): Cloud,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let metadata = with(&cloud, &caller, &id, |_, server| Ok(server.metadata)).await?;
    let value = metadata.get(&key).ok_or_else(no_item)?;
    Ok(Json(json!({ "meta": { key.as_str(): value } })))
}

/// `PUT /servers/{id}/metadata/{key}`
pub(crate) async fn set(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let given = item(body, &key)?;
    let set = |metadata: &mut BTreeMap<String, String>| metadata.extend(given.clone());
    change(&cloud, &cx, &caller, &id, "PUT /servers/{id}/metadata/{key}", set).await?;
    Ok(Json(json!({ "meta": given })))
}

/// `DELETE /servers/{id}/metadata/{key}`
pub(crate) async fn remove(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    if !with(&cloud, &caller, &id, |_, server| Ok(server.metadata.contains_key(&key))).await? {
        return Err(no_item());
    }
    let take = |metadata: &mut BTreeMap<String, String>| drop(metadata.remove(&key));
    change(&cloud, &cx, &caller, &id, "DELETE /servers/{id}/metadata/{key}", take).await?;
    Ok(StatusCode::NO_CONTENT)
}
