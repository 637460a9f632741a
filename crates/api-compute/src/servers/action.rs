//! `POST /servers/{id}/action`: one verb a body.
//!
//! What the cell cannot do yet answers 501 (after the server was found and may be seen), what Nova does not know either
//! answers 400.

use std::sync::Arc;

use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use images::{Change, ContainerFormat, DiskFormat, ImageError, Viewer};
use networks::{GroupId, SecurityGroup, Who};
use proto::coordinator::v1::ReadConsoleRequest;
use proto::coordinator::v1::servers_service_client::ServersServiceClient;
use rpc::Verdict;
use serde_json::{Value, json};
use servers::accept::Ask;
use servers::{AcceptError, Server, VmState};

use super::records::with;
use crate::body::Object;
use crate::common::{self, Cloud};
use crate::{Compute, fault};

/// The most of a console that is read: as much as fits an answer of RPC comfortably.
const CONSOLE_BYTES_MAX: u32 = 256 * 1024;
/// Bytes of a line of a console, for guessing how much holds so many lines.
const LINE_BYTES: u32 = 256;

/// Actions that Nova has and this cell does not yet; and the version from which on Nova has them no more.
const NOT_YET: [(&str, u16); 28] = [
    ("rebuild", u16::MAX),
    ("resize", u16::MAX),
    ("confirmResize", u16::MAX),
    ("revertResize", u16::MAX),
    ("migrate", u16::MAX),
    ("os-migrateLive", u16::MAX),
    ("evacuate", u16::MAX),
    ("suspend", u16::MAX),
    ("resume", u16::MAX),
    ("rescue", u16::MAX),
    ("unrescue", u16::MAX),
    ("shelve", u16::MAX),
    ("shelveOffload", u16::MAX),
    ("unshelve", u16::MAX),
    ("createBackup", u16::MAX),
    ("changePassword", u16::MAX),
    ("restore", u16::MAX),
    ("trigger_crash_dump", u16::MAX),
    ("injectNetworkInfo", u16::MAX),
    ("resetNetwork", u16::MAX),
    ("os-getVNCConsole", 6),
    ("os-getSPICEConsole", 6),
    ("os-getRDPConsole", 6),
    ("os-getSerialConsole", 6),
    ("addFixedIp", 44),
    ("removeFixedIp", 44),
    ("addFloatingIp", 44),
    ("removeFloatingIp", 44),
];

/// `POST /servers/{id}/action`
pub(crate) async fn act(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, Fault> {
    let Some((verb, value)) = Object::new(body, "body")?.single() else {
        return Err(Fault::bad_request("Malformed request body: exactly one action is expected"));
    };
    // Whoever may not see the server learns nothing else about the request.
    with(&cloud, &caller, &id, |_, _| Ok(())).await?;
    let at = At { cloud: &cloud, cx: &cx, caller: &caller, id: &id };
    match verb.as_str() {
        "os-start" => at.ask("start", Ask::Start).await,
        "os-stop" => at.ask("stop", Ask::Stop).await,
        "pause" => at.ask("pause", Ask::Pause).await,
        "unpause" => at.ask("unpause", Ask::Unpause).await,
        "reboot" => at.reboot(value).await,
        "forceDelete" => at.force_delete().await,
        "createImage" => at.create_image(value).await,
        "os-getConsoleOutput" => at.console(value).await,
        "lock" => at.lock(value).await,
        "unlock" => at.unlock().await,
        "os-resetState" => at.reset_state(value).await,
        "addSecurityGroup" => at.change_groups(value, true).await,
        "removeSecurityGroup" => at.change_groups(value, false).await,
        other => {
            let known = NOT_YET.iter().find(|(name, _)| *name == other);
            match known {
                Some((_, until)) if !cx.microversion.at_least(2, *until) => {
                    Err(fault::not_yet(&format!("{other} a server")))
                }
                Some(_) | None => Err(Fault::bad_request(format!("There is no such action: {other}"))),
            }
        }
    }
}

/// One server, and who asks.
struct At<'a> {
    cloud: &'a Arc<Compute>,
    cx: &'a RequestCx,
    caller: &'a Caller,
    id: &'a str,
}

