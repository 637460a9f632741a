//! Regions, services and endpoints, and the catalog that they make up.

use store::{Reader, Record, Txn};

use super::set;
use crate::check;
use crate::error::Error;
use crate::record::{Endpoint, Interface, Region, Service};
use crate::service::{Decided, Identity, require};

/// Bytes of a region's id or of a URL.
const TEXT_BYTES_MAX: usize = 255;

/// What may be changed of a service; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct ServicePatch {
    /// The type.
    pub kind: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Whether the catalog shows it.
    pub enabled: Option<bool>,
}

/// What may be changed of an endpoint; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct EndpointPatch {
    /// The service.
    pub service: Option<String>,
    /// The region.
    pub region: Option<Option<String>>,
    /// For whom it is.
    pub interface: Option<Interface>,
    /// The URL.
    pub url: Option<String>,
    /// Whether the catalog shows it.
    pub enabled: Option<bool>,
}

impl Identity {
    /// What is shown to clients: enabled services with their enabled endpoints.
    pub async fn catalog(&self) -> Result<Vec<(Service, Vec<Endpoint>)>, Error> {
        let services = self.all::<Service>().await?;
        let endpoints = self.all::<Endpoint>().await?;
        let with_endpoints = |service: Service| {
            let of = |endpoint: &&Endpoint| endpoint.service == service.id && endpoint.enabled;
            let endpoints = endpoints.iter().filter(of).cloned().collect();
            (service, endpoints)
        };
        Ok(services.into_iter().filter(|service| service.enabled).map(with_endpoints).collect())
    }

    /// A new region.
    pub async fn create_region(&self, region: Region) -> Result<Region, Error> {
        check_region(&region)?;
        self.change(|reader| {
            let mut txn = Txn::new();
            if reader.entry(&region.key()).is_some() {
                return Err(Error::duplicate("region", &region.id));
            }
            if let Some(parent) = &region.parent {
                txn.exists(require::<Region>(reader, "region", parent)?.0.key());
            }
            txn.create(region.key(), region.encode());
            Decided::plain(txn, region.clone())
        })
        .await
    }

    /// Changes a region.
    pub async fn update_region(
        &self,
        id: &str,
        description: Option<String>,
        parent: Option<Option<String>>,
    ) -> Result<Region, Error> {
        self.change(|reader| {
            let (mut region, revision) = require::<Region>(reader, "region", &id)?;
            set(&mut region.description, &description);
            set(&mut region.parent, &parent);
            check_region(&region)?;
            let mut txn = Txn::new();
            if let Some(parent) = region.parent.as_ref().filter(|parent| *parent != id) {
                txn.exists(require::<Region>(reader, "region", parent)?.0.key());
            }
            txn.replace(region.key(), revision, region.encode());
            Decided::plain(txn, region)
        })
        .await
    }

    /// Removes a region that has no regions and no endpoints in it.
    pub async fn delete_region(&self, id: &str) -> Result<(), Error> {
        self.change(|reader| {
            let (region, revision) = require::<Region>(reader, "region", &id)?;
            for found in reader.all::<Region>() {
                if found?.0.parent.as_deref() == Some(id) {
                    return Err(Error::Refused(format!("Unable to delete region {id} because it has child regions.")));
                }
            }
            for found in reader.all::<Endpoint>() {
                if found?.0.region.as_deref() == Some(id) {
                    return Err(Error::Refused(format!("Unable to delete region {id} because it has endpoints.")));
                }
            }
            let mut txn = Txn::new();
            txn.remove(region.key(), revision);
            Decided::plain(txn, ())
        })
        .await
    }

    /// A new service.
    pub async fn create_service(&self, service: Service) -> Result<Service, Error> {
        check_service(&service)?;
        self.change(|_| {
            let mut txn = Txn::new();
            txn.create(service.key(), service.encode());
            Decided::plain(txn, service.clone())
        })
        .await
    }

    /// Changes a service.
    pub async fn update_service(&self, id: &str, patch: &ServicePatch) -> Result<Service, Error> {
        self.change(|reader| {
            let (mut service, revision) = require::<Service>(reader, "service", &id)?;
            set(&mut service.kind, &patch.kind);
            set(&mut service.name, &patch.name);
            set(&mut service.description, &patch.description);
            set(&mut service.enabled, &patch.enabled);
            check_service(&service)?;
            let mut txn = Txn::new();
            txn.replace(service.key(), revision, service.encode());
            Decided::plain(txn, service)
        })
        .await
    }

