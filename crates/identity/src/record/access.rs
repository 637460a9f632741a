//! Roles, who has them where, and who is in which group.

use proto::identity::state::v1 as stored;
use store::{Key, KeyRange, Record};

use super::{id, optional, text_of};
use crate::name::{DomainId, GroupId, ProjectId, RoleId, UserId};

/// A named set of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its id.
    pub id: RoleId,
    /// Unique within its domain, or among the roles that are everybody's.
    pub name: String,
    /// For people.
    pub description: String,
    /// The domain that it is private to.
    pub domain: Option<DomainId>,
    /// Its deletion has begun.
    pub deleting: bool,
}

impl Role {
    /// Within what the name is unique.
    pub fn name_scope(domain: Option<&DomainId>) -> &str {
        domain.map_or("", DomainId::as_str)
    }
}

impl Record for Role {
    const TABLE: &'static str = "role/";
    type Stored = stored::Role;

    fn id(&self) -> String {
        self.id.to_string()
    }
    fn to_stored(&self) -> stored::Role {
        let Role { id, name, description, domain, deleting } = self.clone();
        stored::Role { id: id.to_string(), name, description, domain_id: text_of(&domain), deleting }
    }
    fn from_stored(stored: stored::Role) -> Result<Role, String> {
        let stored::Role { id: text, name, description, domain_id, deleting } = stored;
        Ok(Role { id: id(&text)?, name, description, domain: optional(&domain_id)?, deleting })
    }
}

/// Who has `prior` has `implied` as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Implication {
    /// The role that is had.
    pub prior: RoleId,
    /// The role that follows from it.
    pub implied: RoleId,
}

impl Implication {
    /// All that follow directly from `prior`.
    pub fn of(prior: &RoleId) -> KeyRange {
        KeyRange::prefix(format!("{}{prior}/", Implication::TABLE).as_bytes())
    }
}

impl Record for Implication {
    const TABLE: &'static str = "role-implies/";
    type Stored = stored::Implication;

    fn id(&self) -> String {
        format!("{}/{}", self.prior, self.implied)
    }
    fn to_stored(&self) -> stored::Implication {
        stored::Implication { prior_id: self.prior.to_string(), implied_id: self.implied.to_string() }
    }
    fn from_stored(stored: stored::Implication) -> Result<Implication, String> {
        Ok(Implication { prior: id(&stored.prior_id)?, implied: id(&stored.implied_id)? })
    }
}

/// Who can have a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// A user.
    User(UserId),
    /// All users of a group.
    Group(GroupId),
}

/// Where one can have a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// In a project.
    Project(ProjectId),
    /// In a domain itself (not in its projects).
    Domain(DomainId),
    /// Everywhere.
    System,
}

impl Actor {
    fn part(&self) -> String {
        match self {
            Actor::User(id) => format!("user/{id}"),
            Actor::Group(id) => format!("group/{id}"),
        }
    }

    /// All grants to this actor.
    pub fn grants(&self) -> KeyRange {
        KeyRange::prefix(format!("{}{}/", Grant::TABLE, self.part()).as_bytes())
    }

    /// All grants to this actor at `target`.
    pub fn grants_at(&self, target: &Target) -> KeyRange {
        KeyRange::prefix(format!("{}{}/{}/", Grant::TABLE, self.part(), target.part()).as_bytes())
    }

    /// The key of the record that this actor is.
    pub fn key(&self) -> Key {
        match self {
            Actor::User(id) => super::User::key_of(id),
            Actor::Group(id) => super::Group::key_of(id),
        }
    }
}

impl Target {
    /// The target as part of a key and as a term of an index.
    pub(crate) fn part(&self) -> String {
        match self {
            Target::Project(id) => format!("project/{id}"),
            Target::Domain(id) => format!("domain/{id}"),
            Target::System => "system/all".to_owned(),
        }
    }
}

/// An actor has a role somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Who.
    pub actor: Actor,
    /// Where.
    pub target: Target,
    /// What.
    pub role: RoleId,
}

impl Record for Grant {
    const TABLE: &'static str = "grant/";
    type Stored = stored::Grant;

    fn id(&self) -> String {
        format!("{}/{}/{}", self.actor.part(), self.target.part(), self.role)
    }
    fn to_stored(&self) -> stored::Grant {
        let mut grant = stored::Grant { role_id: self.role.to_string(), ..stored::Grant::default() };
        match &self.actor {
            Actor::User(id) => grant.user_id = id.to_string(),
            Actor::Group(id) => grant.group_id = id.to_string(),
        }
        match &self.target {
            Target::Project(id) => grant.project_id = id.to_string(),
            Target::Domain(id) => grant.domain_id = id.to_string(),
            Target::System => {}
        }
        grant
    }
    fn from_stored(stored: stored::Grant) -> Result<Grant, String> {
        let actor = match (optional(&stored.user_id)?, optional(&stored.group_id)?) {
            (Some(user), None) => Actor::User(user),
            (None, Some(group)) => Actor::Group(group),
            (None, None) | (Some(_), Some(_)) => return Err("it needs exactly one of user and group".to_owned()),
        };
        let target = match (optional(&stored.project_id)?, optional(&stored.domain_id)?) {
            (Some(project), None) => Target::Project(project),
            (None, Some(domain)) => Target::Domain(domain),
            (None, None) => Target::System,
            (Some(_), Some(_)) => return Err("it is for a project and for a domain".to_owned()),
        };
        Ok(Grant { actor, target, role: id(&stored.role_id)? })
    }
}

/// A user is in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The user.
    pub user: UserId,
    /// The group.
    pub group: GroupId,
}

impl Membership {
    /// All groups of `user`.
    pub fn of(user: &UserId) -> KeyRange {
        KeyRange::prefix(format!("{}{user}/", Membership::TABLE).as_bytes())
    }
}

impl Record for Membership {
    const TABLE: &'static str = "membership/";
    type Stored = stored::Membership;

    fn id(&self) -> String {
        format!("{}/{}", self.user, self.group)
    }
    fn to_stored(&self) -> stored::Membership {
        stored::Membership { user_id: self.user.to_string(), group_id: self.group.to_string() }
    }
    fn from_stored(stored: stored::Membership) -> Result<Membership, String> {
        Ok(Membership { user: id(&stored.user_id)?, group: id(&stored.group_id)? })
    }
}
