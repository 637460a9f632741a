//! Names of resource classes and traits: those that providers of this cell have.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Caller, Fault, Json, Microversion, Path, Query};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use placement::Provider;
use serde_json::{Value, json};
use store::View;

use crate::{admin, since};

/// Classes that every cell has.
const CLASSES: [&str; 3] = ["VCPU", "MEMORY_MB", "DISK_GB"];

async fn names(view: &View, of: impl Fn(Provider) -> Vec<String>) -> Result<BTreeSet<String>, Fault> {
    let found = view.read(|reader| {
        let mut names = BTreeSet::new();
        for found in reader.all::<Provider>() {
            names.extend(of(found?.0));
        }
        Ok::<_, Fault>(names)
    });
    found.await?
}

async fn known_classes(view: &View) -> Result<BTreeSet<String>, Fault> {
    let mut names = names(view, |provider| provider.inventories.into_keys().collect()).await?;
    names.extend(CLASSES.map(str::to_owned));
    Ok(names)
}

fn class_shown(name: &str) -> Value {
    json!({ "name": name, "links": [{ "rel": "self", "href": format!("/placement/resource_classes/{name}") }] })
}

/// `GET /resource_classes`
pub(crate) async fn classes(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
) -> Result<Json<Value>, Fault> {
    since(version, 2)?;
    admin(&caller, "placement:resource_classes:list")?;
    let names = known_classes(&view).await?;
    Ok(Json(json!({ "resource_classes": names.iter().map(|name| class_shown(name)).collect::<Vec<_>>() })))
}

/// `GET /resource_classes/{name}`
pub(crate) async fn class(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Fault> {
    since(version, 2)?;
    admin(&caller, "placement:resource_classes:show")?;
    if known_classes(&view).await?.contains(&name) {
        return Ok(Json(class_shown(&name)));
    }
    Err(Fault::not_found(format!("No such resource class {name}.")))
}

/// `GET /traits`
pub(crate) async fn traits(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    since(version, 6)?;
    admin(&caller, "placement:traits:list")?;
    let mut names = names(&view, |provider| provider.traits).await?;
    for (key, value) in &pairs {
        match (key.as_str(), value.split_once(':')) {
            ("name", Some(("startswith", prefix))) => names.retain(|name| name.starts_with(prefix)),
            ("name", Some(("in", list))) => names.retain(|name| list.split(',').any(|one| one == name)),
            // All that are known are a provider's.
            ("associated", _) if value.eq_ignore_ascii_case("true") => {}
            ("associated", _) if value.eq_ignore_ascii_case("false") => names.clear(),
            _ => return Err(Fault::bad_request(format!("Invalid query string parameters: {key}={value}"))),
        }
    }
    Ok(Json(json!({ "traits": names })))
}

/// `GET /traits/{name}`
pub(crate) async fn named(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Fault> {
    since(version, 6)?;
    admin(&caller, "placement:traits:show")?;
    if names(&view, |provider| provider.traits).await?.contains(&name) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(Fault::not_found(format!("No such trait(s): {name}.")))
}
