//! `POST /servers`: from a body to a request for servers. What the cell cannot give is refused, never left out.

use api::{Caller, Fault, Json, Microversion, RequestCx};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use networks::Who;
use serde_json::{Value, json};
use servers::accept::Wanted;
use servers::{Access, Card, NewServer, Server};

use super::records::{address, disk_config, host_name};
use crate::body::Object;
use crate::common::{self, Cloud};
use crate::{Compute, fault};

const METADATA_CHARS_MAX: usize = 255;
pub(super) const TAGS_MAX: usize = 50;
pub(super) const TAG_CHARS_MAX: usize = 60;
const PASSWORD_CHARS: usize = 12;

/// A request, and what its answer needs beside the servers.
struct Asked {
    new: NewServer,
    reservation: bool,
    password: Option<String>,
    /// `auto` was asked for by name: having no network is then an error.
    auto: bool,
}

/// `POST /servers`
pub(crate) async fn create(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<Response, Fault> {
    common::member(&caller)?;
    let asked = parse(&cx, &caller, body)?;
    let (call, mut span) = cloud.open(&cx, "POST /servers", None);
    if asked.auto {
        span.note(some_network(&cloud, &caller).await.map_err(|fault| fault.message.clone()).map(drop))
            .map_err(Fault::bad_request)?;
    }
    let made = span.note(cloud.servers.create(&call, &caller, &asked.new).await).map_err(fault::create)?;
    for server in &made {
        // So that the trace is found by the id of any of them.
        drop(call.about(&server.id).span("server accepted"));
    }
    let Some(first) = made.first() else { return Err(Fault::internal("a request for servers made none")) };
    if asked.reservation {
        return Ok((StatusCode::ACCEPTED, Json(json!({ "reservation_id": first.reservation }))).into_response());
    }
    Ok(answer(&cloud, &cx, &asked, first))
}

fn answer(cloud: &Compute, cx: &RequestCx, asked: &Asked, server: &Server) -> Response {
    let path = format!("servers/{}", server.id);
    let groups = if server.security_groups.is_empty() {
        json!([{ "name": "default" }])
    } else {
        server.security_groups.iter().map(|(_, name)| json!({ "name": name })).collect()
    };
    let password = asked.password.clone().unwrap_or_else(|| {
        let letters = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let letter = |_| char::from(letters[cloud.world.random_below(letters.len() as u64) as usize]);
        (0..PASSWORD_CHARS).map(letter).collect()
    });
    let body = json!({ "server": {
        "id": server.id.to_string(),
        "links": common::links(&cx.platform.public_url, &path),
        "OS-DCF:diskConfig": if server.auto_disk_config { "AUTO" } else { "MANUAL" },
        "security_groups": groups,
        "adminPass": password,
    } });
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("{}/compute/v2.1/{path}", cx.platform.public_url)) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

async fn some_network(cloud: &Compute, caller: &Caller) -> Result<(), Fault> {
    let who = Who { project: caller.project()?.clone(), admin: caller.is_admin() };
    let found = cloud.view.read(|reader| networks::default_network(reader, &who)).await?.map_err(fault::network)?;
    found.map(drop).ok_or_else(|| {
        Fault::bad_request("Unable to automatically allocate a network for project: there is none that it may use.")
    })
}

fn parse(cx: &RequestCx, caller: &Caller, body: Value) -> Result<Asked, Fault> {
    let version = cx.microversion;
    let mut body = Object::new(body, "body")?;
    let mut server = body.required_object("server")?;
    let group = hints(&mut body)?;
    body.end()?;
    let (cards, auto) = networks(&mut server, version)?;
    let (zone, host) = place(&mut server, caller, version)?;
    let (min_count, max_count) = counts(&mut server)?;
    refuse_unknown_disks(&mut server, version)?;
    let new = NewServer {
        name: server.required_name("name")?,
        description: if version.at_least(2, 19) { server.optional_text("description", 0, 255)? } else { None },
        flavor: flavor(&mut server)?,
        image: image(&mut server)?,
        key_name: server.optional_text("key_name", 1, 255)?,
        cards,
        security_groups: security_groups(&mut server)?,
        user_data: user_data(&mut server)?.into(),
        metadata: match server.object("metadata")? {
            Some(metadata) => metadata.texts(METADATA_CHARS_MAX, false)?.into_iter().collect(),
            None => Default::default(),
        },
        config_drive: match server.take("config_drive") {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) if text.is_empty() => false,
            Some(value) => {
                let mut one = Object::new(json!({ "config_drive": value }), "server")?;
                one.boolean("config_drive")?.unwrap_or(false)
            }
        },
        zone,
        host,
        host_name: if version.at_least(2, 90) { host_name(&mut server, version.at_least(2, 94))? } else { None },
        group,
        tags: if version.at_least(2, 52) { tags(&mut server)? } else { Vec::new() },
        access: Access {
            v4: address(&mut server, "accessIPv4")?.flatten(),
            v6: address(&mut server, "accessIPv6")?.flatten(),
        },
        auto_disk_config: disk_config(&mut server)?.unwrap_or(false),
        min_count,
        max_count,
    };
    let reservation = server.boolean("return_reservation_id")?.unwrap_or(false);
    let password = server.text("adminPass", 0, 255)?;
    if new.metadata.len() > 128 {
        return Err(Fault::over_quota("Maximum number of metadata items exceeds 128"));
    }
    if new.max_count > 1 && new.host_name.is_some() {
        return Err(Fault::bad_request("A hostname cannot be given for several servers at once."));
    }
    server.end()?;
    Ok(Asked { new, reservation, password, auto })
}

