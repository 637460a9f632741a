//! Who holds what: allocations by consumer and by provider, usages by project.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Caller, Fault, Json, Microversion, Path, Query};
use axum::extract::State;
use placement::{Claim, ConsumerId, Provider};
use serde_json::{Map, Value, json};
use store::{Reader, Revision, View};

use crate::providers::{generation, required};
use crate::{admin, since};

/// `GET /allocations/{consumer}`: a consumer that holds nothing has an empty answer, known or not.
pub(crate) async fn of_consumer(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    admin(&caller, "placement:allocations:list")?;
    let Ok(consumer) = id.parse::<ConsumerId>() else { return Ok(Json(json!({ "allocations": {} }))) };
    let found = view.read(|reader| {
        let Some((claim, revision)) = reader.get::<Claim>(&consumer)? else { return Ok(None) };
        let provider = reader.get::<Provider>(&claim.provider)?.map(|(_, revision)| revision);
        Ok::<_, Fault>(Some((claim, revision, provider)))
    });
    let Some((claim, revision, provider)) = found.await?? else { return Ok(Json(json!({ "allocations": {} }))) };
    let mut held = json!({ "resources": claim.resources });
    if let Some(provider) = provider {
        held["generation"] = Value::from(generation(provider));
    }
    let mut out = json!({ "allocations": { claim.provider.to_string(): held } });
    if version.at_least(1, 12) {
        out["project_id"] = Value::from(claim.project.as_str());
        out["user_id"] = Value::from(claim.user.as_str());
    }
    describe(&mut out, revision, version);
    Ok(Json(out))
}

/// What later versions tell of a consumer.
fn describe(out: &mut Value, revision: Revision, version: Microversion) {
    if version.at_least(1, 28) {
        out["consumer_generation"] = Value::from(generation(revision));
    }
    if version.at_least(1, 38) {
        out["consumer_type"] = Value::from("INSTANCE");
    }
}

fn claims(reader: &Reader<'_>) -> Result<Vec<(Claim, Revision)>, Fault> {
    Ok(reader.all::<Claim>().collect::<Result<_, _>>()?)
}

/// `GET /resource_providers/{id}/allocations`
pub(crate) async fn of_provider(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    admin(&caller, "placement:resource_providers:allocations:list")?;
    let out = view.read(|reader| {
        let (provider, revision) = required(reader, &id)?;
        let mut all = Map::new();
        for (claim, held) in claims(reader)?.into_iter().filter(|(claim, _)| claim.provider == provider.id) {
            let mut entry = json!({ "resources": claim.resources });
            if version.at_least(1, 28) {
                entry["consumer_generation"] = Value::from(generation(held));
            }
            all.insert(claim.consumer.to_string(), entry);
        }
        Ok::<_, Fault>(json!({ "allocations": all, "resource_provider_generation": generation(revision) }))
    });
    Ok(Json(out.await??))
}

/// `GET /usages?project_id=…`
pub(crate) async fn usages(
    State(view): State<Arc<View>>,
    version: Microversion,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    since(version, 9)?;
    let parameter = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let project = parameter("project_id");
    let project = project
        .ok_or_else(|| Fault::bad_request("Invalid query string parameters: 'project_id' is a required property"))?;
    let own = caller.project.as_ref().is_some_and(|scope| scope.id.as_str() == project);
    if !(own && caller.has_role("reader")) {
        admin(&caller, "placement:usages")?;
    }
    let user = parameter("user_id");
    let kind = parameter("consumer_type").filter(|_| version.at_least(1, 38));
    let all = view.read(claims).await??;
    let mine = all
        .iter()
        .map(|(claim, _)| claim)
        .filter(|claim| claim.project == project && user.as_ref().is_none_or(|user| claim.user == *user));
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    let mut consumers = 0;
    for claim in mine.filter(|_| kind.as_deref().is_none_or(|kind| kind == "INSTANCE" || kind == "all")) {
        consumers += 1;
        for (class, amount) in &claim.resources {
            *sums.entry(class).or_default() += amount;
        }
    }
    if !version.at_least(1, 38) {
        return Ok(Json(json!({ "usages": sums })));
    }
    if consumers == 0 {
        return Ok(Json(json!({ "usages": {} })));
    }
    let mut sums = json!(sums);
    sums["consumer_count"] = Value::from(consumers);
    let name = if kind.as_deref() == Some("all") { "all" } else { "INSTANCE" };
    Ok(Json(json!({ "usages": { name: sums } })))
}
