//! What a cloud starts with: a domain, a project, an administrator, roles, a key for tokens, and the catalog.
//!
//! It runs at every start of an API process and writes only what is missing, or what the address it is reached at makes
//! wrong; usually that is nothing. Each of its transactions is whole in itself, so it can be killed anywhere and run
//! again, also beside others.

use store::{Reader, Record, Txn};
use world::Wall;

use crate::error::Error;
use crate::name::{DomainId, ProjectId, RoleId, UserId};
use crate::ops::catalog::EndpointPatch;
use crate::record::{
    Actor, Domain, Endpoint, Grant, Implication, Interface, NameClaim, NameOf, Project, Region, Role, Service, Target,
    TokenKey, User,
};
use crate::service::{Decided, Identity};

/// The roles, and what follows from them.
const ROLES: [(&str, Option<&str>); 4] =
    [("admin", Some("member")), ("member", Some("reader")), ("reader", None), ("service", None)];
/// Type, name and path of the services.
const SERVICES: [(&str, &str, &str); 5] = [
    ("identity", "keystone", "/identity/v3"),
    ("compute", "nova", "/compute/v2.1"),
    ("image", "glance", "/image"),
    ("network", "neutron", "/network"),
    ("placement", "placement", "/placement"),
];
const INTERFACES: [Interface; 3] = [Interface::Public, Interface::Internal, Interface::Admin];

/// What the cloud is called and where it is.
#[derive(Clone)]
pub struct BootstrapParams {
    /// The password of the user `admin`, if that user does not exist yet.
    pub admin_password: String,
    /// The region of the endpoints.
    pub region: String,
    /// `https://host:port`, without a slash at the end.
    pub public_url: String,
}

impl Identity {
    /// Makes what is missing.
    pub async fn bootstrap(&self, params: &BootstrapParams) -> Result<(), Error> {
        let hash = if self.ask(|reader| Ok(id_of(reader, NameOf::User, "default", "admin")?.is_none())).await? {
            self.hash(Some(&params.admin_password)).await?
        } else {
            None
        };
        let now = self.world.wall();
        let fresh = || ids::random_uuid(&self.world).simple().to_string();
        let key = TokenKey { id: self.world.random(), seed: self.world.random(), created: now };
        self.change(|reader| {
            let mut missing = Missing { reader, txn: Txn::new(), fresh: &fresh };
            missing.people(hash.as_deref(), now)?;
            if reader.all::<TokenKey>().next().is_none() {
                missing.txn.create(key.key(), key.encode());
            }
            Decided::rights("the cloud was set up", missing.txn, ())
        })
        .await?;
        self.publish(params).await
    }

    /// Brings the catalog in line with where this cloud is reached.
    async fn publish(&self, params: &BootstrapParams) -> Result<(), Error> {
        self.change(|reader| {
            let mut txn = Txn::new();
            let region = Region { id: params.region.clone(), description: String::new(), parent: None };
            if reader.entry(&region.key()).is_none() {
                txn.create(region.key(), region.encode());
            }
            for (kind, name, _) in SERVICES {
                let service = Service {
                    id: derived(&[kind]),
                    kind: kind.to_owned(),
                    name: name.to_owned(),
                    description: String::new(),
                    enabled: true,
                };
                if reader.entry(&service.key()).is_none() {
                    txn.create(service.key(), service.encode());
                }
            }
            for endpoint in endpoints(params) {
                if reader.entry(&endpoint.key()).is_none() {
                    txn.create(endpoint.key(), endpoint.encode());
                }
            }
            Decided::plain(txn, ())
        })
        .await?;
        // Only the endpoints made here are moved: their ids tell them from those that people made.
        for endpoint in endpoints(params) {
            if self.get::<Endpoint>("endpoint", &endpoint.id).await?.url != endpoint.url {
                let patch = EndpointPatch { url: Some(endpoint.url), ..EndpointPatch::default() };
                self.update_endpoint(&endpoint.id, &patch).await?;
            }
        }
        Ok(())
    }
}

/// The same id for the same thing at every start.
fn derived(parts: &[&str]) -> String {
    let text = format!("mainstay/{}", parts.join("/"));
    hex::encode(&ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref()[..16])
}

fn endpoints(params: &BootstrapParams) -> Vec<Endpoint> {
    let all = SERVICES.iter().flat_map(|service| INTERFACES.iter().map(move |interface| (service, *interface)));
    let endpoint = |((kind, _, path), interface): (&(&str, &str, &str), Interface)| Endpoint {
        id: derived(&[kind, &params.region, interface.as_str()]),
        service: derived(&[kind]),
        region: Some(params.region.clone()),
        interface,
        url: format!("{}{path}", params.public_url),
        enabled: true,
    };
    all.map(endpoint).collect()
}

