//! One server: show, update, delete.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use names::Status;
use pki::Role;
use serde::{Serialize, Serializer};
use serde_json::Value;
use servers::{AcceptError, Access, Server};
use store::Reader;

use super::shown::{Around, Depth, Shown, Whole};
use crate::body::{self, Object};
use crate::common::{self, Cloud};
use crate::{Compute, fault};

/// `{"server": …}`
pub(super) struct One<'a>(pub(super) Whole<'a>);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("server", &self.0)?;
        map.end()
    }
}

/// What liveness says of the agents of all nodes; of those that are not named, nothing is known.
pub(crate) fn presence(cloud: &Compute) -> Presence {
    let agents = cloud.directory.of(Role::Agent);
    agents.into_iter().map(|listing| (listing.who.name.clone(), listing.status.clone())).collect()
}

/// The status of each node's agent.
pub(crate) type Presence = BTreeMap<String, Status>;

/// Whether the agent of `node` is there.
pub(crate) fn is_up(presence: &Presence, node: &str) -> bool {
    presence.get(node).is_some_and(|status| *status == Status::Alive)
}

/// Reads one server that the caller may see, with what is around it.
pub(super) async fn gather(
    cloud: &Compute,
    caller: &Caller,
    around: &mut Around<'_>,
    id: &str,
) -> Result<Shown, Fault> {
    cloud
        .view
        .read(|reader| {
            let (server, _) = servers::accept::visible(reader, caller, id).map_err(fault::accept)?;
            around.gather(reader, server)
        })
        .await?
}

/// Reads with a server that the caller may see.
pub(super) async fn with<T>(
    cloud: &Compute,
    caller: &Caller,
    id: &str,
    read: impl FnOnce(&Reader<'_>, Server) -> Result<T, Fault>,
) -> Result<T, Fault> {
    cloud
        .view
        .read(|reader| {
            let (server, _) = servers::accept::visible(reader, caller, id).map_err(fault::accept)?;
            read(reader, server)
        })
        .await?
}

/// `GET /servers/{id}`
pub(crate) async fn show(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let mut around = Around::new(&cx, &caller, Depth::Full);
    if around.needs_presence() {
        around.with_presence(presence(&cloud));
    }
    let shown = gather(&cloud, &caller, &mut around, &id).await?;
    Ok(Json(One(Whole(&around, &shown))).into_response())
}

/// A change of what its owner says about a server.
struct Change {
    name: Option<String>,
    description: Option<Option<String>>,
    host_name: Option<String>,
    access_v4: Option<Option<Ipv4Addr>>,
    access_v6: Option<Option<Ipv6Addr>>,
    auto_disk_config: Option<bool>,
}

impl Change {
    fn parse(cx: &RequestCx, body: Value) -> Result<Change, Fault> {
        let mut object = body::only(body, "server")?;
        let version = cx.microversion;
        let change = Change {
            name: object.name("name")?,
            description: if version.at_least(2, 19) && object.has("description") {
                Some(object.optional_text("description", 0, 255)?)
            } else {
                None
            },
            host_name: if version.at_least(2, 90) { host_name(&mut object, version.at_least(2, 94))? } else { None },
            access_v4: address(&mut object, "accessIPv4")?,
            access_v6: address(&mut object, "accessIPv6")?,
            auto_disk_config: disk_config(&mut object)?,
        };
        object.end()?;
        Ok(change)
    }

    fn apply(&self, server: &mut Server) {
        if let Some(name) = &self.name {
            server.name.clone_from(name);
        }
        if let Some(description) = &self.description {
            server.description.clone_from(description);
        }
        if let Some(name) = &self.host_name {
            server.host_name.clone_from(name);
        }
        server.access =
            Access { v4: self.access_v4.unwrap_or(server.access.v4), v6: self.access_v6.unwrap_or(server.access.v6) };
        server.auto_disk_config = self.auto_disk_config.unwrap_or(server.auto_disk_config);
    }
}

/// An address, or empty text for none.
pub(super) fn address<A: std::str::FromStr>(object: &mut Object, name: &str) -> Result<Option<Option<A>>, Fault> {
    match object.optional_text(name, 0, 64)?.as_deref() {
        None => Ok(None),
        Some("") => Ok(Some(None)),
        Some(text) => match text.parse() {
            Ok(address) => Ok(Some(Some(address))),
            Err(_) => Err(Fault::bad_request(format!(
                "Invalid input for field/attribute {name}. Value: {text}. It is no address of that kind"
            ))),
        },
    }
}

pub(super) fn disk_config(object: &mut Object) -> Result<Option<bool>, Fault> {
    match object.text("OS-DCF:diskConfig", 0, 16)?.as_deref() {
        None => Ok(None),
        Some("AUTO") => Ok(Some(true)),
        Some("MANUAL") => Ok(Some(false)),
        Some(other) => Err(Fault::bad_request(format!(
            "Invalid input for field/attribute OS-DCF:diskConfig. Value: {other}. It is not one of ['AUTO', 'MANUAL']"
        ))),
    }
}

/// A DNS label, or with `dots` a name of several.
pub(super) fn host_name(object: &mut Object, dots: bool) -> Result<Option<String>, Fault> {
    let Some(name) = object.text("hostname", 2, if dots { 255 } else { 63 })? else { return Ok(None) };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let good = if dots { name.split('.').all(label) } else { label(&name) };
    if good {
        return Ok(Some(name));
    }
    Err(Fault::bad_request(format!("Invalid input for field/attribute hostname. Value: {name}. It is no host name")))
}

/// `PUT /servers/{id}`
pub(crate) async fn update(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, Fault> {
    let change = Change::parse(&cx, body)?;
    let (call, mut span) = cloud.open(&cx, "PUT /servers/{id}", Some(&id));
    let apply = |server: &mut Server| {
        change.apply(server);
        Ok::<_, AcceptError>(())
    };
    span.note(cloud.servers.update(&call, &caller, &id, apply).await).map_err(fault::accept)?;
    let depth = if cx.microversion.at_least(2, 75) { Depth::Full } else { Depth::Update };
    let mut around = Around::new(&cx, &caller, depth);
    if around.needs_presence() {
        around.with_presence(presence(&cloud));
    }
    let shown = gather(&cloud, &caller, &mut around, &id).await?;
    Ok(Json(One(Whole(&around, &shown))).into_response())
}

/// `DELETE /servers/{id}`
pub(crate) async fn delete(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::member(&caller)?;
    let (call, mut span) = cloud.open(&cx, "DELETE /servers/{id}", Some(&id));
    span.note(cloud.servers.delete(&call, &caller, &id).await).map_err(fault::accept)?;
    Ok(StatusCode::NO_CONTENT)
}