/// The server group among the scheduler's hints; other hints have no effect here, so they are refused.
fn hints(body: &mut Object) -> Result<Option<String>, Fault> {
    let hints = match (body.object("os:scheduler_hints")?, body.object("OS-SCH-HNT:scheduler_hints")?) {
        (Some(hints), _) | (None, Some(hints)) => hints,
        (None, None) => return Ok(None),
    };
    let mut hints = hints;
    let group = hints.optional_text("group", 36, 36)?;
    if let Some(name) = hints.names().first() {
        return Err(Fault::bad_request(format!("The scheduler hint '{name}' is not supported by this cloud.")));
    }
    Ok(group)
}

fn flavor(server: &mut Object) -> Result<String, Fault> {
    match server.take("flavorRef") {
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::String(text)) if !text.is_empty() => Ok(text.rsplit('/').next().unwrap_or_default().to_owned()),
        _ => Err(Fault::bad_request("Invalid input for field/attribute flavorRef: it must name a flavor")),
    }
}

fn image(server: &mut Object) -> Result<String, Fault> {
    let of_disk = boot_image(server)?;
    let given = server.text("imageRef", 0, 2048)?.filter(|text| !text.is_empty());
    let given = given.map(|text| text.rsplit('/').next().unwrap_or_default().to_owned());
    match (given, of_disk) {
        (Some(given), Some(other)) if given != other => {
            Err(Fault::bad_request("imageRef and block_device_mapping_v2 name different images."))
        }
        (Some(image), _) | (None, Some(image)) => Ok(image),
        (None, None) => Err(Fault::bad_request("Invalid imageRef provided.")),
    }
}

/// The image of a block device mapping that means what every server has anyway: an image on the node's own disk.
fn boot_image(server: &mut Object) -> Result<Option<String>, Fault> {
    let Some(list) = server.objects("block_device_mapping_v2")? else { return Ok(None) };
    let unsupported =
        || Fault::bad_request("Block Device Mapping is Invalid: this cloud has no volumes yet; boot from an image.");
    let mut image = None;
    for mut disk in list {
        let source = disk.optional_text("source_type", 1, 32)?;
        let target = disk.optional_text("destination_type", 1, 32)?;
        let boot = disk.given("boot_index");
        let id = disk.optional_text("uuid", 1, 255)?;
        let first = matches!(&boot, Some(Value::Number(number)) if number.as_i64() == Some(0))
            || matches!(&boot, Some(Value::String(text)) if text == "0");
        let plain = source.as_deref() == Some("image") && target.as_deref().is_none_or(|target| target == "local");
        if !first || !plain || image.is_some() || id.is_none() {
            return Err(unsupported());
        }
        disk.boolean("delete_on_termination")?;
        for name in ["device_name", "disk_bus", "device_type", "guest_format", "volume_size", "tag", "volume_type"] {
            if disk.given(name).is_some() {
                return Err(unsupported());
            }
        }
        disk.end()?;
        image = id;
    }
    Ok(image)
}

fn refuse_unknown_disks(server: &mut Object, version: Microversion) -> Result<(), Fault> {
    if server.list("block_device_mapping")?.is_some_and(|list| !list.is_empty()) {
        return Err(Fault::bad_request(
            "Block Device Mapping is Invalid: this cloud has no volumes yet; boot from an image.",
        ));
    }
    if !version.at_least(2, 57) && server.list("personality")?.is_some_and(|list| !list.is_empty()) {
        return Err(Fault::bad_request(
            "Files cannot be put into a server: give user data, or use an image that has them.",
        ));
    }
    if version.at_least(2, 63) && server.given("trusted_image_certificates").is_some() {
        return Err(Fault::bad_request("Image signatures cannot be verified by this cloud."));
    }
    Ok(())
}

