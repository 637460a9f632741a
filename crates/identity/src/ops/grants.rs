//! Assignments of roles.

use store::{Key, Reader, Record, Revision, Txn};

use super::hang_on;
use crate::error::Error;
use crate::record::{Actor, Domain, Grant, Group, Project, Role, Target, User};
use crate::rights;
use crate::service::{Decided, Identity, require};

impl Identity {
    /// Gives a role; it may be given already.
    pub async fn grant(&self, grant: &Grant) -> Result<(), Error> {
        self.change(|reader| {
            let mut txn = Txn::new();
            match &grant.actor {
                Actor::User(id) => drop(hang_on::<User>(reader, &mut txn, id)?),
                Actor::Group(id) => drop(hang_on::<Group>(reader, &mut txn, id)?),
            }
            match &grant.target {
                Target::Project(id) => drop(hang_on::<Project>(reader, &mut txn, id)?),
                Target::Domain(id) => drop(hang_on::<Domain>(reader, &mut txn, id)?),
                Target::System => {}
            }
            hang_on::<Role>(reader, &mut txn, &grant.role)?;
            if reader.entry(&grant.key()).is_some() {
                return Decided::nothing(());
            }
            txn.create(grant.key(), grant.encode());
            Decided::rights("a role was given", txn, ())
        })
        .await
    }

    /// Takes a role away that was given.
    pub async fn withdraw(&self, grant: &Grant) -> Result<(), Error> {
        self.change(|reader| {
            let (key, revision) = given(reader, grant)?;
            let mut txn = Txn::new();
            txn.remove(key, revision);
            Decided::rights("a role was taken away", txn, ())
        })
        .await
    }

    /// Whether a role was given directly: an error if it was not.
    pub async fn check_grant(&self, grant: &Grant) -> Result<(), Error> {
        self.ask(|reader| given(reader, grant).map(drop)).await
    }

    /// The roles that `actor` was given directly at `target`.
    pub async fn roles_given(&self, actor: &Actor, target: &Target) -> Result<Vec<Role>, Error> {
        self.ask(|reader| {
            exist(reader, actor, target)?;
            let mut roles = Vec::new();
            for (_, entry) in reader.range(actor.grants_at(target)) {
                roles.extend(reader.get::<Role>(&Grant::decode_entry(entry)?.0.role)?.map(|(role, _)| role));
            }
            Ok(roles)
        })
        .await
    }

    /// The projects in which a user has a role.
    pub async fn projects_of(&self, user: &str) -> Result<Vec<Project>, Error> {
        self.ask(|reader| {
            let (user, _) = require::<User>(reader, "user", &user)?;
            let mut ids = Vec::new();
            for grant in rights::grants_of(reader, &user.id)? {
                match grant.target {
                    Target::Project(id) => ids.push(id),
                    Target::Domain(_) | Target::System => {}
                }
            }
            ids.sort();
            ids.dedup();
            let mut projects = Vec::new();
            for id in ids {
                projects.extend(reader.get::<Project>(&id)?.map(|(project, _)| project));
            }
            Ok(projects)
        })
        .await
    }

    /// Whether a user has a role for the cloud itself.
    pub async fn has_system_role(&self, user: &str) -> Result<bool, Error> {
        self.ask(|reader| {
            let (user, _) = require::<User>(reader, "user", &user)?;
            Ok(!rights::roles_at(reader, &user.id, &Target::System)?.is_empty())
        })
        .await
    }

    /// The domains in which a user has a role.
    pub async fn domains_of(&self, user: &str) -> Result<Vec<Domain>, Error> {
        self.ask(|reader| {
            let (user, _) = require::<User>(reader, "user", &user)?;
            let mut domains = Vec::new();
            for grant in rights::grants_of(reader, &user.id)? {
                match grant.target {
                    Target::Domain(id) => domains.extend(reader.get::<Domain>(&id)?.map(|(domain, _)| domain)),
                    Target::Project(_) | Target::System => {}
                }
            }
            domains.sort_by(|one, other| one.id.cmp(&other.id));
            domains.dedup();
            Ok(domains)
        })
        .await
    }
}

fn exist(reader: &Reader<'_>, actor: &Actor, target: &Target) -> Result<(), Error> {
    match actor {
        Actor::User(id) => drop(require::<User>(reader, "user", id)?),
        Actor::Group(id) => drop(require::<Group>(reader, "group", id)?),
    }
    match target {
        Target::Project(id) => drop(require::<Project>(reader, "project", id)?),
        Target::Domain(id) => drop(require::<Domain>(reader, "domain", id)?),
        Target::System => {}
    }
    Ok(())
}

fn given(reader: &Reader<'_>, grant: &Grant) -> Result<(Key, Revision), Error> {
    exist(reader, &grant.actor, &grant.target)?;
    require::<Role>(reader, "role", &grant.role)?;
    let key = grant.key();
    let entry = reader.entry(&key).ok_or_else(|| Error::not_found("role assignment with role", &grant.role))?;
    Ok((key, entry.modified))
}
