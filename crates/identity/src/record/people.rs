//! Domains, projects, users and groups.

use proto::identity::state::v1 as stored;
use store::Record;
use world::Wall;

use super::{id, optional, text_of};
use crate::name::{DomainId, GroupId, ProjectId, UserId};

/// A namespace of users, groups and projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// Unique among domains.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether anybody can log in to it.
    pub enabled: bool,
    /// Its deletion has begun.
    pub deleting: bool,
    /// Words that people attach.
    pub tags: Vec<String>,
}

impl Record for Domain {
    const TABLE: &'static str = "domain/";
    type Stored = stored::Domain;

    fn id(&self) -> String {
        self.id.to_string()
    }
    fn to_stored(&self) -> stored::Domain {
        let Domain { id, name, description, enabled, deleting, tags } = self.clone();
        stored::Domain { id: id.to_string(), name, description, enabled, deleting, tags }
    }
    fn from_stored(stored: stored::Domain) -> Result<Domain, String> {
        let stored::Domain { id: text, name, description, enabled, deleting, tags } = stored;
        Ok(Domain { id: id(&text)?, name, description, enabled, deleting, tags })
    }
}

/// What owns resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// The domain that it is in.
    pub domain: DomainId,
    /// Unique within the domain.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether anybody can get a token for it.
    pub enabled: bool,
    /// Its deletion has begun.
    pub deleting: bool,
    /// The project above; none: it stands directly in its domain.
    pub parent: Option<ProjectId>,
    /// Words that people attach.
    pub tags: Vec<String>,
}

impl Record for Project {
    const TABLE: &'static str = "project/";
    type Stored = stored::Project;

    fn id(&self) -> String {
        self.id.to_string()
    }
    fn to_stored(&self) -> stored::Project {
        let Project { id, domain, name, description, enabled, deleting, parent, tags } = self.clone();
        let (id, domain_id, parent_id) = (id.to_string(), domain.to_string(), text_of(&parent));
        stored::Project { id, domain_id, name, description, enabled, deleting, parent_id, tags }
    }
    fn from_stored(stored: stored::Project) -> Result<Project, String> {
        let stored::Project { id: text, domain_id, name, description, enabled, deleting, parent_id, tags } = stored;
        let (id, domain, parent) = (id(&text)?, id(&domain_id)?, optional(&parent_id)?);
        Ok(Project { id, domain, name, description, enabled, deleting, parent, tags })
    }
}

/// Somebody, or something, that can log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// The domain that it is in.
    pub domain: DomainId,
    /// Unique within the domain.
    pub name: String,
    /// For people.
    pub description: String,
    /// For people.
    pub email: String,
    /// Whether it can log in.
    pub enabled: bool,
    /// Its deletion has begun.
    pub deleting: bool,
    /// The project for logins that name none.
    pub default_project: Option<ProjectId>,
    /// A PHC string; none: no password opens this user.
    pub password_hash: Option<String>,
    /// When the password was set.
    pub password_set: Wall,
    /// Tokens that were issued before are void.
    pub tokens_valid_from: Wall,
    /// A JSON object with whatever else clients attach; empty: nothing.
    pub extra: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "User({} {:?} in {})", self.id, self.name, self.domain)
    }
}

impl Record for User {
    const TABLE: &'static str = "user/";
    type Stored = stored::User;

    fn id(&self) -> String {
        self.id.to_string()
    }
    fn to_stored(&self) -> stored::User {
        stored::User {
            id: self.id.to_string(),
            domain_id: self.domain.to_string(),
            name: self.name.clone(),
            description: self.description.clone(),
            email: self.email.clone(),
            enabled: self.enabled,
            deleting: self.deleting,
            default_project_id: text_of(&self.default_project),
            password_hash: text_of(&self.password_hash),
            password_set_micros: self.password_set.as_micros(),
            tokens_valid_from_micros: self.tokens_valid_from.as_micros(),
            extra_json: self.extra.clone(),
        }
    }
    fn from_stored(stored: stored::User) -> Result<User, String> {
        Ok(User {
            id: id(&stored.id)?,
            domain: id(&stored.domain_id)?,
            name: stored.name,
            description: stored.description,
            email: stored.email,
            enabled: stored.enabled,
            deleting: stored.deleting,
            default_project: optional(&stored.default_project_id)?,
            password_hash: Some(stored.password_hash).filter(|hash| !hash.is_empty()),
            password_set: Wall::from_micros(stored.password_set_micros),
            tokens_valid_from: Wall::from_micros(stored.tokens_valid_from_micros),
            extra: stored.extra_json,
        })
    }
}

/// A set of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// The domain that it is in.
    pub domain: DomainId,
    /// Unique within the domain.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its deletion has begun.
    pub deleting: bool,
}

impl Record for Group {
    const TABLE: &'static str = "group/";
    type Stored = stored::Group;

    fn id(&self) -> String {
        self.id.to_string()
    }
    fn to_stored(&self) -> stored::Group {
        let Group { id, domain, name, description, deleting } = self.clone();
        stored::Group { id: id.to_string(), domain_id: domain.to_string(), name, description, deleting }
    }
    fn from_stored(stored: stored::Group) -> Result<Group, String> {
        let stored::Group { id: text, domain_id, name, description, deleting } = stored;
        Ok(Group { id: id(&text)?, domain: id(&domain_id)?, name, description, deleting })
    }
}
