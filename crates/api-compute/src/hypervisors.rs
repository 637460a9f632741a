//! Hypervisors: nodes, as administrators see them.

use std::sync::Arc;

use ::servers::{Server, VmState};
use api::{Caller, Dialect, Fault, Json, Microversion, Path, Query, RequestCx, Routes};
use axum::extract::{RawQuery, State};
use placement::provider::{DISK_GB, MEMORY_MB, VCPU, used_key};
use placement::{Node, Provider};
use serde_json::{Value, json};
use store::Reader;

use crate::Compute;
use crate::body::boolean_word;
use crate::common::{self, Cloud, number_of, until};
use crate::servers::{Presence, is_up, presence};

const PAGE_ENTRIES_MAX: usize = 1000;

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/os-hypervisors", brief)
        .get("/os-hypervisors/detail", detail)
        .get("/os-hypervisors/statistics", statistics)
        .get("/os-hypervisors/{id}", show)
        .get("/os-hypervisors/{id}/{what}", below)
}

/// A node with what it gives and what runs on it.
struct Hypervisor {
    node: Node,
    vcpus: (u64, u64),
    memory_mib: (u64, u64),
    disk_gib: (u64, u64),
    servers: Vec<Server>,
    up: bool,
}

impl Hypervisor {
    fn gather(reader: &Reader<'_>, node: Node, presence: &Presence) -> Result<Hypervisor, Fault> {
        let provider = reader.get::<Provider>(&node.provider)?.map(|(provider, _)| provider);
        let amount = |class: &str| {
            let total = provider.as_ref().and_then(|provider| provider.inventories.get(class));
            (total.map_or(0, |inventory| inventory.total), reader.counter(&used_key(node.provider, class)))
        };
        let servers = reader.by::<Server>(::servers::BY_NODE, &node.name).map(|found| found.map(|(server, _)| server));
        Ok(Hypervisor {
            vcpus: amount(VCPU),
            memory_mib: amount(MEMORY_MB),
            disk_gib: amount(DISK_GB),
            servers: servers.collect::<Result<_, _>>()?,
            up: is_up(presence, &node.name),
            node,
        })
    }

    fn id(&self, version: Microversion) -> Value {
        if version.at_least(2, 53) { json!(self.node.id.to_string()) } else { json!(number_of(&self.node.id)) }
    }

    /// The same, as it stands in a path.
    fn id_text(&self, version: Microversion) -> String {
        if version.at_least(2, 53) { self.node.id.to_string() } else { number_of(&self.node.id).to_string() }
    }

    fn named(&self, version: Microversion) -> Value {
        json!({
            "id": self.id(version),
            "hypervisor_hostname": self.node.name,
            "state": if self.up { "up" } else { "down" },
            "status": if self.node.disabled.is_none() { "enabled" } else { "disabled" },
        })
    }

    fn with_servers(&self, out: &mut Value) {
        let server = |server: &Server| json!({ "uuid": server.id.to_string(), "name": server.name });
        out["servers"] = self.servers.iter().map(server).collect();
    }

    fn whole(&self, version: Microversion) -> Value {
        let mut out = self.named(version);
        let node = &self.node;
        out["hypervisor_type"] = json!(node.hypervisor);
        out["hypervisor_version"] = json!(node.hypervisor_version);
        out["host_ip"] = json!(host_ip(&node.endpoint));
        let disabled = node.disabled.as_ref().filter(|reason| !reason.is_empty());
        out["service"] = json!({ "host": node.name, "id": self.id(version), "disabled_reason": disabled });
        if version.at_least(2, 88) {
            out["uptime"] = Value::Null;
            return out;
        }
        out["vcpus"] = json!(self.vcpus.0);
        out["vcpus_used"] = json!(self.vcpus.1);
        out["memory_mb"] = json!(self.memory_mib.0);
        out["memory_mb_used"] = json!(self.memory_mib.1);
        out["free_ram_mb"] = json!(self.memory_mib.0.saturating_sub(self.memory_mib.1));
        out["local_gb"] = json!(self.disk_gib.0);
        out["local_gb_used"] = json!(self.disk_gib.1);
        out["free_disk_gb"] = json!(self.disk_gib.0.saturating_sub(self.disk_gib.1));
        out["disk_available_least"] = json!(self.disk_gib.0.saturating_sub(self.disk_gib.1));
        out["current_workload"] = json!(self.servers.iter().filter(|server| server.task.is_some()).count());
        out["running_vms"] = json!(self.servers.iter().filter(|server| server.state == VmState::Active).count());
        let facts = json!(node.facts);
        out["cpu_info"] = if version.at_least(2, 28) { facts } else { json!(facts.to_string()) };
        out
    }
}

/// The address without the port.
fn host_ip(endpoint: &str) -> Option<String> {
    let address: std::net::SocketAddr = endpoint.parse().ok()?;
    Some(address.ip().to_string())
}

async fn all(cloud: &Compute) -> Result<Vec<Hypervisor>, Fault> {
    let presence = presence(cloud);
    cloud
        .view
        .read(|reader| {
            let nodes = reader.all::<Node>().map(|found| found.map(|(node, _)| node)).collect::<Result<Vec<_>, _>>()?;
            nodes.into_iter().map(|node| Hypervisor::gather(reader, node, &presence)).collect()
        })
        .await?
}

