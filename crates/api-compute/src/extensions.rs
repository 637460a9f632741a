//! The list of extensions: what was an addition once and is served here. Clients of today ask for microversions.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, Routes};
use serde_json::{Value, json};

use crate::Compute;

/// Alias and name of those whose whole behaviour is there.
const EXTENSIONS: [(&str, &str); 18] = [
    ("os-admin-actions", "AdminActions"),
    ("os-aggregates", "Aggregates"),
    ("os-availability-zone", "AvailabilityZone"),
    ("os-config-drive", "ConfigDrive"),
    ("os-console-output", "ConsoleOutput"),
    ("os-extended-server-attributes", "ExtendedServerAttributes"),
    ("os-extended-status", "ExtendedStatus"),
    ("os-flavor-access", "FlavorAccess"),
    ("os-flavor-extra-specs", "FlavorExtraSpecs"),
    ("os-flavor-manage", "FlavorManage"),
    ("os-hypervisors", "Hypervisors"),
    ("os-instance-actions", "InstanceActions"),
    ("os-keypairs", "Keypairs"),
    ("os-multiple-create", "MultipleCreate"),
    ("os-quota-sets", "QuotaSets"),
    ("os-server-groups", "ServerGroups"),
    ("os-services", "Services"),
    ("os-simple-tenant-usage", "SimpleTenantUsage"),
];

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova).get("/extensions", list).get("/extensions/{alias}", show)
}

fn shown((alias, name): &(&str, &str)) -> Value {
    json!({
        "alias": alias, "name": name, "description": format!("{name} support."), "links": [],
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml", "updated": "2014-12-03T00:00:00Z",
    })
}

async fn list(_caller: Caller) -> Json<Value> {
    Json(json!({ "extensions": EXTENSIONS.iter().map(shown).collect::<Vec<_>>() }))
}

async fn show(_caller: Caller, Path(alias): Path<String>) -> Result<Json<Value>, Fault> {
    let found = EXTENSIONS.iter().find(|(known, _)| *known == alias);
    let found = found.ok_or_else(|| Fault::not_found("The resource could not be found."))?;
    Ok(Json(json!({ "extension": shown(found) })))
}
