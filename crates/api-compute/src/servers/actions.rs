//! What was asked of a server and what came of it. A deleted server's actions are shown as long as they are kept.

use api::time::iso_micro;
use api::{Caller, Fault, Json, Microversion, Path, Query, RequestCx};
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use servers::{Action, ActionStep, Server, ServerId};
use store::{Reader, Record};
use world::Wall;

use super::shown::host_id;
use crate::common::{self, Cloud};
use crate::fault;

const PAGE_ENTRIES_MAX: usize = 1000;

/// The actions of a server that the caller may see, newest first, and the server if there still is one.
fn found(
    reader: &Reader<'_>,
    caller: &Caller,
    version: Microversion,
    text: &str,
) -> Result<(Option<Server>, Vec<Action>), Fault> {
    let visible = servers::accept::visible(reader, caller, text);
    let id: Option<ServerId> = text.parse().ok();
    let server = match (visible, id) {
        (Ok((server, _)), _) => Some(server),
        // Since 2.21 what was deleted is remembered by those who had it.
        (Err(servers::AcceptError::NotFound { .. }), Some(id))
            if version.at_least(2, 21) && reader.get::<Server>(&id)?.is_none() =>
        {
            None
        }
        (Err(error), _) => return Err(fault::accept(error)),
    };
    let missing = || Fault::not_found(format!("Instance {text} could not be found."));
    let id = id.ok_or_else(missing)?;
    let actions = reader.range(Action::of(id)).map(|(_, entry)| Action::decode_entry(entry).map(|(action, _)| action));
    let mut actions = actions.collect::<Result<Vec<_>, _>>()?;
    if server.is_none() {
        actions.retain(|action| caller.is_admin() || caller.is_in_text(&action.project));
        if actions.is_empty() {
            return Err(missing());
        }
    }
    actions.sort_by(|one, other| other.start.cmp(&one.start).then(other.request_id.cmp(&one.request_id)));
    Ok((server, actions))
}

/// Compares project ids as texts.
trait InProject {
    fn is_in_text(&self, project: &str) -> bool;
}

impl InProject for Caller {
    fn is_in_text(&self, project: &str) -> bool {
        self.project.as_ref().is_some_and(|scope| scope.id.as_str() == project)
    }
}

fn summary(action: &Action, version: Microversion) -> Value {
    let mut out = json!({
        "action": action.action,
        "instance_uuid": action.server.to_string(),
        "request_id": action.request_id,
        "user_id": action.user,
        "project_id": action.project,
        "start_time": iso_micro(action.start),
        "message": action.message,
    });
    if version.at_least(2, 58) {
        out["updated_at"] = Value::from(iso_micro(action.finish.unwrap_or(action.start)));
    }
    out
}

/// `GET /servers/{id}/os-instance-actions`
pub(crate) async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Value>, Fault> {
    let version = cx.microversion;
    let (_, mut actions) = cloud.view.read(|reader| found(reader, &caller, version, &id)).await??;
    if !version.at_least(2, 58) {
        let all: Vec<_> = actions.iter().map(|action| summary(action, version)).collect();
        return Ok(Json(json!({ "instanceActions": all })));
    }
    let moment = |name: &str| -> Result<Option<Wall>, Fault> {
        let Some(text) = common::last(&pairs, name) else { return Ok(None) };
        let wrong = || Fault::bad_request(format!("Invalid input for query parameters {name}. Value: {text}"));
        api::time::parse(text).map(Some).ok_or_else(wrong)
    };
    if let Some(since) = moment("changes-since")? {
        actions.retain(|action| action.finish.unwrap_or(action.start) >= since);
    }
    if version.at_least(2, 66)
        && let Some(before) = moment("changes-before")?
    {
        actions.retain(|action| action.finish.unwrap_or(action.start) <= before);
    }
    let paged = common::page(&pairs).cut(actions, PAGE_ENTRIES_MAX, |action| action.request_id.clone())?;
    let all: Vec<_> = paged.entries.iter().map(|action| summary(action, version)).collect();
    let mut body = json!({ "instanceActions": all });
    if let Some(last) = paged.entries.last().filter(|_| paged.more) {
        let path = format!("servers/{id}/os-instance-actions");
        body["links"] = common::next(&cx, &path, raw.as_deref(), &last.request_id);
    }
    Ok(Json(body))
}

/// `GET /servers/{id}/os-instance-actions/{request}`
pub(crate) async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path((id, request)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let version = cx.microversion;
    let (server, actions) = cloud.view.read(|reader| found(reader, &caller, version, &id)).await??;
    let action = actions.iter().find(|action| action.request_id == request);
    let action = action
        .ok_or_else(|| Fault::not_found(format!("Action for request_id {request} on instance {id} not found")))?;
    let mut out = summary(action, version);
    if caller.is_admin() || version.at_least(2, 51) {
        let events = action.steps.iter().map(|step| event(step, server.as_ref(), &caller, version));
        out["events"] = events.collect();
    }
    Ok(Json(json!({ "instanceAction": out })))
}

fn event(step: &ActionStep, server: Option<&Server>, caller: &Caller, version: Microversion) -> Value {
    let finish = Wall::from_micros(step.start.as_micros().saturating_add(step.took_us));
    let name = if step.undo { format!("undo: {}", step.name) } else { step.name.clone() };
    let mut out = json!({
        "event": name,
        "start_time": iso_micro(step.start),
        "finish_time": iso_micro(finish),
        "result": if step.error.is_some() { "Error" } else { "Success" },
    });
    if caller.is_admin() {
        out["traceback"] = json!(step.error);
    }
    if version.at_least(2, 62) {
        let node = server.and_then(|server| server.node.as_deref());
        let project = server.map(|server| server.project.as_str()).unwrap_or_default();
        out["hostId"] = Value::from(host_id(project, node));
        if caller.is_admin() {
            out["host"] = json!(node);
        }
    }
    if version.at_least(2, 84) {
        out["details"] = json!(step.error);
    }
    out
}
