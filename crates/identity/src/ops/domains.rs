//! Domains.

use store::{Key, Reader, Record, Txn};

use super::{claim, rename, set};
use crate::check;
use crate::error::Error;
use crate::index::GRANTS_BY_TARGET;
use crate::name::DomainId;
use crate::record::{Domain, Group, NameOf, Project, Role, Target, User};
use crate::service::{Decided, Identity, require};

const KIND: (NameOf, &str) = (NameOf::Domain, "domain");

/// What may be changed; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct DomainPatch {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// The tags.
    pub tags: Option<Vec<String>>,
}

impl Identity {
    /// A new domain.
    pub async fn create_domain(&self, domain: Domain) -> Result<Domain, Error> {
        check_domain(&domain)?;
        self.change(|reader| {
            let mut txn = Txn::new();
            if reader.entry(&domain.key()).is_some() {
                return Err(Error::duplicate("domain", domain.id.as_str()));
            }
            claim(reader, &mut txn, KIND, ("", &domain.name), domain.id.as_str())?;
            txn.create(domain.key(), domain.encode());
            Decided::plain(txn, domain.clone())
        })
        .await
    }

    /// Changes a domain.
    pub async fn update_domain(&self, id: &str, patch: &DomainPatch) -> Result<Domain, Error> {
        self.change(|reader| {
            let (mut domain, revision) = require::<Domain>(reader, "domain", &id)?;
            let old = domain.name.clone();
            set(&mut domain.name, &patch.name);
            set(&mut domain.description, &patch.description);
            set(&mut domain.enabled, &patch.enabled);
            set(&mut domain.tags, &patch.tags);
            check_domain(&domain)?;
            let mut txn = Txn::new();
            rename(reader, &mut txn, KIND, "", (&old, &domain.name), id)?;
            txn.replace(domain.key(), revision, domain.encode());
            Decided::rights("a domain was changed", txn, domain)
        })
        .await
    }

    /// Removes a domain with all that is in it. It must have been disabled first.
    pub async fn delete_domain(&self, id: &str) -> Result<(), Error> {
        let disabled = |_: &Reader<'_>, domain: &Domain| {
            if domain.enabled {
                let text = "Cannot delete a domain that is enabled, please disable it first.";
                return Err(Error::Refused(text.to_owned()));
            }
            Ok(())
        };
        self.doom::<Domain>(id, disabled).await?;
        self.empty_domain(id).await?;
        let grants = |reader: &Reader<'_>, domain: &Domain| {
            let at = Target::Domain(domain.id.clone()).part();
            Ok(reader.keys_by(GRANTS_BY_TARGET, &at).cloned().collect::<Vec<Key>>())
        };
        self.finish::<Domain>(id, grants, |domain| vec![NameOf::Domain.key("", &domain.name)]).await
    }

    /// Removes what is in a domain, thing by thing.
    async fn empty_domain(&self, id: &str) -> Result<(), Error> {
        for project in self.all::<Project>().await?.into_iter().filter(|project| project.domain.as_str() == id) {
            gone(self.remove_project(project.id.as_str(), false).await)?;
        }
        for user in self.all::<User>().await?.into_iter().filter(|user| user.domain.as_str() == id) {
            gone(self.delete_user(user.id.as_str()).await)?;
        }
        for group in self.all::<Group>().await?.into_iter().filter(|group| group.domain.as_str() == id) {
            gone(self.delete_group(group.id.as_str()).await)?;
        }
        for role in self.all::<Role>().await? {
            if role.domain.as_ref().map(DomainId::as_str) == Some(id) {
                gone(self.delete_role(role.id.as_str()).await)?;
            }
        }
        Ok(())
    }
}

/// Somebody else may have been faster.
fn gone(outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

fn check_domain(domain: &Domain) -> Result<(), Error> {
    check::name(&domain.name, check::NAME_CHARS_MAX)?;
    check::text("description", &domain.description)?;
    check::tags(&domain.tags)
}