/// `GET /os-hypervisors`
async fn brief(
    cloud: Cloud,
    cx: RequestCx,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    raw: RawQuery,
) -> Result<Json<Value>, Fault> {
    list(cloud, cx, caller, query, raw, "os-hypervisors", Hypervisor::named).await
}

/// `GET /os-hypervisors/detail`
async fn detail(
    cloud: Cloud,
    cx: RequestCx,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    raw: RawQuery,
) -> Result<Json<Value>, Fault> {
    list(cloud, cx, caller, query, raw, "os-hypervisors/detail", Hypervisor::whole).await
}

async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
    RawQuery(raw): RawQuery,
    path: &str,
    write: fn(&Hypervisor, Microversion) -> Value,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-hypervisors:list")?;
    let version = cx.microversion;
    let mut found = all(&cloud).await?;
    let pattern = common::last(&pairs, "hypervisor_hostname_pattern").filter(|_| version.at_least(2, 53));
    if let Some(pattern) = pattern {
        found.retain(|one| one.node.name.contains(pattern));
        if found.is_empty() {
            return Err(Fault::not_found(format!("No hypervisor matching '{pattern}' could be found.")));
        }
    }
    let page = if version.at_least(2, 33) { common::page(&pairs) } else { api::paging::Page::default() };
    let id_of = |one: &Hypervisor| one.id_text(version);
    let paged = page.cut(found, PAGE_ENTRIES_MAX, id_of)?;
    let servers = wants_servers(&pairs, version)?;
    let shown = paged.entries.iter().map(|one| {
        let mut out = write(one, version);
        if servers && (version.at_least(2, 75) || !one.servers.is_empty()) {
            one.with_servers(&mut out);
        }
        out
    });
    let mut body = json!({ "hypervisors": shown.collect::<Vec<_>>() });
    if let Some(last) = paged.entries.last().filter(|_| paged.more) {
        body["hypervisors_links"] = common::next(&cx, path, raw.as_deref(), &id_of(last));
    }
    Ok(Json(body))
}

fn wants_servers(pairs: &[(String, String)], version: Microversion) -> Result<bool, Fault> {
    match common::last(pairs, "with_servers").filter(|_| version.at_least(2, 53)) {
        None => Ok(false),
        Some(word) => boolean_word(word).ok_or_else(|| Fault::bad_request(format!("Invalid with_servers: {word}"))),
    }
}

async fn one(cloud: &Compute, cx: &RequestCx, id: &str) -> Result<Hypervisor, Fault> {
    let found = all(cloud).await?.into_iter().find(|one| one.id_text(cx.microversion) == id);
    found.ok_or_else(|| Fault::not_found(format!("Hypervisor with ID '{id}' could not be found.")))
}

/// `GET /os-hypervisors/{id}`
async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-hypervisors:show")?;
    let servers = wants_servers(&pairs, cx.microversion)?;
    let one = one(&cloud, &cx, &id).await?;
    let mut out = one.whole(cx.microversion);
    if servers && (cx.microversion.at_least(2, 75) || !one.servers.is_empty()) {
        one.with_servers(&mut out);
    }
    Ok(Json(json!({ "hypervisor": out })))
}

/// `GET /os-hypervisors/{pattern}/search`, `…/{pattern}/servers` and `…/{id}/uptime`, as long as there were such.
async fn below(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, what)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let version = cx.microversion;
    match what.as_str() {
        "uptime" => {
            until(version, 88)?;
            common::admin(&caller, "os_compute_api:os-hypervisors:uptime")?;
            one(&cloud, &cx, &id).await?;
            Err(Fault::bad_request("Virt driver does not implement uptime function."))
        }
        "search" | "servers" => {
            until(version, 53)?;
            common::admin(&caller, &format!("os_compute_api:os-hypervisors:{what}"))?;
            let mut found = all(&cloud).await?;
            found.retain(|one| one.node.name.contains(&id));
            if found.is_empty() {
                return Err(Fault::not_found(format!("No hypervisor matching '{id}' could be found.")));
            }
            let shown = found.iter().map(|one| {
                let mut out = one.named(version);
                if what == "servers" && !one.servers.is_empty() {
                    one.with_servers(&mut out);
                }
                out
            });
            Ok(Json(json!({ "hypervisors": shown.collect::<Vec<_>>() })))
        }
        _ => Err(Fault::not_found("The resource could not be found.")),
    }
}

/// `GET /os-hypervisors/statistics`
async fn statistics(State(cloud): Cloud, cx: RequestCx, caller: Caller) -> Result<Json<Value>, Fault> {
    until(cx.microversion, 88)?;
    common::admin(&caller, "os_compute_api:os-hypervisors:statistics")?;
    let mut found = all(&cloud).await?;
    found.retain(|one| one.node.disabled.is_none());
    let shown: Vec<Value> = found.iter().map(|one| one.whole(cx.microversion)).collect();
    let mut out = json!({ "count": shown.len() });
    for name in [
        "vcpus",
        "vcpus_used",
        "memory_mb",
        "memory_mb_used",
        "free_ram_mb",
        "local_gb",
        "local_gb_used",
        "free_disk_gb",
        "disk_available_least",
        "current_workload",
        "running_vms",
    ] {
        out[name] = json!(shown.iter().filter_map(|one| one[name].as_u64()).sum::<u64>());
    }
    Ok(Json(json!({ "hypervisor_statistics": out })))
}
