//! Extra specs of a flavor: words for those who run the cloud.

use std::collections::BTreeMap;

use ::servers::{AcceptError, Flavor};
use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

use super::visible;
use crate::body::{Object, only};
use crate::common::{self, Cloud};
use crate::fault;

const CHARS_MAX: usize = 255;
/// Specs that one flavor may have: a server carries a copy of its flavor.
const SPECS_MAX: usize = 64;

fn missing(id: &str, key: &str) -> Fault {
    Fault::not_found(format!("Flavor {id} has no extra specs with key {key}."))
}

fn checked(object: Object) -> Result<BTreeMap<String, String>, Fault> {
    let specs: BTreeMap<_, _> = object.texts(CHARS_MAX, true)?.into_iter().collect();
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | ':' | '.' | ' ');
    match specs.keys().find(|key| !key.chars().all(plain)) {
        None => Ok(specs),
        Some(key) => Err(Fault::bad_request(format!(
            "Invalid input for field/attribute extra_specs. Value: {key}. Keys have letters, digits and -_:. only"
        ))),
    }
}

/// `GET /flavors/{id}/os-extra_specs`
pub(super) async fn list(State(cloud): Cloud, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let flavor = cloud.view.read(|reader| visible(reader, &caller, &id)).await??;
    Ok(Json(json!({ "extra_specs": flavor.extra_specs })))
}

/// `POST /flavors/{id}/os-extra_specs`: more, or others under the same keys.
pub(super) async fn add(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-flavor-extra-specs:create")?;
    let specs = checked(only(body, "extra_specs")?)?;
    let (call, mut span) = cloud.open(&cx, "POST /flavors/{id}/os-extra_specs", Some(&id));
    let extend = |flavor: &mut Flavor| {
        flavor.extra_specs.extend(specs.clone());
        bounded(flavor)
    };
    span.note(cloud.servers.change_flavor(&call, &id, extend).await).map_err(fault::accept)?;
    Ok(Json(json!({ "extra_specs": specs })))
}

fn bounded(flavor: &Flavor) -> Result<(), AcceptError> {
    if flavor.extra_specs.len() > SPECS_MAX {
        return Err(AcceptError::Invalid(format!("A flavor has at most {SPECS_MAX} extra specs.")));
    }
    Ok(())
}

/// `GET /flavors/{id}/os-extra_specs/{key}`
pub(super) async fn show(
    State(cloud): Cloud,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let flavor = cloud.view.read(|reader| visible(reader, &caller, &id)).await??;
    let value = flavor.extra_specs.get(&key).ok_or_else(|| missing(&id, &key))?;
    Ok(Json(json!({ key.as_str(): value })))
}

/// `PUT /flavors/{id}/os-extra_specs/{key}`
pub(super) async fn set(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-flavor-extra-specs:update")?;
    let given = checked(Object::new(body, "body")?)?;
    if given.len() != 1 {
        return Err(Fault::bad_request("Request body contains too many items"));
    }
    let value = given.get(&key).ok_or_else(|| Fault::bad_request("Request body and URI mismatch"))?;
    let (call, mut span) = cloud.open(&cx, "PUT /flavors/{id}/os-extra_specs/{key}", Some(&id));
    let set = |flavor: &mut Flavor| {
        flavor.extra_specs.insert(key.clone(), value.clone());
        bounded(flavor)
    };
    span.note(cloud.servers.change_flavor(&call, &id, set).await).map_err(fault::accept)?;
    Ok(Json(json!(given)))
}

/// `DELETE /flavors/{id}/os-extra_specs/{key}`
pub(super) async fn remove(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, Fault> {
    common::admin(&caller, "os_compute_api:os-flavor-extra-specs:delete")?;
    let flavor = cloud.view.read(|reader| visible(reader, &caller, &id)).await??;
    if !flavor.extra_specs.contains_key(&key) {
        return Err(missing(&id, &key));
    }
    let (call, mut span) = cloud.open(&cx, "DELETE /flavors/{id}/os-extra_specs/{key}", Some(&id));
    let take = |flavor: &mut Flavor| {
        flavor.extra_specs.remove(&key);
        Ok(())
    };
    span.note(cloud.servers.change_flavor(&call, &id, take).await).map_err(fault::accept)?;
    Ok(StatusCode::OK)
}
