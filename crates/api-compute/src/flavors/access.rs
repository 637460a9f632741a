//! Which projects may use a flavor that is not public.

use ::servers::{AcceptError, Flavor};
use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::State;
use identity::ProjectId;
use serde_json::{Value, json};

use super::visible;
use crate::body::Object;
use crate::common::{self, Cloud};
use crate::fault;

fn shown(flavor: &Flavor) -> Value {
    let entry = |project: &ProjectId| json!({ "flavor_id": flavor.id, "tenant_id": project.as_str() });
    json!({ "flavor_access": flavor.access.iter().map(entry).collect::<Vec<_>>() })
}

/// `GET /flavors/{id}/os-flavor-access`
pub(super) async fn list(State(cloud): Cloud, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-flavor-access")?;
    let flavor = cloud.view.read(|reader| visible(reader, &caller, &id)).await??;
    if flavor.public {
        return Err(Fault::not_found("Access list not available for public flavors."));
    }
    Ok(Json(shown(&flavor)))
}

/// `POST /flavors/{id}/action`
pub(super) async fn act(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let Some((verb, value)) = Object::new(body, "body")?.single() else {
        return Err(Fault::bad_request("Malformed request body: exactly one action is expected"));
    };
    let add = match verb.as_str() {
        "addTenantAccess" => true,
        "removeTenantAccess" => false,
        other => return Err(Fault::bad_request(format!("There is no such action: {other}"))),
    };
    common::admin(
        &caller,
        &format!("os_compute_api:os-flavor-access:{}", if add { "add_tenant_access" } else { "remove_tenant_access" }),
    )?;
    let mut object = Object::new(value, &verb)?;
    let text = object.required_text("tenant", 1, 255)?;
    object.end()?;
    let project = crate::quotas::existing(&cloud, &text).await?;
    let strict = cx.microversion.at_least(2, 7);
    let (call, mut span) = cloud.open(&cx, "POST /flavors/{id}/action", Some(&id));
    let change = |flavor: &mut Flavor| {
        if add && flavor.public && strict {
            return Err(AcceptError::Conflict("Can not add access to a public flavor.".into()));
        }
        if add && !flavor.access.insert(project.clone()) {
            let text =
                format!("Flavor access already exists for flavor {} and project {project} combination.", flavor.id);
            return Err(AcceptError::Conflict(text));
        }
        if !add && !flavor.access.remove(&project) {
            let id = format!("access for {} / {project} combination", flavor.id);
            return Err(AcceptError::NotFound { kind: "Flavor", id });
        }
        Ok(())
    };
    let flavor = span.note(cloud.servers.change_flavor(&call, &id, change).await).map_err(fault::accept)?;
    Ok(Json(shown(&flavor)))
}
