//! What projects have used: hours of servers, times what they have.
//!
//! Only servers that still exist count: what was deleted is gone, with its hours.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::servers::{Server, VmState};
use api::time::iso_micro;
use api::{Caller, Dialect, Fault, Json, Path, Query, RequestCx, Routes};
use axum::extract::State;
use serde_json::{Value, json};
use world::Wall;

use crate::Compute;
use crate::common::{self, Cloud};

/// What is looked back upon if no start is given, in microseconds: 28 days.
const SPAN_US: u64 = 28 * 24 * 3600 * 1_000_000;
const PAGE_ENTRIES_MAX: usize = 1000;

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova).get("/os-simple-tenant-usage", list).get("/os-simple-tenant-usage/{project}", show)
}

struct Span {
    now: Wall,
    start: Wall,
    end: Wall,
}

impl Span {
    fn parse(pairs: &[(String, String)], now: Wall) -> Result<Span, Fault> {
        let moment = |name: &str| -> Result<Option<Wall>, Fault> {
            let Some(text) = common::last(pairs, name).filter(|text| !text.is_empty()) else { return Ok(None) };
            let day = format!("{text}T00:00:00");
            let parsed = api::time::parse(text).or_else(|| api::time::parse(&day));
            parsed.map(Some).ok_or_else(|| Fault::bad_request(format!("Datetime is in invalid format: {text}")))
        };
        let end = moment("end")?.unwrap_or(now);
        let start = moment("start")?.unwrap_or(Wall::from_micros(end.as_micros().saturating_sub(SPAN_US)));
        if start > end {
            return Err(Fault::bad_request("Invalid start time. The start time cannot occur after the end time."));
        }
        Ok(Span { now, start, end })
    }

    fn hours(&self, server: &Server) -> f64 {
        let from = self.start.max(server.launched.unwrap_or(server.created));
        let until = self.end.min(self.now);
        until.as_micros().saturating_sub(from.as_micros()) as f64 / 3.6e9
    }
}

/// Servers whose hours count: those that have run.
fn counts(server: &Server, span: &Span) -> bool {
    server.launched.is_some_and(|launched| launched <= span.end)
}

fn usage(project: &str, servers: &[Server], span: &Span, detailed: bool) -> Value {
    let (mut hours, mut memory, mut vcpus, mut disk) = (0.0, 0.0, 0.0, 0.0);
    let mut each = Vec::new();
    for server in servers.iter().filter(|server| counts(server, span)) {
        let own = span.hours(server);
        hours += own;
        memory += own * server.flavor.ram_mib as f64;
        vcpus += own * f64::from(server.flavor.vcpus);
        disk += own * (server.flavor.disk_gib + server.flavor.ephemeral_gib) as f64;
        if detailed {
            let started = server.launched.unwrap_or(server.created);
            each.push(json!({
                "instance_id": server.id.to_string(),
                "name": server.name,
                "hours": own,
                "tenant_id": project,
                "memory_mb": server.flavor.ram_mib,
                "local_gb": server.flavor.disk_gib + server.flavor.ephemeral_gib,
                "vcpus": server.flavor.vcpus,
                "flavor": server.flavor.name,
                "started_at": iso_micro(started),
                "ended_at": null,
                "state": if server.state == VmState::Error { "error" } else { server.vm_state() },
                "uptime": span.now.as_secs().saturating_sub(started.as_secs()),
            }));
        }
    }
    let mut out = json!({
        "tenant_id": project,
        "total_hours": hours,
        "total_memory_mb_usage": memory,
        "total_vcpus_usage": vcpus,
        "total_local_gb_usage": disk,
        "start": iso_micro(span.start),
        "stop": iso_micro(span.end),
    });
    if detailed {
        out["server_usages"] = Value::from(each);
    }
    out
}

/// `GET /os-simple-tenant-usage`
async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    common::admin(&caller, "os_compute_api:os-simple-tenant-usage:list")?;
    let span = Span::parse(&pairs, cloud.world.wall())?;
    let detailed = common::last(&pairs, "detailed") == Some("1");
    let all = cloud.view.read(|reader| {
        let all = reader.all::<Server>().map(|found| found.map(|(server, _)| server));
        all.collect::<Result<Vec<_>, _>>()
    });
    let mut projects: BTreeMap<String, Vec<Server>> = BTreeMap::new();
    for server in all.await??.into_iter().filter(|server| counts(server, &span)) {
        projects.entry(server.project.to_string()).or_default().push(server);
    }
    let mut found: Vec<(String, Vec<Server>)> = projects.into_iter().collect();
    if cx.microversion.at_least(2, 40) {
        // A marker names a server: the page begins behind its project.
        if let Some(marker) = common::last(&pairs, "marker") {
            let at = found.iter().position(|(_, servers)| servers.iter().any(|server| server.id.to_string() == marker));
            let at = at.ok_or_else(|| Fault::bad_request(format!("marker [{marker}] not found")))?;
            found.drain(..=at);
        }
        let limit = common::page(&pairs).limit(PAGE_ENTRIES_MAX)?;
        found.truncate(limit);
    }
    let shown: Vec<_> = found.iter().map(|(project, servers)| usage(project, servers, &span, detailed)).collect();
    Ok(Json(json!({ "tenant_usages": shown })))
}

/// `GET /os-simple-tenant-usage/{project}`
async fn show(
    State(cloud): Cloud,
    caller: Caller,
    Path(project): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Fault> {
    let own = caller.project.as_ref().is_some_and(|scope| scope.id.as_str() == project);
    if !own {
        common::admin(&caller, "os_compute_api:os-simple-tenant-usage:show")?;
    }
    let span = Span::parse(&pairs, cloud.world.wall())?;
    let found = cloud
        .view
        .read(|reader| ::servers::list::newest_first(reader, Some(&project), None).collect::<Result<Vec<_>, _>>());
    let servers = found.await??;
    if !servers.iter().any(|server| counts(server, &span)) {
        return Ok(Json(json!({ "tenant_usage": {} })));
    }
    Ok(Json(json!({ "tenant_usage": usage(&project, &servers, &span, true) })))
}
