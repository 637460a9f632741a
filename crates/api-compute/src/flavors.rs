//! Flavors.

mod access;
mod specs;

use std::sync::Arc;

use ::servers::Flavor;
use api::{Caller, Dialect, Fault, Json, Microversion, Path, Query, RequestCx, Routes};
use axum::extract::{RawQuery, State};
use http::StatusCode;
use serde_json::{Value, json};
use store::Reader;

use crate::body::{boolean_word, only};
use crate::common::{self, Cloud, since};
use crate::{Compute, fault};

const PAGE_ENTRIES_MAX: usize = 1000;
const NUMBER_MAX: i64 = i32::MAX as i64;

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/flavors", brief)
        .post("/flavors", create)
        .get("/flavors/detail", detail)
        .get("/flavors/{id}", show)
        .put("/flavors/{id}", update)
        .delete("/flavors/{id}", delete)
        .get("/flavors/{id}/os-extra_specs", specs::list)
        .post("/flavors/{id}/os-extra_specs", specs::add)
        .get("/flavors/{id}/os-extra_specs/{key}", specs::show)
        .put("/flavors/{id}/os-extra_specs/{key}", specs::set)
        .delete("/flavors/{id}/os-extra_specs/{key}", specs::remove)
        .get("/flavors/{id}/os-flavor-access", access::list)
        .post("/flavors/{id}/action", access::act)
}

/// The flavor, if the caller may see it.
fn visible(reader: &Reader<'_>, caller: &Caller, id: &str) -> Result<Flavor, Fault> {
    let (flavor, _) = ::servers::flavor::required(reader, id).map_err(fault::accept)?;
    let project = caller.project.as_ref().map(|scope| &scope.id);
    if caller.is_admin() || flavor.usable_by(project) {
        return Ok(flavor);
    }
    Err(Fault::not_found(format!("Flavor {id} could not be found.")))
}

fn named(flavor: &Flavor, cx: &RequestCx) -> Value {
    let mut out = json!({
        "id": flavor.id,
        "name": flavor.name,
        "links": common::links(&cx.platform.public_url, &format!("flavors/{}", flavor.id)),
    });
    if cx.microversion.at_least(2, 55) {
        out["description"] = json!(flavor.description);
    }
    out
}

fn whole(flavor: &Flavor, cx: &RequestCx) -> Value {
    let mut out = named(flavor, cx);
    let no_swap = if cx.microversion.at_least(2, 75) { json!(0) } else { json!("") };
    out["ram"] = json!(flavor.ram_mib);
    out["disk"] = json!(flavor.disk_gib);
    out["vcpus"] = json!(flavor.vcpus);
    out["swap"] = if flavor.swap_mib == 0 { no_swap } else { json!(flavor.swap_mib) };
    out["OS-FLV-EXT-DATA:ephemeral"] = json!(flavor.ephemeral_gib);
    out["OS-FLV-DISABLED:disabled"] = json!(flavor.disabled);
    out["os-flavor-access:is_public"] = json!(flavor.public);
    out["rxtx_factor"] = json!(f64::from(flavor.rxtx_milli) / 1000.0);
    if cx.microversion.at_least(2, 61) {
        out["extra_specs"] = json!(flavor.extra_specs);
    }
    out
}

/// `GET /flavors`
async fn brief(
    cloud: Cloud,
    cx: RequestCx,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    raw: RawQuery,
) -> Result<Json<Value>, Fault> {
    list(cloud, cx, caller, query, raw, "flavors", named).await
}

/// `GET /flavors/detail`
async fn detail(
    cloud: Cloud,
    cx: RequestCx,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    raw: RawQuery,
) -> Result<Json<Value>, Fault> {
    list(cloud, cx, caller, query, raw, "flavors/detail", whole).await
}

async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
    RawQuery(raw): RawQuery,
    path: &str,
    write: fn(&Flavor, &RequestCx) -> Value,
) -> Result<Json<Value>, Fault> {
    let number = |name: &str| -> Result<u64, Fault> {
        let Some(text) = common::last(&pairs, name) else { return Ok(0) };
        text.parse().map_err(|_| Fault::bad_request(format!("Invalid {name} filter [{text}]")))
    };
    let (min_ram, min_disk) = (number("minRam")?, number("minDisk")?);
    let public = match (caller.is_admin(), common::last(&pairs, "is_public")) {
        (false, _) | (true, None) => Some(true),
        (true, Some(word)) if word.eq_ignore_ascii_case("none") => None,
        (true, Some(word)) => {
            let wrong = || Fault::bad_request(format!("Invalid is_public filter [{word}]"));
            Some(boolean_word(word).ok_or_else(wrong)?)
        }
    };
    let project = caller.project.as_ref().map(|scope| scope.id.clone());
    let wanted = |flavor: &Flavor| {
        let shown = match public {
            None => true,
            Some(true) => flavor.usable_by(project.as_ref()),
            Some(false) => !flavor.public,
        };
        shown && flavor.ram_mib >= min_ram && flavor.disk_gib >= min_disk && (!flavor.disabled || caller.is_admin())
    };
    let found = cloud.view.read(|reader| {
        let all = reader.all::<Flavor>().map(|found| found.map(|(flavor, _)| flavor));
        all.collect::<Result<Vec<_>, _>>()
    });
    let mut found: Vec<Flavor> = found.await??.into_iter().filter(wanted).collect();
    sort(&mut found, common::last(&pairs, "sort_key").unwrap_or("flavorid"))?;
    match common::last(&pairs, "sort_dir") {
        None | Some("asc") => {}
        Some("desc") => found.reverse(),
        Some(other) => return Err(Fault::bad_request(format!("Invalid sort direction: {other}"))),
    }
    let paged = common::page(&pairs).cut(found, PAGE_ENTRIES_MAX, |flavor| flavor.id.clone())?;
    let mut body = json!({ "flavors": paged.entries.iter().map(|flavor| write(flavor, &cx)).collect::<Vec<_>>() });
    if let Some(last) = paged.entries.last().filter(|_| paged.more) {
        body["flavors_links"] = common::next(&cx, path, raw.as_deref(), &last.id);
    }
    Ok(Json(body))
}