impl At<'_> {
    async fn ask(&self, name: &'static str, ask: Ask) -> Result<Response, Fault> {
        common::member(self.caller)?;
        let (call, mut span) = self.cloud.open(self.cx, name, Some(self.id));
        span.note(self.cloud.servers.ask(&call, self.caller, self.id, &ask).await).map_err(fault::accept)?;
        Ok(StatusCode::ACCEPTED.into_response())
    }

    async fn reboot(&self, value: Value) -> Result<Response, Fault> {
        let mut object = Object::new(value, "reboot")?;
        let kind = object.required_text("type", 1, 16)?;
        object.end()?;
        match kind.to_ascii_uppercase().as_str() {
            "SOFT" => self.ask("reboot", Ask::Reboot { hard: false }).await,
            "HARD" => self.ask("reboot --hard", Ask::Reboot { hard: true }).await,
            _ => Err(Fault::bad_request(format!(
                "Invalid input for field/attribute type. Value: {kind}. It is not one of ['HARD', 'SOFT']"
            ))),
        }
    }

    async fn force_delete(&self) -> Result<Response, Fault> {
        common::member(self.caller)?;
        let (call, mut span) = self.cloud.open(self.cx, "forceDelete", Some(self.id));
        span.note(self.cloud.servers.delete(&call, self.caller, self.id).await).map_err(fault::accept)?;
        Ok(StatusCode::ACCEPTED.into_response())
    }

    /// The image's record first: the work names it. If the server cannot be asked, the record goes again.
    async fn create_image(&self, value: Value) -> Result<Response, Fault> {
        common::member(self.caller)?;
        let mut object = Object::new(value, "createImage")?;
        let name = object.required_name("name")?;
        let properties = match object.object("metadata")? {
            Some(metadata) => metadata.texts(255, false)?,
            None => Vec::new(),
        };
        object.end()?;
        let server = with(self.cloud, self.caller, self.id, |_, server| Ok(server)).await?;
        let mut changes = vec![
            Change::Name(Some(name)),
            Change::DiskFormat(Some(DiskFormat::Qcow2)),
            Change::ContainerFormat(Some(ContainerFormat::Bare)),
            Change::SetProperty("image_type".into(), "snapshot".into()),
            Change::SetProperty("instance_uuid".into(), server.id.to_string()),
            Change::SetProperty("base_image_ref".into(), server.content.image.clone()),
        ];
        changes.extend(properties.into_iter().map(|(name, value)| Change::SetProperty(name, value)));
        let owner = images::Project::new(self.caller.project()?.as_str());
        let viewer = Viewer { project: Some(owner.clone()), admin: self.caller.is_admin(), writes: true };
        let (call, mut span) = self.cloud.open(self.cx, "createImage", Some(self.id));
        let made = span.note(self.cloud.images.create(&viewer, owner, None, changes).await).map_err(fault::image)?;
        let ask = Ask::Snapshot { image: made.id };
        if let Err(error) = span.note(self.cloud.servers.ask(&call, self.caller, self.id, &ask).await) {
            if let Err(error) = self.cloud.images.delete(&viewer, made.id).await {
                tracing_left(&error, &made.id);
            }
            return Err(fault::accept(error));
        }
        let id = made.id.to_string();
        if self.cx.microversion.at_least(2, 45) {
            return Ok((StatusCode::ACCEPTED, Json(json!({ "image_id": id }))).into_response());
        }
        let mut response = StatusCode::ACCEPTED.into_response();
        let place = format!("{}/image/v2/images/{id}", self.cx.platform.public_url);
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(LOCATION, place);
        }
        Ok(response)
    }

    async fn console(&self, value: Value) -> Result<Response, Fault> {
        common::member(self.caller)?;
        let mut object = Object::new(value, "os-getConsoleOutput")?;
        let lines = match object.given("length") {
            None => None,
            Some(value) => {
                let mut one = Object::new(json!({ "length": value }), "os-getConsoleOutput")?;
                one.number("length", -1, i64::from(i32::MAX))?.and_then(|lines| usize::try_from(lines).ok())
            }
        };
        object.end()?;
        let server = with(self.cloud, self.caller, self.id, |_, server| Ok(server)).await?;
        if server.node.is_none() {
            return Err(Fault::conflict(format!("Instance {} is not ready", server.id)));
        }
        let guess = lines.map_or(CONSOLE_BYTES_MAX, |lines| {
            u32::try_from(lines).unwrap_or(u32::MAX).saturating_mul(LINE_BYTES).clamp(LINE_BYTES, CONSOLE_BYTES_MAX)
        });
        let (call, mut span) = self.cloud.open(self.cx, "os-getConsoleOutput", Some(self.id));
        let mut client = ServersServiceClient::new(self.cloud.coordinator(&call));
        let bytes = server.id.as_uuid().as_bytes().to_vec();
        let request = ReadConsoleRequest { server: bytes.into(), bytes_max: guess };
        let answer = client.read_console(request).await.map_err(rpc::Error::from);
        let text = span.note(answer).map_err(|error| match error.verdict {
            Verdict::No => Fault::conflict(format!("The console of {} cannot be read: {}", server.id, error.reason)),
            Verdict::NotNow | Verdict::Unknown => Fault::unavailable(error.reason),
        })?;
        let text = text.into_inner().text;
        Ok(Json(json!({ "output": lines.map_or(text.as_str(), |lines| last_lines(&text, lines)) })).into_response())
    }

    async fn update(
        &self,
        name: &'static str,
        change: impl Fn(&mut Server) -> Result<(), AcceptError>,
    ) -> Result<Server, Fault> {
        let (call, mut span) = self.cloud.open(self.cx, name, Some(self.id));
        span.note(self.cloud.servers.update(&call, self.caller, self.id, change).await).map_err(fault::accept)
    }

    async fn lock(&self, value: Value) -> Result<Response, Fault> {
        let reason = if value.is_null() || !self.cx.microversion.at_least(2, 73) {
            // Before 2.73 the value was never looked at.
            String::new()
        } else {
            let mut object = Object::new(value, "lock")?;
            let reason = object.text("locked_reason", 1, 255)?.unwrap_or_default();
            object.end()?;
            reason
        };
        let lock = |server: &mut Server| {
            server.locked = Some(reason.clone());
            Ok(())
        };
        self.update("lock", lock).await?;
        Ok(StatusCode::ACCEPTED.into_response())
    }

    async fn unlock(&self) -> Result<Response, Fault> {
        let unlock = |server: &mut Server| {
            server.locked = None;
            Ok(())
        };
        self.update("unlock", unlock).await?;
        Ok(StatusCode::ACCEPTED.into_response())
    }

    /// Says that the server is well, or is not. What is being done to it goes on.
    async fn reset_state(&self, value: Value) -> Result<Response, Fault> {
        common::admin(self.caller, "os_compute_api:os-admin-actions:reset_state")?;
        let mut object = Object::new(value, "os-resetState")?;
        let state = match object.required_text("state", 1, 16)?.as_str() {
            "active" => VmState::Active,
            "error" => VmState::Error,
            other => {
                return Err(Fault::bad_request(format!(
                    "Invalid input for field/attribute state. Value: {other}. It is not one of ['active', 'error']"
                )));
            }
        };
        object.end()?;
        let reset = |server: &mut Server| {
            if state == VmState::Active && server.node.is_none() {
                return Err(AcceptError::Conflict(format!(
                    "Instance {} is on no host: it cannot be active",
                    server.id
                )));
            }
            server.state = state;
            if state == VmState::Active {
                server.fault = None;
            }
            Ok(())
        };
        self.update("os-resetState", reset).await?;
        Ok(StatusCode::ACCEPTED.into_response())
    }

    /// Puts a group on all ports of a server, or takes it off.
    async fn change_groups(&self, value: Value, add: bool) -> Result<Response, Fault> {
        common::member(self.caller)?;
        let path = if add { "addSecurityGroup" } else { "removeSecurityGroup" };
        let mut object = Object::new(value, path)?;
        let name = object.required_text("name", 1, 255)?;
        object.end()?;
        let server = with(self.cloud, self.caller, self.id, |_, server| Ok(server)).await?;
        let who = Who { project: server.project.clone(), admin: self.caller.is_admin() };
        let (call, mut span) = self.cloud.open(self.cx, path, Some(self.id));
        let changed = self.cloud.networks.decide(&who, |plan| {
            let group = group_named(plan.reader(), &who, &name)?;
            let ports = networks::ports_of(plan.reader(), server.id.guest())?;
            if !add && !ports.iter().any(|(port, _)| port.groups.contains(&group)) {
                return Err(networks::NetError::NotFound { kind: networks::Kind::SecurityGroup, id: name.clone() });
            }
            let mut all = Vec::new();
            for (port, _) in ports.iter().filter(|(port, _)| port.port_security) {
                let mut groups = port.groups.clone();
                groups.retain(|there| *there != group);
                if add {
                    groups.push(group);
                }
                all.extend(groups.iter().filter(|group| !all.contains(*group)).copied().collect::<Vec<_>>());
                let change = networks::port::Change { groups: Some(groups), ..Default::default() };
                networks::port::update(plan, port.id, change)?;
            }
            named(plan.reader(), all)
        });
        let groups = span.note(changed.await).map_err(|error| {
            if matches!(error, networks::NetError::NotFound { .. }) {
                Fault::not_found(error.to_string())
            } else {
                fault::network(error)
            }
        })?;
        drop(span);
        // What the ports have counts: a server that was given no groups has the default one without naming it.
        let note = |server: &mut Server| {
            server.security_groups.clone_from(&groups);
            Ok(())
        };
        self.cloud.servers.update(&call, self.caller, self.id, note).await.map_err(fault::accept)?;
        Ok(StatusCode::ACCEPTED.into_response())
    }
}