/// Collects in one transaction what is not there yet.
struct Missing<'a, F> {
    reader: &'a Reader<'a>,
    txn: Txn,
    fresh: &'a F,
}

impl<F: Fn() -> String> Missing<'_, F> {
    fn people(&mut self, admin_hash: Option<&str>, now: Wall) -> Result<(), Error> {
        let domain: DomainId = parse("default")?;
        let made = Domain {
            id: domain.clone(),
            name: "Default".to_owned(),
            description: "The default domain".to_owned(),
            enabled: true,
            deleting: false,
            tags: Vec::new(),
        };
        if self.reader.entry(&made.key()).is_none() {
            self.name(NameOf::Domain, "", "Default", "default");
            self.txn.create(made.key(), made.encode());
        }
        let project = self.project(&domain)?;
        let user = self.admin(&domain, &project, admin_hash, now)?;
        let admin = self.roles()?;
        let (actor, role) = (Actor::User(user), admin);
        for target in [Target::Project(project), Target::Domain(domain), Target::System] {
            let grant = Grant { actor: actor.clone(), target, role: role.clone() };
            if self.reader.entry(&grant.key()).is_none() {
                self.txn.create(grant.key(), grant.encode());
            }
        }
        Ok(())
    }

    fn project(&mut self, domain: &DomainId) -> Result<ProjectId, Error> {
        if let Some(id) = id_of(self.reader, NameOf::Project, domain.as_str(), "admin")? {
            return parse(&id);
        }
        let project = Project {
            id: parse(&(self.fresh)())?,
            domain: domain.clone(),
            name: "admin".to_owned(),
            description: "For the cloud's administrators".to_owned(),
            enabled: true,
            deleting: false,
            parent: None,
            tags: Vec::new(),
        };
        self.name(NameOf::Project, domain.as_str(), "admin", project.id.as_str());
        self.txn.create(project.key(), project.encode());
        Ok(project.id)
    }

    fn admin(
        &mut self,
        domain: &DomainId,
        project: &ProjectId,
        hash: Option<&str>,
        now: Wall,
    ) -> Result<UserId, Error> {
        if let Some(id) = id_of(self.reader, NameOf::User, domain.as_str(), "admin")? {
            return parse(&id);
        }
        let user = User {
            id: parse(&(self.fresh)())?,
            domain: domain.clone(),
            name: "admin".to_owned(),
            description: String::new(),
            email: String::new(),
            enabled: true,
            deleting: false,
            default_project: Some(project.clone()),
            password_hash: hash.map(str::to_owned),
            password_set: now,
            tokens_valid_from: Wall::default(),
            extra: String::new(),
        };
        self.name(NameOf::User, domain.as_str(), "admin", user.id.as_str());
        self.txn.create(user.key(), user.encode());
        Ok(user.id)
    }

    /// Makes the roles and what follows from them; the id of `admin`.
    fn roles(&mut self) -> Result<RoleId, Error> {
        let mut ids = Vec::new();
        let mut new = false;
        for (name, _) in ROLES {
            if let Some(id) = id_of(self.reader, NameOf::Role, "", name)? {
                ids.push(parse::<RoleId>(&id)?);
                continue;
            }
            new = true;
            let id = parse::<RoleId>(&(self.fresh)())?;
            let role = Role { id, name: name.to_owned(), description: String::new(), domain: None, deleting: false };
            self.name(NameOf::Role, "", name, role.id.as_str());
            self.txn.create(role.key(), role.encode());
            ids.push(role.id);
        }
        // What an administrator undid later stays undone.
        for (prior, (_, follows)) in ids.iter().zip(ROLES).filter(|_| new) {
            let Some(position) = ROLES.iter().position(|(name, _)| Some(*name) == follows) else { continue };
            let implication = Implication { prior: prior.clone(), implied: ids[position].clone() };
            if self.reader.entry(&implication.key()).is_none() {
                self.txn.create(implication.key(), implication.encode());
            }
        }
        Ok(ids[0].clone())
    }

    fn name(&mut self, kind: NameOf, scope: &str, name: &str, id: &str) {
        self.txn.create(kind.key(scope, name), NameClaim { name: name.to_owned(), id: id.to_owned() }.encode());
    }
}

fn id_of(reader: &Reader<'_>, kind: NameOf, scope: &str, name: &str) -> Result<Option<String>, Error> {
    let Some(entry) = reader.entry(&kind.key(scope, name)) else { return Ok(None) };
    Ok(Some(NameClaim::decode_entry(entry)?.0.id))
}

fn parse<T: std::str::FromStr<Err = crate::BadName>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: crate::BadName| Error::Invalid(error.to_string()))
}
