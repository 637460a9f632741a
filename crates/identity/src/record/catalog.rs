//! Regions, services and endpoints: what clients find through the catalog.

use proto::identity::state::v1 as stored;
use store::Record;

/// A place with endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Chosen by people.
    pub id: String,
    /// For people.
    pub description: String,
    /// The region that it is a part of.
    pub parent: Option<String>,
}

impl Record for Region {
    const TABLE: &'static str = "region/";
    type Stored = stored::Region;

    fn id(&self) -> String {
        self.id.clone()
    }
    fn to_stored(&self) -> stored::Region {
        let Region { id, description, parent } = self.clone();
        stored::Region { id, description, parent_id: parent.unwrap_or_default() }
    }
    fn from_stored(stored: stored::Region) -> Result<Region, String> {
        let stored::Region { id, description, parent_id } = stored;
        Ok(Region { id, description, parent: Some(parent_id).filter(|id| !id.is_empty()) })
    }
}

/// An API of the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its id.
    pub id: String,
    /// `compute`, `network`, ….
    pub kind: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether the catalog shows it.
    pub enabled: bool,
}

impl Record for Service {
    const TABLE: &'static str = "service/";
    type Stored = stored::Service;

    fn id(&self) -> String {
        self.id.clone()
    }
    fn to_stored(&self) -> stored::Service {
        let Service { id, kind, name, description, enabled } = self.clone();
        stored::Service { id, r#type: kind, name, description, enabled }
    }
    fn from_stored(stored: stored::Service) -> Result<Service, String> {
        let stored::Service { id, r#type, name, description, enabled } = stored;
        Ok(Service { id, kind: r#type, name, description, enabled })
    }
}

/// For whom an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interface {
    /// Everybody.
    Public,
    /// The cloud's own services.
    Internal,
    /// Operators.
    Admin,
}

impl Interface {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Interface::Public => "public",
            Interface::Internal => "internal",
            Interface::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Interface {
    type Err = String;
    fn from_str(text: &str) -> Result<Interface, String> {
        match text.strip_suffix("URL").unwrap_or(text) {
            "public" => Ok(Interface::Public),
            "internal" => Ok(Interface::Internal),
            "admin" => Ok(Interface::Admin),
            _ => Err(format!("{text:?} is none of public, internal, admin")),
        }
    }
}

/// Where a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// The service.
    pub service: String,
    /// The region.
    pub region: Option<String>,
    /// For whom it is.
    pub interface: Interface,
    /// The URL.
    pub url: String,
    /// Whether the catalog shows it.
    pub enabled: bool,
}

impl Record for Endpoint {
    const TABLE: &'static str = "endpoint/";
    type Stored = stored::Endpoint;

    fn id(&self) -> String {
        self.id.clone()
    }
    fn to_stored(&self) -> stored::Endpoint {
        let interface = match self.interface {
            Interface::Public => stored::Interface::Public,
            Interface::Internal => stored::Interface::Internal,
            Interface::Admin => stored::Interface::Admin,
        };
        stored::Endpoint {
            id: self.id.clone(),
            service_id: self.service.clone(),
            region_id: self.region.clone().unwrap_or_default(),
            interface: interface.into(),
            url: self.url.clone(),
            enabled: self.enabled,
        }
    }
    fn from_stored(stored: stored::Endpoint) -> Result<Endpoint, String> {
        let interface = match stored.interface() {
            stored::Interface::Public => Interface::Public,
            stored::Interface::Internal => Interface::Internal,
            stored::Interface::Admin => Interface::Admin,
            stored::Interface::Unspecified => return Err("its interface is unknown".to_owned()),
        };
        let stored::Endpoint { id, service_id, region_id, interface: _, url, enabled } = stored;
        let region = Some(region_id).filter(|id| !id.is_empty());
        Ok(Endpoint { id, service: service_id, region, interface, url, enabled })
    }
}
