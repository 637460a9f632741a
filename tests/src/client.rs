//! A blocking client of the public API.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::until;

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// Open connections that are kept for the next request: as many as a test has threads.
const CONNECTIONS_KEPT: usize = 256;

/// An answer of the API, an error's too.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The id that the API gave the request.
    pub request_id: String,
    /// A token that was issued.
    pub subject_token: String,
    /// The body: JSON, or else its text.
    pub body: Value,
}

impl Answer {
    /// The answer, if it has this status.
    ///
    /// # Panics
    /// If it has not.
    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "answered with {}", self.body);
        self
    }

    /// The answer, if it says that something was made.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn is_made(self) -> Answer {
        assert!(matches!(self.status, 200..=202), "answered with {} {}", self.status, self.body);
        self
    }

    /// The text at a place in the body.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn text(&self, place: &str) -> String {
        let text = self.body.pointer(place).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("nothing at {place}: {}", self.body)).to_owned()
    }
}

/// Someone who uses the API. Cloning shares connections.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: String,
    /// The project that the token is for.
    pub project: String,
}

impl Client {
    /// Without a token; trusts `authority` only.
    pub fn anonymous(url: &str, authority: &Path) -> Client {
        Client::patient(url, authority, ANSWER_WITHIN)
    }

    /// The same, who waits for an answer no longer than this.
    pub fn patient(url: &str, authority: &Path, patience: Duration) -> Client {
        let pem = std::fs::read(authority).expect("the cell's authority is in its home");
        let certificate = Certificate::from_pem(&pem).expect("the cell's authority is a certificate");
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[certificate]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false).proxy(None);
        let config = config.max_idle_connections(CONNECTIONS_KEPT).max_idle_connections_per_host(CONNECTIONS_KEPT);
        let agent = config.timeout_global(Some(patience)).build().new_agent();
        Client { agent, url: url.to_owned(), token: String::new(), project: String::new() }
    }

    /// The same with another token.
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: token.to_owned(), ..self.clone() }
    }

    /// Logs in with a password, for a project.
    pub fn login(&self, user: &str, password: &str, project: &str) -> Client {
        let user = json!({ "name": user, "password": password, "domain": { "id": "default" } });
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": user } },
            "scope": { "project": { "name": project, "domain": { "id": "default" } } },
        }});
        let answer = self.post("/identity/v3/auth/tokens", &body).is(201);
        Client { project: answer.text("/token/project/id"), ..self.with_token(&answer.subject_token) }
    }

    /// One request; `Err`: no answer came, and nobody knows what became of it.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let bytes = body.map(|body| serde_json::to_vec(body).expect("JSON is encodable"));
        self.send(method, path, &[], bytes.as_deref())
    }

    /// One request of raw bytes with further headers.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, String> {
        let method: Method = method.parse().expect("a method");
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !self.token.is_empty() {
            request = request.header("x-auth-token", &self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        let response = match body {
            Some(body) => self.agent.run(request.body(body).expect("a valid request")),
            None => self.agent.run(request.body(()).expect("a valid request")),
        };
        let mut response = response.map_err(|error| format!("{path}: {error}"))?;
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (request_id, subject_token) = (header("x-openstack-request-id"), header("x-subject-token"));
        let text = response.body_mut().read_to_string().map_err(|error| format!("{path}: {error}"))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status: response.status().as_u16(), request_id, subject_token, body })
    }

    /// `GET`, which must be answered.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `POST`, which must be answered.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, Some(body)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `DELETE`, which must be answered.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Its token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The body of a request for a small server on the shared network.
    pub fn server(&self, name: &str) -> Value {
        let image = self.get("/image/v2/images?name=tiny").is(200).text("/images/0/id");
        let network = self.get("/network/v2.0/networks?name=private").is(200).text("/networks/0/id");
        json!({ "server": { "name": name, "flavorRef": "1", "imageRef": image, "networks": [{ "uuid": network }] } })
    }

    /// Creates a small server; its id.
    pub fn create(&self, name: &str) -> String {
        self.post("/compute/v2.1/servers", &self.server(name)).is(202).text("/server/id")
    }

    /// An action on a server.
    pub fn act(&self, server: &str, action: &Value) -> Answer {
        self.post(&format!("/compute/v2.1/servers/{server}/action"), action).is(202)
    }

    /// A server as it is shown.
    pub fn show(&self, server: &str) -> Answer {
        self.get(&format!("/compute/v2.1/servers/{server}"))
    }

    /// Waits until a server has a status and nothing is being done to it; the server.
    pub fn reaches(&self, server: &str, status: &str) -> Value {
        until(&format!("server {server} is {status}"), SETTLES_WITHIN, || {
            let answer = self.ask("GET", &format!("/compute/v2.1/servers/{server}"), None)?;
            let shown = &answer.body["server"];
            let settled = shown["status"] == status && shown["OS-EXT-STS:task_state"].is_null();
            if settled { Ok(shown.clone()) } else { Err(answer.body.to_string()) }
        })
    }

    /// Waits until a server is gone for its tenant.
    pub fn vanishes(&self, server: &str) {
        until(&format!("server {server} is gone"), SETTLES_WITHIN, || {
            let answer = self.ask("GET", &format!("/compute/v2.1/servers/{server}"), None)?;
            if answer.status == 404 { Ok(()) } else { Err(answer.body.to_string()) }
        });
    }

    /// All servers of the project, with all that is shown of them. For projects with few: one page.
    pub fn servers(&self) -> Vec<Value> {
        let answer = self.get("/compute/v2.1/servers/detail").is(200);
        answer.body["servers"].as_array().cloned().unwrap_or_default()
    }
}