/// The groups with their names, as a server shows them.
fn named(reader: &store::Reader<'_>, groups: Vec<GroupId>) -> Result<Vec<(String, String)>, networks::NetError> {
    let named = |id: GroupId| {
        let found = reader.get::<SecurityGroup>(&id)?;
        Ok(found.map(|(group, _)| (id.to_string(), group.standard.name)))
    };
    groups.into_iter().filter_map(|id| named(id).transpose()).collect()
}

fn group_named(reader: &store::Reader<'_>, who: &Who, name: &str) -> Result<GroupId, networks::NetError> {
    let term = networks::keys::GroupTerm::Project(&who.project).text();
    for found in reader.by::<SecurityGroup>(networks::keys::GROUPS, &term) {
        let (group, _) = found?;
        if group.standard.name == name || group.id.to_string() == name {
            return Ok(group.id);
        }
    }
    Err(networks::NetError::NotFound { kind: networks::Kind::SecurityGroup, id: name.to_owned() })
}

fn tracing_left(error: &ImageError, id: &images::ImageId) {
    tracing::warn!(%error, image = %id, "the record of a snapshot that was not taken is left to its owner");
}

fn last_lines(text: &str, lines: usize) -> &str {
    if lines == 0 {
        return "";
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    match body.rmatch_indices('\n').nth(lines - 1) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn a_console_ends_with_as_many_lines_as_were_asked_for() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb\nc", 1), "c");
        assert_eq!(last_lines("a\nb", 9), "a\nb");
        assert_eq!(last_lines("a\nb", 0), "");
        assert_eq!(last_lines("", 3), "");
    }
}