fn networks(server: &mut Object, version: Microversion) -> Result<(Wanted, bool), Fault> {
    let required = version.at_least(2, 37);
    match server.take("networks") {
        None if required => {
            Err(Fault::bad_request("Invalid input for field/attribute server. 'networks' is a required property"))
        }
        None => Ok((Wanted::Auto, false)),
        Some(Value::String(word)) if required && word == "auto" => Ok((Wanted::Auto, true)),
        Some(Value::String(word)) if required && word == "none" => Ok((Wanted::Nothing, false)),
        Some(Value::Array(list)) if list.is_empty() => Ok((Wanted::Auto, false)),
        Some(Value::Array(list)) => {
            let cards = list.into_iter().map(|value| card(Object::new(value, "networks")?, version));
            Ok((Wanted::Cards(cards.collect::<Result<_, _>>()?), false))
        }
        Some(_) => {
            Err(Fault::bad_request("Invalid input for field/attribute networks: it must be a list, 'auto' or 'none'"))
        }
    }
}

fn card(mut object: Object, version: Microversion) -> Result<Card, Fault> {
    let network = object.optional_text("uuid", 1, 255)?;
    let port = object.optional_text("port", 1, 255)?;
    let fixed_ip = object.optional_text("fixed_ip", 1, 64)?;
    if version.at_least(2, 32) && object.given("tag").is_some() {
        return Err(Fault::bad_request("Network interface tags are not yet supported."));
    }
    object.end()?;
    let wrong = |name: &str, text: &str| {
        Fault::bad_request(format!("Invalid input for field/attribute {name}. Value: {text}. It is not well formed"))
    };
    let address = fixed_ip.as_deref().map(|text| text.parse().map_err(|_| wrong("fixed_ip", text))).transpose()?;
    match (network, port) {
        (_, Some(_)) if address.is_some() => {
            Err(Fault::bad_request("A fixed IP cannot be given together with a port: the port has its own."))
        }
        (_, Some(port)) => Ok(Card::Port(port.parse().map_err(|_| wrong("port", &port))?)),
        (Some(network), None) => {
            Ok(Card::Network { network: network.parse().map_err(|_| wrong("uuid", &network))?, fixed_ip: address })
        }
        (None, None) => Err(Fault::bad_request("Bad network format: missing 'uuid'")),
    }
}

/// Availability zone and host. Administrators may write `zone:host`, or name the host on its own.
fn place(
    server: &mut Object,
    caller: &Caller,
    version: Microversion,
) -> Result<(Option<String>, Option<String>), Fault> {
    let zone = server.optional_text("availability_zone", 0, 255)?.filter(|zone| !zone.is_empty());
    let mut host = None;
    if version.at_least(2, 74) {
        host = server.optional_text("host", 1, 255)?;
        let node = server.optional_text("hypervisor_hostname", 1, 255)?;
        if host.is_some() || node.is_some() {
            common::admin(caller, "compute:servers:create:requested_destination")?;
        }
        if host.is_some() && node.is_some() && host != node {
            return Err(Fault::bad_request("The host and the hypervisor are one here: name the same for both."));
        }
        host = host.or(node);
    }
    let Some(zone) = zone else { return Ok((None, host)) };
    let mut parts = zone.splitn(3, ':');
    let plain = parts.next().map(str::to_owned).filter(|zone| !zone.is_empty());
    let named = parts.next().or_else(|| parts.next()).filter(|host| !host.is_empty()).map(str::to_owned);
    let node = parts.next().filter(|node| !node.is_empty()).map(str::to_owned);
    if let Some(named) = named.or(node) {
        common::admin(caller, "os_compute_api:servers:create:forced_host")?;
        if host.is_some() {
            return Err(Fault::bad_request("A host was named twice."));
        }
        return Ok((plain, Some(named)));
    }
    Ok((plain, host))
}

fn counts(server: &mut Object) -> Result<(u32, u32), Fault> {
    let min = server.number("min_count", 1, 1000)?;
    let max = server.number("max_count", 1, 1000)?;
    let min = min.unwrap_or(1);
    let max = max.unwrap_or(min);
    if min > max {
        return Err(Fault::bad_request("min_count must be <= max_count"));
    }
    Ok((u32::try_from(min).unwrap_or(1), u32::try_from(max).unwrap_or(1)))
}

fn security_groups(server: &mut Object) -> Result<Vec<String>, Fault> {
    let groups = server.objects("security_groups")?.unwrap_or_default();
    groups
        .into_iter()
        .map(|mut group| {
            let name = group.required_text("name", 0, 255)?;
            group.end()?;
            Ok(name)
        })
        .collect()
}

fn user_data(server: &mut Object) -> Result<Vec<u8>, Fault> {
    let Some(text) = server.optional_text("user_data", 0, 65_535)? else { return Ok(Vec::new()) };
    let packed: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(packed).map_err(|_| {
        Fault::bad_request("Invalid input for field/attribute user_data: it must be base64, at most 65535 characters")
    })
}

fn tags(server: &mut Object) -> Result<Vec<String>, Fault> {
    super::tags::checked(server.list("tags")?.unwrap_or_default())
}
