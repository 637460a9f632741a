//! Tokens and the catalog as Keystone writes them.

use api::time::rfc3339_micro;
use identity::Verified;
use identity::record::{Endpoint, Service};
use identity::token::Place;
use serde_json::{Value, json};

type Catalog = [(Service, Vec<Endpoint>)];

/// The catalog.
pub(crate) fn catalog(catalog: &Catalog) -> Value {
    let endpoint = |endpoint: &Endpoint| {
        json!({
            "id": endpoint.id, "interface": endpoint.interface.as_str(), "region": endpoint.region,
            "region_id": endpoint.region, "url": endpoint.url,
        })
    };
    let service = |(service, endpoints): &(Service, Vec<Endpoint>)| {
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        json!({ "id": service.id, "type": service.kind, "name": service.name, "endpoints": endpoints })
    };
    catalog.iter().map(service).collect()
}

/// The body that goes with a token.
pub(crate) fn token(verified: &Verified, services: Option<&Catalog>) -> Value {
    let caller = &verified.caller;
    let domain = |(id, name): &(identity::DomainId, String)| json!({ "id": id.as_str(), "name": name });
    let mut token = json!({
        "methods": caller.methods,
        "user": {
            "id": caller.user_id.as_str(),
            "name": caller.user_name,
            "domain": domain(&caller.user_domain),
            "password_expires_at": null,
        },
        "audit_ids": caller.audit_ids,
        "issued_at": rfc3339_micro(caller.issued),
        "expires_at": rfc3339_micro(caller.expires),
    });
    if let Some(project) = &caller.project {
        token["project"] =
            json!({ "id": project.id.as_str(), "name": project.name, "domain": domain(&project.domain) });
        token["is_domain"] = json!(false);
    }
    if let Some(scope) = &caller.domain {
        token["domain"] = domain(scope);
    }
    if verified.claims.place == Place::System {
        token["system"] = json!({ "all": true });
    }
    if verified.claims.place != Place::Nowhere {
        let roles = verified.roles.iter().map(|(id, name)| json!({ "id": id.as_str(), "name": name }));
        token["roles"] = roles.collect();
    }
    if let Some(credential) = &verified.credential {
        token["application_credential"] = json!({
            "id": credential.id, "name": credential.name, "restricted": !credential.unrestricted,
        });
    }
    if let Some(services) = services {
        token["catalog"] = catalog(services);
    }
    json!({ "token": token })
}
