//! Identity's records as Keystone writes them.

use api::{Json, RequestCx};
use http::StatusCode;
use identity::record::{Domain, Endpoint, Group, Project, Region, Role, Service, User};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use store::Record;

/// A record with a place in the API.
pub(crate) trait Shape: Record {
    /// What wraps one.
    const ONE: &'static str;
    /// What wraps many; also the path.
    const MANY: &'static str;
    /// The object without its links.
    fn plain(&self) -> Value;
}

/// `https://host:port/identity/v3`.
pub(crate) fn base(cx: &RequestCx) -> String {
    format!("{}/identity/v3", cx.platform.public_url)
}

/// The object with the link to itself.
pub(crate) fn object<R: Shape>(cx: &RequestCx, record: &R) -> Value {
    let mut object = record.plain();
    object["links"] = json!({ "self": format!("{}/{}/{}", base(cx), R::MANY, record.id()) });
    object
}

/// The object in its wrapper.
pub(crate) fn one<R: Shape>(cx: &RequestCx, record: &R) -> Json<Value> {
    Json(json!({ R::ONE: object(cx, record) }))
}

/// The object in its wrapper, for a 201.
pub(crate) fn created<R: Shape>(cx: &RequestCx, record: &R) -> (StatusCode, Json<Value>) {
    (StatusCode::CREATED, one(cx, record))
}

/// For fields of a patch in which `null` means something: present and null is `Some(None)`.
pub(crate) fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(from).map(Some)
}

/// For texts in which `null` means that there is none.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(Option::<String>::deserialize(from)?.unwrap_or_default()))
}

impl Shape for Domain {
    const ONE: &'static str = "domain";
    const MANY: &'static str = "domains";
    fn plain(&self) -> Value {
        json!({
            "id": self.id.as_str(), "name": self.name, "description": self.description,
            "enabled": self.enabled && !self.deleting, "tags": self.tags, "options": {},
        })
    }
}

impl Shape for Project {
    const ONE: &'static str = "project";
    const MANY: &'static str = "projects";
    fn plain(&self) -> Value {
        let parent = self.parent.as_ref().map_or(self.domain.as_str(), identity::ProjectId::as_str);
        json!({
            "id": self.id.as_str(), "name": self.name, "description": self.description, "domain_id": self.domain.as_str(),
            "enabled": self.enabled && !self.deleting, "parent_id": parent, "is_domain": false, "tags": self.tags,
            "options": {},
        })
    }
}

impl Shape for User {
    const ONE: &'static str = "user";
    const MANY: &'static str = "users";
    fn plain(&self) -> Value {
        let mut user = json!({
            "id": self.id.as_str(), "name": self.name, "domain_id": self.domain.as_str(),
            "enabled": self.enabled && !self.deleting, "password_expires_at": null, "options": {},
        });
        // What is attached never covers what is ours.
        let extra = serde_json::from_str::<Map<String, Value>>(&self.extra).unwrap_or_default();
        for (name, value) in extra {
            if user.get(&name).is_none() {
                user[name] = value;
            }
        }
        if !self.description.is_empty() {
            user["description"] = json!(self.description);
        }
        if !self.email.is_empty() {
            user["email"] = json!(self.email);
        }
        if let Some(project) = &self.default_project {
            user["default_project_id"] = json!(project.as_str());
        }
        user
    }
}

impl Shape for Group {
    const ONE: &'static str = "group";
    const MANY: &'static str = "groups";
    fn plain(&self) -> Value {
        json!({
            "id": self.id.as_str(), "name": self.name, "description": self.description, "domain_id": self.domain.as_str(),
        })
    }
}

impl Shape for Role {
    const ONE: &'static str = "role";
    const MANY: &'static str = "roles";
    fn plain(&self) -> Value {
        let description = if self.description.is_empty() { Value::Null } else { json!(self.description) };
        let domain = self.domain.as_ref().map(identity::DomainId::as_str);
        json!({
            "id": self.id.as_str(), "name": self.name, "description": description, "domain_id": domain, "options": {},
        })
    }
}

impl Shape for Region {
    const ONE: &'static str = "region";
    const MANY: &'static str = "regions";
    fn plain(&self) -> Value {
        json!({ "id": self.id, "description": self.description, "parent_region_id": self.parent })
    }
}

impl Shape for Service {
    const ONE: &'static str = "service";
    const MANY: &'static str = "services";
    fn plain(&self) -> Value {
        json!({
            "id": self.id, "type": self.kind, "name": self.name, "description": self.description, "enabled": self.enabled,
        })
    }
}

impl Shape for Endpoint {
    const ONE: &'static str = "endpoint";
    const MANY: &'static str = "endpoints";
    fn plain(&self) -> Value {
        json!({
            "id": self.id, "service_id": self.service, "region_id": self.region, "region": self.region,
            "interface": self.interface.as_str(), "url": self.url, "enabled": self.enabled,
        })
    }
}