fn sort(flavors: &mut [Flavor], key: &str) -> Result<(), Fault> {
    match key {
        "flavorid" | "id" => flavors.sort_by(|one, other| one.id.cmp(&other.id)),
        "name" => flavors.sort_by(|one, other| one.name.cmp(&other.name)),
        "memory_mb" => flavors.sort_by_key(|flavor| flavor.ram_mib),
        "vcpus" => flavors.sort_by_key(|flavor| flavor.vcpus),
        "root_gb" => flavors.sort_by_key(|flavor| flavor.disk_gib),
        "ephemeral_gb" => flavors.sort_by_key(|flavor| flavor.ephemeral_gib),
        "swap" => flavors.sort_by_key(|flavor| flavor.swap_mib),
        "is_public" => flavors.sort_by_key(|flavor| flavor.public),
        "disabled" => flavors.sort_by_key(|flavor| flavor.disabled),
        "rxtx_factor" => flavors.sort_by_key(|flavor| flavor.rxtx_milli),
        "created_at" | "updated_at" | "description" | "vcpu_weight" => {}
        other => return Err(Fault::bad_request(format!("Invalid sort key: {other}"))),
    }
    Ok(())
}

/// `GET /flavors/{id}`
async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let flavor = cloud.view.read(|reader| visible(reader, &caller, &id)).await??;
    Ok(Json(json!({ "flavor": whole(&flavor, &cx) })))
}

fn parse(body: Value, version: Microversion, cloud: &Compute) -> Result<Flavor, Fault> {
    let mut object = only(body, "flavor")?;
    let id = match object.given("id").or_else(|| object.given("flavorid")) {
        None => ids::random_uuid(&cloud.world).to_string(),
        Some(Value::String(text)) if text == "auto" => ids::random_uuid(&cloud.world).to_string(),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(Fault::bad_request(format!("Invalid input for field/attribute id. Value: {other}"))),
    };
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_' | ' ');
    if id.is_empty() || id.len() > 255 || id.trim() != id || !id.chars().all(plain) {
        return Err(Fault::bad_request(format!("Invalid input for field/attribute id. Value: {id}")));
    }
    object.take("flavorid");
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let rxtx = match object.given("rxtx_factor") {
        None => 1.0,
        Some(Value::Number(number)) => number.as_f64().unwrap_or(-1.0),
        Some(Value::String(text)) => text.parse().unwrap_or(-1.0),
        Some(_) => -1.0,
    };
    if !(0.001..=4_000_000.0).contains(&rxtx) {
        return Err(Fault::bad_request("Invalid input for field/attribute rxtx_factor"));
    }
    let flavor = Flavor {
        id,
        name: object.required_name("name")?,
        vcpus: u32::try_from(object.required_number("vcpus", 1, NUMBER_MAX)?).unwrap_or(1),
        ram_mib: number(object.required_number("ram", 1, NUMBER_MAX)?),
        disk_gib: number(object.required_number("disk", 0, NUMBER_MAX)?),
        ephemeral_gib: number(object.number("OS-FLV-EXT-DATA:ephemeral", 0, NUMBER_MAX)?.unwrap_or(0)),
        swap_mib: number(object.number("swap", 0, NUMBER_MAX)?.unwrap_or(0)),
        rxtx_milli: (rxtx * 1000.0) as u32,
        public: object.boolean("os-flavor-access:is_public")?.unwrap_or(true),
        disabled: false,
        description: if version.at_least(2, 55) { description(&mut object)? } else { None },
        ..Flavor::default()
    };
    object.end()?;
    Ok(flavor)
}

fn description(object: &mut crate::body::Object) -> Result<Option<String>, Fault> {
    object.optional_text("description", 0, 65_535)
}

/// `POST /flavors`
async fn create(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-flavor-manage:create")?;
    let flavor = parse(body, cx.microversion, &cloud)?;
    let (call, mut span) = cloud.open(&cx, "POST /flavors", Some(&flavor.id));
    span.note(cloud.servers.create_flavor(&call, &flavor).await).map_err(fault::accept)?;
    Ok(Json(json!({ "flavor": whole(&flavor, &cx) })))
}

/// `PUT /flavors/{id}`: its description.
async fn update(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    since(cx.microversion, 55)?;
    common::admin(&caller, "os_compute_api:os-flavor-manage:update")?;
    let mut object = only(body, "flavor")?;
    if !object.has("description") {
        return Err(Fault::bad_request("'description' is a required property"));
    }
    let text = description(&mut object)?;
    object.end()?;
    let (call, mut span) = cloud.open(&cx, "PUT /flavors/{id}", Some(&id));
    let describe = |flavor: &mut Flavor| {
        flavor.description.clone_from(&text);
        Ok(())
    };
    let flavor = span.note(cloud.servers.change_flavor(&call, &id, describe).await).map_err(fault::accept)?;
    Ok(Json(json!({ "flavor": whole(&flavor, &cx) })))
}

/// `DELETE /flavors/{id}`
async fn delete(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::admin(&caller, "os_compute_api:os-flavor-manage:delete")?;
    let (call, mut span) = cloud.open(&cx, "DELETE /flavors/{id}", Some(&id));
    span.note(cloud.servers.delete_flavor(&call, &id).await).map_err(fault::accept)?;
    Ok(StatusCode::ACCEPTED)
}