    /// Removes a service with its endpoints.
    pub async fn delete_service(&self, id: &str) -> Result<(), Error> {
        self.change(|reader| {
            let (service, revision) = require::<Service>(reader, "service", &id)?;
            let mut txn = Txn::new();
            txn.remove(service.key(), revision);
            for found in reader.all::<Endpoint>() {
                let (endpoint, _) = found?;
                if endpoint.service == id {
                    txn.delete(endpoint.key());
                }
            }
            if txn.ops.len() > crate::service::CHANGE_OPERATIONS_MAX {
                let text = "this service has very many endpoints: remove most of them first";
                return Err(Error::Refused(text.to_owned()));
            }
            Decided::plain(txn, ())
        })
        .await
    }

    /// A new endpoint. Its region is made if it does not exist.
    pub async fn create_endpoint(&self, endpoint: Endpoint) -> Result<Endpoint, Error> {
        check_endpoint(&endpoint)?;
        self.change(|reader| {
            let mut txn = Txn::new();
            txn.exists(require::<Service>(reader, "service", &endpoint.service)?.0.key());
            with_region(reader, &mut txn, &endpoint);
            txn.create(endpoint.key(), endpoint.encode());
            Decided::plain(txn, endpoint.clone())
        })
        .await
    }

    /// Changes an endpoint. Its region is made if it does not exist.
    pub async fn update_endpoint(&self, id: &str, patch: &EndpointPatch) -> Result<Endpoint, Error> {
        self.change(|reader| {
            let (mut endpoint, revision) = require::<Endpoint>(reader, "endpoint", &id)?;
            set(&mut endpoint.service, &patch.service);
            set(&mut endpoint.region, &patch.region);
            set(&mut endpoint.interface, &patch.interface);
            set(&mut endpoint.url, &patch.url);
            set(&mut endpoint.enabled, &patch.enabled);
            check_endpoint(&endpoint)?;
            let mut txn = Txn::new();
            txn.exists(require::<Service>(reader, "service", &endpoint.service)?.0.key());
            with_region(reader, &mut txn, &endpoint);
            txn.replace(endpoint.key(), revision, endpoint.encode());
            Decided::plain(txn, endpoint)
        })
        .await
    }

    /// Removes an endpoint.
    pub async fn delete_endpoint(&self, id: &str) -> Result<(), Error> {
        self.change(|reader| {
            let (endpoint, revision) = require::<Endpoint>(reader, "endpoint", &id)?;
            let mut txn = Txn::new();
            txn.remove(endpoint.key(), revision);
            Decided::plain(txn, ())
        })
        .await
    }
}

/// Requires the endpoint's region, or makes it.
fn with_region(reader: &Reader<'_>, txn: &mut Txn, endpoint: &Endpoint) {
    let Some(id) = &endpoint.region else { return };
    let region = Region { id: id.clone(), description: String::new(), parent: None };
    if reader.entry(&region.key()).is_some() {
        txn.exists(region.key());
    } else {
        txn.create(region.key(), region.encode());
    }
}

fn check_region(region: &Region) -> Result<(), Error> {
    if region.id.is_empty() || region.id.len() > TEXT_BYTES_MAX {
        return Err(Error::Invalid("Invalid input for field 'id': a region's id has 1 to 255 bytes".to_owned()));
    }
    if region.parent.as_deref() == Some(&region.id) {
        return Err(Error::Invalid("a region cannot be part of itself".to_owned()));
    }
    check::text("description", &region.description)
}

fn check_service(service: &Service) -> Result<(), Error> {
    if service.kind.is_empty() || service.kind.len() > TEXT_BYTES_MAX {
        return Err(Error::Invalid("Invalid input for field 'type': it has 1 to 255 bytes".to_owned()));
    }
    check::text("name", &service.name)?;
    check::text("description", &service.description)
}

fn check_endpoint(endpoint: &Endpoint) -> Result<(), Error> {
    let (scheme, rest) = endpoint.url.split_once("://").unwrap_or(("", ""));
    if endpoint.url.len() > 1024 || rest.is_empty() || !matches!(scheme, "http" | "https") {
        return Err(Error::Invalid(format!("Invalid input for field 'url': {:.80} is not a URL", endpoint.url)));
    }
    match &endpoint.region {
        Some(region) if region.is_empty() || region.len() > TEXT_BYTES_MAX => {
            Err(Error::Invalid("Invalid input for field 'region_id': a region's id has 1 to 255 bytes".to_owned()))
        }
        Some(_) | None => Ok(()),
    }
}
