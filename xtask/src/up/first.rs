//! The first server: what it needs, its creation, and the wait until its guest speaks. Each step takes what is there.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use ureq::http::Method;

use super::api::{Api, Service, text_at};
use crate::home::Home;
use crate::{clock, run};

/// What the server and its key are called.
const NAME: &str = "first";
/// The network that every new cell has, and that this machine reaches.
const NETWORK: &str = "private";
const IMAGE: &str = "tiny";
const FLAVOR: &str = "m1.tiny";

const ACTIVE_WITHIN: Duration = Duration::from_secs(120);
/// Emulated, on two busy cores, a guest boots within half a minute.
const PROMPT_WITHIN: Duration = Duration::from_secs(180);

/// Makes a key pair here, and gives its public half to the cell. Returns the private half's file.
pub(super) fn key_pair(api: &Api, home: &Home) -> anyhow::Result<PathBuf> {
    let key = home.up().join("id_ed25519");
    home.make()?;
    if !key.exists() {
        run::output(
            run::command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "mainstay", "-f"]).arg(&key),
        )?;
    }
    let public = fs::read_to_string(key.with_extension("pub"))?;
    let body = json!({ "keypair": { "name": NAME, "public_key": public.trim() } });
    accept_or_exists(api, Service::Compute, "/os-keypairs", &body)?;
    Ok(key)
}

/// Lets SSH and ping in: a project's default group lets nothing in but its own members.
pub(super) fn open_security_group(api: &Api) -> anyhow::Result<()> {
    let groups = api.get(Service::Network, &format!("/security-groups?name=default&project_id={}", api.project))?;
    let group = text_at(&groups, "/security_groups/0/id").context("the project has no default security group")?;
    for (protocol, ports) in [("tcp", Some((22, 22))), ("icmp", None)] {
        let rule = json!({ "security_group_rule": {
            "security_group_id": group, "direction": "ingress", "ethertype": "IPv4", "protocol": protocol,
            "port_range_min": ports.map(|(from, _)| from), "port_range_max": ports.map(|(_, to)| to),
        }});
        accept_or_exists(api, Service::Network, "/security-group-rules", &rule)?;
    }
    Ok(())
}

fn accept_or_exists(api: &Api, service: Service, path: &str, body: &Value) -> anyhow::Result<()> {
    let answer = api.call(Method::POST, service, path, Some(body))?;
    match answer.status {
        200..300 | 409 => Ok(()),
        status => bail!("POST {path} was answered with {status}: {}", answer.body),
    }
}

/// The id of the first server, which is created unless it is there. One that failed before makes room for a new one.
pub(super) fn server(api: &Api, home: &Home) -> anyhow::Result<String> {
    let found = api.get(Service::Compute, &format!("/servers/detail?name=%5E{NAME}%24"))?;
    for server in found["servers"].as_array().into_iter().flatten() {
        let id = text_at(server, "/id")?;
        match text_at(server, "/status")?.as_str() {
            "ERROR" => {
                println!("{NAME} ({id}) failed before: {}; making a new one", fault(server));
                api.delete(Service::Compute, &format!("/servers/{id}"))?;
            }
            "SHUTOFF" => {
                println!("{NAME} ({id}) is off: starting it");
                api.post(Service::Compute, &format!("/servers/{id}/action"), &json!({ "os-start": null }))?;
                return Ok(id);
            }
            status => {
                println!("{NAME} ({id}) is there: {status}");
                return Ok(id);
            }
        }
    }
    create(api, home)
}

fn create(api: &Api, home: &Home) -> anyhow::Result<String> {
    let image = api.get(Service::Image, &format!("/images?name={IMAGE}"))?;
    let image = text_at(&image, "/images/0/id").with_context(|| format!("the cell has no image {IMAGE}"))?;
    let network = api.get(Service::Network, &format!("/networks?name={NETWORK}"))?;
    let network = text_at(&network, "/networks/0/id").with_context(|| format!("the cell has no network {NETWORK}"))?;
    let flavors = api.get(Service::Compute, "/flavors")?;
    let flavors = flavors["flavors"].as_array().cloned().unwrap_or_default();
    let flavor = flavors.iter().find(|flavor| flavor["name"] == FLAVOR);
    let flavor = text_at(flavor.with_context(|| format!("the cell has no flavor {FLAVOR}"))?, "/id")?;
    let body = json!({ "server": {
        "name": NAME, "imageRef": image, "flavorRef": flavor, "key_name": NAME, "networks": [{ "uuid": network }],
    }});
    let answer = api.call(Method::POST, Service::Compute, "/servers", Some(&body))?;
    if answer.status != 202 {
        bail!("the server was not accepted ({}): {}", answer.status, answer.body);
    }
    let id = text_at(&answer.body, "/server/id")?;
    println!("{NAME} ({id}) is accepted");
    if let Some(request) = answer.request_id {
        fs::write(request_file(home), request)?;
    }
    Ok(id)
}

/// The request that created the first server, as the cell named it.
pub(super) fn request_id(home: &Home) -> Option<String> {
    fs::read_to_string(request_file(home)).ok().map(|id| id.trim().to_owned())
}

fn request_file(home: &Home) -> PathBuf {
    home.up().join("request-id")
}

pub(super) fn wait_until_active(api: &Api, id: &str) -> anyhow::Result<()> {
    clock::wait_for("the server to be ACTIVE", ACTIVE_WITHIN, || {
        let answer = api.get(Service::Compute, &format!("/servers/{id}"))?;
        match text_at(&answer, "/server/status")?.as_str() {
            "ACTIVE" => Ok(Ok(())),
            "ERROR" => bail!("the server failed: {}", fault(&answer["server"])),
            other => Ok(Err(format!("it is {other}"))),
        }
    })
}

fn fault(server: &Value) -> &str {
    server.pointer("/fault/message").and_then(Value::as_str).unwrap_or("no reason was given")
}

/// The guest's own sign of life: the prompt on its console.
pub(super) fn wait_for_login_prompt(api: &Api, id: &str) -> anyhow::Result<()> {
    let body = json!({ "os-getConsoleOutput": { "length": 50 } });
    clock::wait_for("a login prompt on the console", PROMPT_WITHIN, || {
        let answer = api.post(Service::Compute, &format!("/servers/{id}/action"), &body)?;
        let console = answer["output"].as_str().unwrap_or_default();
        let shown = console.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("an empty console");
        Ok(if console.contains(" login:") { Ok(()) } else { Err(shown.to_owned()) })
    })
}

/// The server's first IPv4 address.
pub(super) fn address(api: &Api, id: &str) -> anyhow::Result<String> {
    let answer = api.get(Service::Compute, &format!("/servers/{id}"))?;
    let networks = answer["server"]["addresses"].as_object().context("the server shows no addresses")?;
    let all = networks.values().filter_map(Value::as_array).flatten();
    let four = all.filter(|address| address["version"] == 4).find_map(|address| address["addr"].as_str());
    Ok(four.context("the server has no IPv4 address")?.to_owned())
}
