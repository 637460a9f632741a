//! Resource providers: what they have, and how much of it is claimed.
//!
//! Generations are the revision at which a provider's record was written: they rise with it, as clients expect.

use std::sync::Arc;

use api::{Caller, Fault, Json, Microversion, Path, Query};
use axum::extract::State;
use placement::provider::used_key;
use placement::{Inventory, Provider, ProviderId};
use serde_json::{Map, Value, json};
use store::{Reader, Revision, View};

use crate::{admin, since};

/// The provider with this id.
pub(crate) fn required(reader: &Reader<'_>, id: &str) -> Result<(Provider, Revision), Fault> {
    let missing = || Fault::not_found(format!("No resource provider with uuid {id} found"));
    let id: ProviderId = id.parse().map_err(|_| missing())?;
    reader.get::<Provider>(&id)?.ok_or_else(missing)
}

/// Its generation.
pub(crate) fn generation(revision: Revision) -> u64 {
    revision.as_u64()
}

fn shown(provider: &Provider, revision: Revision, version: Microversion) -> Value {
    let id = provider.id.to_string();
    let mut names = vec!["", "inventories", "usages"];
    if version.at_least(1, 1) {
        names.push("aggregates");
    }
    if version.at_least(1, 6) {
        names.push("traits");
    }
    if version.at_least(1, 11) {
        names.push("allocations");
    }
    let link = |name: &&str| match *name {
        "" => json!({ "rel": "self", "href": format!("/placement/resource_providers/{id}") }),
        name => json!({ "rel": name, "href": format!("/placement/resource_providers/{id}/{name}") }),
    };
    let mut out = json!({
        "uuid": id,
        "name": provider.name,
        "generation": generation(revision),
        "links": names.iter().map(link).collect::<Vec<_>>(),
    });
    if version.at_least(1, 14) {
        out["parent_provider_uuid"] = Value::Null;
        out["root_provider_uuid"] = Value::from(id);
    }
    out
}

/// What a list can be narrowed by here, and from which version on.
const FILTERS: [(&str, u16); 3] = [("name", 0), ("uuid", 0), ("in_tree", 14)];

/// `GET /resource_providers`
pub(crate) async fn list(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    admin(&caller, "placement:resource_providers:list")?;
    for (name, _) in &pairs {
        if !FILTERS.iter().any(|(known, minor)| known == name && version.at_least(1, *minor)) {
            return Err(Fault::bad_request(format!(
                "Invalid query string parameters: the filter '{name}' is not supported here"
            )));
        }
    }
    let fits = |provider: &Provider| {
        pairs.iter().all(
            |(name, value)| if name == "name" { provider.name == *value } else { provider.id.to_string() == *value },
        )
    };
    let found = view.read(|reader| {
        let all = reader.all::<Provider>().map(|found| found.map_err(Fault::from));
        let kept = all.filter(|found| found.as_ref().map_or(true, |(provider, _)| fits(provider)));
        kept.map(|found| found.map(|(provider, revision)| shown(&provider, revision, version))).collect()
    });
    let found: Result<Vec<Value>, Fault> = found.await?;
    Ok(Json(json!({ "resource_providers": found? })))
}

/// `GET /resource_providers/{id}`
pub(crate) async fn show(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    admin(&caller, "placement:resource_providers:show")?;
    let (provider, revision) = view.read(|reader| required(reader, &id)).await??;
    Ok(Json(shown(&provider, revision, version)))
}

fn amounts(inventory: &Inventory) -> Value {
    json!({
        "total": inventory.total,
        "reserved": inventory.reserved,
        "min_unit": inventory.min_unit,
        "max_unit": inventory.max_unit,
        "step_size": inventory.step_size,
        "allocation_ratio": inventory.ratio_milli as f64 / 1000.0,
    })
}

/// `GET /resource_providers/{id}/inventories`
pub(crate) async fn inventories(
    State(view): State<Arc<View>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    admin(&caller, "placement:resource_providers:inventories:list")?;
    let (provider, revision) = view.read(|reader| required(reader, &id)).await??;
    let all: Map<String, Value> =
        provider.inventories.iter().map(|(class, inventory)| (class.clone(), amounts(inventory))).collect();
    Ok(Json(json!({ "resource_provider_generation": generation(revision), "inventories": all })))
}

/// `GET /resource_providers/{id}/inventories/{class}`
pub(crate) async fn inventory(
    State(view): State<Arc<View>>,
    caller: Caller,
    Path((id, class)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    admin(&caller, "placement:resource_providers:inventories:show")?;
    let (provider, revision) = view.read(|reader| required(reader, &id)).await??;
    let missing = || Fault::not_found(format!("No inventory of class {class} for {id}"));
    let mut out = amounts(provider.inventories.get(&class).ok_or_else(missing)?);
    out["resource_provider_generation"] = Value::from(generation(revision));
    Ok(Json(out))
}

/// `GET /resource_providers/{id}/usages`
pub(crate) async fn usages(
    State(view): State<Arc<View>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    admin(&caller, "placement:resource_providers:usages")?;
    let out = view.read(|reader| {
        let (provider, revision) = required(reader, &id)?;
        let used = |class: &String| (class.clone(), json!(reader.counter(&used_key(provider.id, class))));
        let all: Map<String, Value> = provider.inventories.keys().map(used).collect();
        Ok::<_, Fault>(json!({ "resource_provider_generation": generation(revision), "usages": all }))
    });
    Ok(Json(out.await??))
}

/// `GET /resource_providers/{id}/aggregates`: providers are in none.
pub(crate) async fn aggregates(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    since(version, 1)?;
    admin(&caller, "placement:resource_providers:aggregates:list")?;
    let (_, revision) = view.read(|reader| required(reader, &id)).await??;
    let mut out = json!({ "aggregates": [] });
    if version.at_least(1, 19) {
        out["resource_provider_generation"] = Value::from(generation(revision));
    }
    Ok(Json(out))
}

/// `GET /resource_providers/{id}/traits`
pub(crate) async fn traits(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    since(version, 6)?;
    admin(&caller, "placement:resource_providers:traits:list")?;
    let (provider, revision) = view.read(|reader| required(reader, &id)).await??;
    Ok(Json(json!({ "traits": provider.traits, "resource_provider_generation": generation(revision) })))
}
