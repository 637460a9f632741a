//! A small client of the public API: logs in with what the cell wrote for its users, finds services in the catalog,
//! trusts the cell's own authority and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use ureq::http;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// No call of this client is answered late by design.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A service of the catalog.
#[derive(Debug, Clone, Copy)]
pub(super) enum Service {
    Compute,
    Image,
    Network,
}

impl Service {
    fn kind(self) -> &'static str {
        match self {
            Service::Compute => "compute",
            Service::Image => "image",
            Service::Network => "network",
        }
    }

    /// What stands between the catalog's address and a resource: compute's address has its version in it.
    fn prefix(self) -> &'static str {
        match self {
            Service::Compute => "",
            Service::Image => "/v2",
            Service::Network => "/v2.0",
        }
    }
}

/// An answer that is no error of the transport; whether it is one of the service's the caller decides.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) request_id: Option<String>,
    pub(super) body: Value,
}

/// A logged-in client.
pub(super) struct Api {
    agent: ureq::Agent,
    token: String,
    pub(super) project: String,
    endpoints: BTreeMap<String, String>,
}

impl Api {
    /// Logs in with the variables of an `openrc`.
    pub(super) fn login(openrc: &Path) -> anyhow::Result<Api> {
        let text = fs::read_to_string(openrc).with_context(|| format!("cannot read {}", openrc.display()))?;
        let variables = variables(&text);
        let get = |name: &str| {
            variables.get(name).with_context(|| format!("{} does not set {name}", openrc.display())).map(String::as_str)
        };
        let agent = agent(Path::new(get("OS_CACERT")?))?;
        let domain = |of: &str| match variables.get(&format!("{of}_ID")) {
            Some(id) => Ok(json!({ "id": id })),
            None => get(&format!("{of}_NAME")).map(|name| json!({ "name": name })),
        };
        let (name, password, project) = (get("OS_USERNAME")?, get("OS_PASSWORD")?, get("OS_PROJECT_NAME")?);
        let user = json!({ "name": name, "password": password, "domain": domain("OS_USER_DOMAIN")? });
        let scope = json!({ "name": project, "domain": domain("OS_PROJECT_DOMAIN")? });
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": user } },
            "scope": { "project": scope },
        }});
        let url = get("OS_AUTH_URL")?.trim_end_matches('/');
        let url = if url.ends_with("/v3") { url.to_owned() } else { format!("{url}/v3") };
        let mut response = agent.post(format!("{url}/auth/tokens")).send_json(&body)?;
        let status = response.status();
        let token = response.headers().get("x-subject-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
        let answer: Value = response.body_mut().read_json().unwrap_or_default();
        let Some(token) = token.filter(|_| status.is_success()) else {
            bail!("no token for {name} ({status}): {answer}");
        };
        let project = text_at(&answer, "/token/project/id")?;
        Ok(Api { agent, token, project, endpoints: endpoints(&answer) })
    }

    pub(super) fn get(&self, service: Service, path: &str) -> anyhow::Result<Value> {
        self.accepted(http::Method::GET, service, path, None)
    }

    pub(super) fn post(&self, service: Service, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.accepted(http::Method::POST, service, path, Some(body))
    }

    pub(super) fn delete(&self, service: Service, path: &str) -> anyhow::Result<Answer> {
        self.call(http::Method::DELETE, service, path, None)
    }

    fn accepted(
        &self,
        method: http::Method,
        service: Service,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let answer = self.call(method.clone(), service, path, body)?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path} was answered with {}: {}", answer.status, answer.body);
        }
        Ok(answer.body)
    }

    pub(super) fn call(
        &self,
        method: http::Method,
        service: Service,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let kind = service.kind();
        let endpoint = self.endpoints.get(kind).with_context(|| format!("the catalog has no {kind} service"))?;
        let url = format!("{}{}{path}", endpoint.trim_end_matches('/'), service.prefix());
        let request = http::Request::builder().method(&method).uri(&url).header("x-auth-token", &self.token);
        let request = request.header("accept", "application/json");
        let response = match body {
            Some(body) => {
                self.agent.run(request.header("content-type", "application/json").body(serde_json::to_vec(body)?)?)
            }
            None => self.agent.run(request.body(())?),
        };
        let mut response = response.with_context(|| format!("{method} {url}"))?;
        let id = response.headers().get("x-openstack-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let text = response.body_mut().read_to_string()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status: response.status().as_u16(), request_id: id, body })
    }
}

/// The text at a place in an answer.
pub(super) fn text_at(answer: &Value, place: &str) -> anyhow::Result<String> {
    let text = answer.pointer(place).and_then(Value::as_str);
    text.map(str::to_owned).with_context(|| format!("the answer has nothing at {place}: {answer}"))
}

fn agent(authority: &Path) -> anyhow::Result<ureq::Agent> {
    let pem = fs::read(authority).with_context(|| format!("cannot read {}", authority.display()))?;
    let certificate = Certificate::from_pem(&pem).context("the cell's authority is not a certificate")?;
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[certificate]))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    // An error of the service has a text that people should see, so it is not one of the transport.
    let config = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false).proxy(None);
    Ok(config.timeout_global(Some(ANSWER_WITHIN)).build().new_agent())
}

/// `export NAME=value`, with or without quotes.
fn variables(openrc: &str) -> BTreeMap<String, String> {
    let assignments = openrc.lines().filter_map(|line| line.trim().strip_prefix("export ")?.split_once('='));
    let bare = |value: &str| value.trim().trim_matches(['\'', '"']).to_owned();
    assignments.map(|(name, value)| (name.trim().to_owned(), bare(value))).collect()
}

/// Each service's public address.
fn endpoints(token: &Value) -> BTreeMap<String, String> {
    let mut endpoints = BTreeMap::new();
    for service in token.pointer("/token/catalog").and_then(Value::as_array).into_iter().flatten() {
        for endpoint in service["endpoints"].as_array().into_iter().flatten() {
            if let ("public", Some(kind), Some(url)) =
                (endpoint["interface"].as_str().unwrap_or_default(), service["type"].as_str(), endpoint["url"].as_str())
            {
                endpoints.insert(kind.to_owned(), url.to_owned());
            }
        }
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_variables_are_read_with_and_without_quotes() {
        let read = variables("# cell\nexport OS_USERNAME=admin\nexport OS_PASSWORD='a=b'\nOTHER=1\n");
        assert_eq!(read.get("OS_USERNAME").map(String::as_str), Some("admin"));
        assert_eq!(read.get("OS_PASSWORD").map(String::as_str), Some("a=b"));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn only_public_addresses_are_taken_from_the_catalog() {
        let endpoint = |interface: &str, url: &str| json!({ "interface": interface, "url": url });
        let catalog =
            json!([{ "type": "compute", "endpoints": [endpoint("public", "https://a"), endpoint("admin", "b")] }]);
        let read = endpoints(&json!({ "token": { "catalog": catalog } }));
        assert_eq!(read, BTreeMap::from([("compute".to_owned(), "https://a".to_owned())]));
    }
}
