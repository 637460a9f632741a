//! Key pairs: a user's own, whatever the project.

use std::sync::Arc;

use ::servers::{KeyPair, keypair};
use api::time::iso_micro;
use api::{Caller, Dialect, Fault, Json, Microversion, Path, Query, RequestCx, Routes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use identity::UserId;
use serde_json::{Value, json};

use crate::body::only;
use crate::common::{self, Cloud};
use crate::{Compute, fault};

const PAGE_ENTRIES_MAX: usize = 1000;

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/os-keypairs", list)
        .post("/os-keypairs", create)
        .get("/os-keypairs/{name}", show)
        .delete("/os-keypairs/{name}", delete)
}

/// Whose key pairs: the caller's, or for administrators since 2.10 those of whom they name.
fn owner(caller: &Caller, version: Microversion, asked: Option<&str>) -> Result<UserId, Fault> {
    match asked {
        Some(user) if version.at_least(2, 10) && user != caller.user_id.as_str() => {
            common::admin(caller, "os_compute_api:os-keypairs")?;
            user.parse().map_err(|_| Fault::not_found(format!("User {user} could not be found.")))
        }
        Some(_) | None => Ok(caller.user_id.clone()),
    }
}

fn shown(pair: &KeyPair, version: Microversion) -> Value {
    let mut out = json!({ "name": pair.name, "public_key": pair.public_key, "fingerprint": pair.fingerprint });
    if version.at_least(2, 2) {
        out["type"] = Value::from("ssh");
    }
    out
}

/// `GET /os-keypairs`
async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, Fault> {
    let version = cx.microversion;
    let user = owner(&caller, version, common::last(&pairs, "user_id"))?;
    let found = cloud.view.read(|reader| keypair::of_user(reader, &user)).await?.map_err(fault::accept)?;
    let page = if version.at_least(2, 35) { common::page(&pairs) } else { api::paging::Page::default() };
    let paged = page.cut(found, PAGE_ENTRIES_MAX, |pair| pair.name.clone())?;
    let all: Vec<_> = paged.entries.iter().map(|pair| json!({ "keypair": shown(pair, version) })).collect();
    let mut body = json!({ "keypairs": all });
    if let Some(last) = paged.entries.last().filter(|_| paged.more) {
        body["keypairs_links"] = common::next(&cx, "os-keypairs", raw.as_deref(), &last.name);
    }
    Ok(Json(body))
}

/// `POST /os-keypairs`
async fn create(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<Response, Fault> {
    let version = cx.microversion;
    let mut object = only(body, "keypair")?;
    let name = object.required_name("name")?;
    let public_key = object.text("public_key", 1, 16_384)?;
    if version.at_least(2, 2) {
        match object.text("type", 1, 16)?.as_deref() {
            None | Some("ssh") => {}
            Some(other) => {
                return Err(Fault::bad_request(format!(
                    "Keypairs of the type {other} are not supported by this cloud."
                )));
            }
        }
    }
    let asked = if version.at_least(2, 10) { object.text("user_id", 1, 255)? } else { None };
    object.end()?;
    let more = version.at_least(2, 92);
    let plain = |char: char| {
        char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | ' ') || (more && matches!(char, '@' | '.'))
    };
    if !name.chars().all(plain) {
        return Err(Fault::bad_request("Keypair data is invalid: Keypair name contains unsafe characters"));
    }
    let user = owner(&caller, version, asked.as_deref())?;
    let (call, mut span) = cloud.open(&cx, "POST /os-keypairs", None);
    let (pair, private_key) = match public_key {
        Some(text) => {
            let kept = cloud.servers.import_key(&call, &user, &name, &text).await;
            (span.note(kept).map_err(fault::accept)?, None)
        }
        None if more => return Err(Fault::bad_request("'public_key' is a required property")),
        None => {
            let made = cloud.servers.generate_key(&call, &user, &name).await;
            let made = span.note(made).map_err(fault::accept)?;
            (made.pair, Some(made.private_key))
        }
    };
    let mut out = shown(&pair, version);
    out["user_id"] = Value::from(pair.user.as_str());
    if let Some(key) = private_key {
        out["private_key"] = Value::from(key);
    }
    let status = if version.at_least(2, 2) { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!({ "keypair": out }))).into_response())
}

/// `GET /os-keypairs/{name}`
async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(name): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    let user = owner(&caller, cx.microversion, common::last(&pairs, "user_id"))?;
    let found = cloud.view.read(|reader| keypair::required(reader, &user, &name)).await?;
    let (pair, _) = found.map_err(fault::accept)?;
    let mut out = shown(&pair, cx.microversion);
    out["user_id"] = Value::from(pair.user.as_str());
    out["created_at"] = Value::from(iso_micro(pair.created));
    out["updated_at"] = Value::Null;
    out["deleted_at"] = Value::Null;
    out["deleted"] = Value::Bool(false);
    // A number for clients that expect one; it names nothing.
    out["id"] = Value::from(pair.created.as_micros() % 0x7fff_ffff);
    Ok(Json(json!({ "keypair": out })))
}

/// `DELETE /os-keypairs/{name}`
async fn delete(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(name): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<StatusCode, Fault> {
    let user = owner(&caller, cx.microversion, common::last(&pairs, "user_id"))?;
    let (call, mut span) = cloud.open(&cx, "DELETE /os-keypairs/{name}", None);
    span.note(cloud.servers.delete_key(&call, &user, &name).await).map_err(fault::accept)?;
    Ok(if cx.microversion.at_least(2, 2) { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED })
}
