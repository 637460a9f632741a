//! Labels, alike for all resources that have them.

use std::collections::BTreeSet;

use api::{Caller, Fault, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use networks::{NetworkId, Networks, plan};
use serde_json::{Value, json};

use crate::attrs::Attrs;
use crate::common::{Resource, editor, id_of, viewer};
use crate::fault::fault;

pub(crate) fn routes<R: Resource>() -> Routes<Networks> {
    let all = format!("/v2.0/{}/{{id}}/tags", R::PATH);
    let one = format!("{all}/{{tag}}");
    Routes::new(api::Dialect::Neutron)
        .get(&all, list::<R>)
        .put(&all, replace::<R>)
        .delete(&all, clear::<R>)
        .get(&one, has::<R>)
        .put(&one, add::<R>)
        .delete(&one, remove::<R>)
}

async fn read<R: Resource>(cloud: &Networks, caller: &Caller, id: &str) -> Result<BTreeSet<String>, Fault> {
    let who = viewer(caller)?;
    let id: NetworkId = id_of(id, R::KIND)?;
    let found = cloud.read(|reader| plan::seen::<R>(reader, &who, &id)).await.map_err(fault)?;
    Ok(found.0.standard().tags.clone())
}

async fn change<R: Resource>(
    cloud: &Networks,
    caller: &Caller,
    id: &str,
    change: impl Fn(&mut BTreeSet<String>),
) -> Result<BTreeSet<String>, Fault> {
    let who = editor(caller)?;
    let id: NetworkId = id_of(id, R::KIND)?;
    let changed = cloud.decide(&who, |plan| plan::set_tags::<R>(plan, &id, &change)).await.map_err(fault)?;
    Ok(changed.standard().tags.clone())
}

fn no_tag(tag: &str) -> Fault {
    Fault::not_found(format!("Tag {} could not be found.", tag.chars().take(64).collect::<String>()))
        .kind("TagNotFound")
}

async fn list<R: Resource>(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    Ok(Json(json!({ "tags": read::<R>(&cloud, &caller, &id).await? })))
}

async fn replace<R: Resource>(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let mut attrs = Attrs::bare(body)?;
    let wanted: Vec<String> = attrs.texts("tags", "string")?.ok_or_else(|| Fault::bad_request("'tags' is missing."))?;
    attrs.done()?;
    let wanted: BTreeSet<String> = wanted.into_iter().collect();
    let tags = change::<R>(&cloud, &caller, &id, |tags| tags.clone_from(&wanted)).await?;
    Ok(Json(json!({ "tags": tags })))
}

async fn clear<R: Resource>(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    change::<R>(&cloud, &caller, &id, BTreeSet::clear).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn has<R: Resource>(
    State(cloud): State<Networks>,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    let tags = read::<R>(&cloud, &caller, &id).await?;
    if tags.contains(&tag) { Ok(StatusCode::NO_CONTENT) } else { Err(no_tag(&tag)) }
}

async fn add<R: Resource>(
    State(cloud): State<Networks>,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    change::<R>(&cloud, &caller, &id, |tags| {
        tags.insert(tag.clone());
    })
    .await?;
    Ok(StatusCode::CREATED)
}

async fn remove<R: Resource>(
    State(cloud): State<Networks>,
    caller: Caller,
    Path((id, tag)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    if !read::<R>(&cloud, &caller, &id).await?.contains(&tag) {
        return Err(no_tag(&tag));
    }
    change::<R>(&cloud, &caller, &id, |tags| {
        tags.remove(&tag);
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
