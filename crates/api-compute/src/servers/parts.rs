//! What hangs on a server: addresses, interfaces, groups; and what it does not have here.

use api::{Caller, Fault, Json, Path, Query, RequestCx};
use axum::extract::State;
use http::StatusCode;
use networks::{Port, Remote, RuleDirection, SecurityGroup};
use serde_json::{Value, json};
use servers::VmState;

use super::records::{gather, with};
use super::shown::{Around, Depth};
use crate::common::{self, Cloud, since};
use crate::fault;

/// `GET /servers/{id}/ips`
pub(crate) async fn addresses(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let mut around = Around::new(&cx, &caller, Depth::Update);
    let shown = gather(&cloud, &caller, &mut around, &id).await?;
    Ok(Json(json!({ "addresses": shown.addresses(false) })))
}

/// `GET /servers/{id}/ips/{label}`
pub(crate) async fn addresses_on(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, label)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let mut around = Around::new(&cx, &caller, Depth::Update);
    let shown = gather(&cloud, &caller, &mut around, &id).await?;
    let mut all = shown.addresses(false);
    let list = all.remove(label.as_str());
    let list = list.ok_or_else(|| Fault::not_found("Instance is not a member of specified network"))?;
    Ok(Json(json!({ label.as_str(): list })))
}

fn attachment(port: &Port, active: bool, cx: &RequestCx) -> Value {
    let fixed = |fixed: &networks::FixedIp| json!({ "subnet_id": fixed.subnet.to_string(), "ip_address": fixed.address.to_string() });
    let mut out = json!({
        "port_state": if active { "ACTIVE" } else { "DOWN" },
        "fixed_ips": port.fixed_ips.iter().map(fixed).collect::<Vec<_>>(),
        "port_id": port.id.to_string(),
        "net_id": port.network.to_string(),
        "mac_addr": port.mac.to_string(),
    });
    if cx.microversion.at_least(2, 70) {
        out["tag"] = Value::Null;
    }
    out
}

async fn attachments(cloud: &crate::Compute, cx: &RequestCx, caller: &Caller, id: &str) -> Result<Vec<Value>, Fault> {
    let mut around = Around::new(cx, caller, Depth::Update);
    let shown = gather(cloud, caller, &mut around, id).await?;
    let active = matches!(shown.server.state, VmState::Active | VmState::Paused);
    Ok(shown.ports().map(|port| attachment(port, active, cx)).collect())
}

/// `GET /servers/{id}/os-interface`
pub(crate) async fn interfaces(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    Ok(Json(json!({ "interfaceAttachments": attachments(&cloud, &cx, &caller, &id).await? })))
}

/// `GET /servers/{id}/os-interface/{port}`
pub(crate) async fn interface(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, port)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let all = attachments(&cloud, &cx, &caller, &id).await?;
    let found = all.into_iter().find(|one| one["port_id"] == port.as_str());
    let found = found.ok_or_else(|| Fault::not_found(format!("Port {port} is not attached to instance {id}")))?;
    Ok(Json(json!({ "interfaceAttachment": found })))
}

/// `POST /servers/{id}/os-interface`
pub(crate) async fn attach_interface(State(cloud): Cloud, caller: Caller, Path(id): Path<String>) -> Result<(), Fault> {
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Err(fault::not_yet("attach interfaces to a server that exists"))
}

/// `DELETE /servers/{id}/os-interface/{port}`
pub(crate) async fn detach_interface(
    State(cloud): Cloud,
    caller: Caller,
    Path((id, _port)): Path<(String, String)>,
) -> Result<(), Fault> {
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Err(fault::not_yet("detach interfaces from a server"))
}

/// `GET /servers/{id}/os-security-groups`: the groups of its ports, with those rules that this old form can say.
pub(crate) async fn security_groups(
    State(cloud): Cloud,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let groups = with(&cloud, &caller, &id, |reader, server| {
        let mut out: Vec<SecurityGroup> = Vec::new();
        for (port, _) in networks::ports_of(reader, server.id.guest()).map_err(fault::network)? {
            for id in &port.groups {
                if !out.iter().any(|group| group.id == *id)
                    && let Some((group, _)) = reader.get::<SecurityGroup>(id)?
                {
                    out.push(group);
                }
            }
        }
        Ok(out)
    });
    let groups: Vec<Value> = groups.await?.iter().map(group).collect();
    Ok(Json(json!({ "security_groups": groups })))
}

fn group(group: &SecurityGroup) -> Value {
    let incoming = group.rules.iter().filter(|rule| rule.direction == RuleDirection::Ingress);
    let rules = incoming.map(|rule| {
        let (range, remote) = match rule.remote {
            Remote::Any => (json!({ "cidr": if rule.ipv6 { "::/0" } else { "0.0.0.0/0" } }), json!({})),
            Remote::Prefix(prefix) => (json!({ "cidr": prefix.to_string() }), json!({})),
            Remote::Group(group) => (json!({}), json!({ "name": group.to_string() })),
        };
        json!({
            "id": rule.id.to_string(),
            "parent_group_id": group.id.to_string(),
            "ip_protocol": rule.protocol,
            "from_port": rule.port_min,
            "to_port": rule.port_max,
            "ip_range": range,
            "group": remote,
        })
    });
    json!({
        "id": group.id.to_string(),
        "name": group.standard.name,
        "description": group.standard.description,
        "tenant_id": group.standard.project.as_str(),
        "rules": rules.collect::<Vec<_>>(),
    })
}

/// `GET /servers/{id}/os-volume_attachments`: there are no volumes.
pub(crate) async fn volumes(State(cloud): Cloud, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Ok(Json(json!({ "volumeAttachments": [] })))
}

/// `POST /servers/{id}/os-volume_attachments`
pub(crate) async fn attach_volume(State(cloud): Cloud, caller: Caller, Path(id): Path<String>) -> Result<(), Fault> {
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Err(fault::not_yet("attach volumes"))
}

/// `GET /servers/{id}/migrations`: nothing moves here.
pub(crate) async fn migrations(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    since(cx.microversion, 23)?;
    common::admin(&caller, "os_compute_api:servers:migrations:index")?;
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Ok(Json(json!({ "migrations": [] })))
}

/// `GET /os-migrations`
pub(crate) async fn all_migrations(
    caller: Caller,
    Query(_filters): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-migrations:index")?;
    Ok(Json(json!({ "migrations": [] })))
}

/// `GET /servers/{id}/diagnostics`
pub(crate) async fn diagnostics(State(cloud): Cloud, caller: Caller, Path(id): Path<String>) -> Result<(), Fault> {
    common::admin(&caller, "os_compute_api:os-server-diagnostics")?;
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Err(fault::not_yet("show diagnostics of a server"))
}

/// `POST /servers/{id}/remote-consoles`
pub(crate) async fn remote_console(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(), Fault> {
    since(cx.microversion, 6)?;
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Err(fault::not_yet("open a remote console"))
}

/// `GET /servers/{id}/os-server-password`: what a guest would have told; none has.
pub(crate) async fn password(
    State(cloud): Cloud,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Ok(Json(json!({ "password": "" })))
}

/// `DELETE /servers/{id}/os-server-password`
pub(crate) async fn clear_password(
    State(cloud): Cloud,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::member(&caller)?;
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    Ok(StatusCode::NO_CONTENT)
}
