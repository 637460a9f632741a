//! What the figures ask of a cell's public API: an administrator who may have as many servers as the nodes hold.

use anyhow::Context;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::cell::Cell;
use crate::http_client::{Connection, Endpoint};

/// Servers on one page of a list: the most that the API gives.
const PAGE: usize = 1000;
/// Room for ten million servers: nothing of the bench comes near it.
const CIDR: &str = "10.0.0.0/8";
const GATEWAY: &str = "10.0.0.1";

/// The administrator of a cell, with an open connection.
pub struct Admin {
    /// Where the API is.
    pub endpoint: Endpoint,
    /// The administrator's token.
    pub token: String,
    connection: Connection,
    project: String,
    image: String,
}

impl Admin {
    /// Logs in.
    pub async fn of(cell: &Cell) -> anyhow::Result<Admin> {
        let authority = std::fs::read(cell.home().join("pki/authority.crt"))?;
        let endpoint = Endpoint::new(cell.address(), &authority)?;
        let mut anonymous = endpoint.connect(None).await?;
        let answer = anonymous.ask(Method::POST, "/identity/v3/auth/tokens", login(cell)?).await?.is(201)?;
        let token = answer.headers.get("x-subject-token").context("no token came")?.to_str()?.to_owned();
        let project = text(&answer.json()?, "/token/project/id")?;
        let mut connection = endpoint.connect(Some(&token)).await?;
        let images = connection.get("/image/v2/images?name=tiny").await?.is(200)?.json()?;
        let image = text(&images, "/images/0/id")?;
        Ok(Admin { endpoint, token, connection, project, image })
    }

    /// A connection of its own, with the token.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        self.endpoint.connect(Some(&self.token)).await
    }

    /// `GET`, which must succeed.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.connection.get(path).await?.is(200)?.json().with_context(|| format!("GET {path}"))
    }

    async fn send(&mut self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.connection.ask(method, path, body.to_string().into()).await?;
        if !answer.status.is_success() {
            anyhow::bail!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        answer.json()
    }

    /// Lifts the project's quotas: of servers, and of all that servers take.
    pub async fn lift_quotas(&mut self) -> anyhow::Result<()> {
        let compute = format!("/compute/v2.1/os-quota-sets/{}", self.project);
        let limits = json!({ "quota_set": { "instances": -1, "cores": -1, "ram": -1 } });
        self.send(Method::PUT, &compute, &limits).await?;
        let network = format!("/network/v2.0/quotas/{}", self.project);
        self.send(Method::PUT, &network, &json!({ "quota": { "port": -1 } })).await?;
        Ok(())
    }

    /// A network with one large subnet; its id.
    pub async fn large_network(&mut self) -> anyhow::Result<String> {
        let network = json!({ "network": { "name": "large" } });
        let made = self.send(Method::POST, "/network/v2.0/networks", &network).await?;
        let id = text(&made, "/network/id")?;
        let subnet = json!({ "subnet": {
            "name": "large", "network_id": id, "ip_version": 4, "cidr": CIDR, "gateway_ip": GATEWAY,
        }});
        self.send(Method::POST, "/network/v2.0/subnets", &subnet).await?;
        Ok(id)
    }

    /// The id of the network that every cell has.
    pub async fn shared_network(&mut self) -> anyhow::Result<String> {
        text(&self.get("/network/v2.0/networks?name=private").await?, "/networks/0/id")
    }

    /// The body of a request for a small server on a network, in its default security group.
    pub fn server(&self, network: &str) -> Bytes {
        let networks = [json!({ "uuid": network })];
        let server = json!({ "name": "bench", "flavorRef": "1", "imageRef": self.image, "networks": networks });
        json!({ "server": server }).to_string().into()
    }

    /// The ids of all servers with a status, by paging through the list.
    pub async fn servers(&mut self, status: &str) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        loop {
            let marker = ids.last().map(|id| format!("&marker={id}")).unwrap_or_default();
            let path = format!("/compute/v2.1/servers?status={status}&limit={PAGE}{marker}");
            let page = self.get(&path).await?;
            let entries = page["servers"].as_array().context("no list of servers came")?;
            ids.extend(entries.iter().filter_map(|server| server["id"].as_str().map(str::to_owned)));
            if entries.len() < PAGE {
                return Ok(ids);
            }
        }
    }

    /// Whether there is any server with a status.
    pub async fn any(&mut self, status: &str) -> anyhow::Result<bool> {
        let list = self.get(&format!("/compute/v2.1/servers?status={status}&limit=1")).await?;
        Ok(list["servers"].as_array().is_some_and(|servers| !servers.is_empty()))
    }

    /// What is wrong with some server that is in the state ERROR.
    pub async fn fault(&mut self) -> anyhow::Result<String> {
        let list = self.get("/compute/v2.1/servers/detail?status=ERROR&limit=1").await?;
        Ok(list["servers"][0]["fault"]["message"].to_string())
    }
}

/// The body of the administrator's request for a token.
pub fn login(cell: &Cell) -> anyhow::Result<Bytes> {
    let password = std::fs::read_to_string(cell.home().join("admin-password")).context("the admin's password")?;
    let user = json!({ "name": "admin", "password": password.trim(), "domain": { "id": "default" } });
    let body = json!({ "auth": {
        "identity": { "methods": ["password"], "password": { "user": user } },
        "scope": { "project": { "name": "admin", "domain": { "id": "default" } } },
    }});
    Ok(body.to_string().into())
}

/// The text at a place.
pub fn text(value: &Value, place: &str) -> anyhow::Result<String> {
    let found = value.pointer(place).and_then(Value::as_str).map(str::to_owned);
    found.with_context(|| format!("nothing at {place}: {value}"))
}
