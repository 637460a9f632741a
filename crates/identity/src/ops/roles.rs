//! Roles, and which follows from which.

use store::{Reader, Record, Txn};

use super::{claim, hang_on, rename, set};
use crate::check;
use crate::error::Error;
use crate::index::GRANTS_BY_ROLE;
use crate::record::{Domain, Implication, NameOf, Role};
use crate::rights;
use crate::service::{Decided, Identity, require};

const KIND: (NameOf, &str) = (NameOf::Role, "role");

impl Identity {
    /// A new role.
    pub async fn create_role(&self, role: Role) -> Result<Role, Error> {
        check_role(&role)?;
        self.change(|reader| {
            let mut txn = Txn::new();
            if let Some(domain) = &role.domain {
                hang_on::<Domain>(reader, &mut txn, domain)?;
            }
            claim(reader, &mut txn, KIND, (Role::name_scope(role.domain.as_ref()), &role.name), role.id.as_str())?;
            txn.create(role.key(), role.encode());
            Decided::plain(txn, role.clone())
        })
        .await
    }

    /// Changes a role.
    pub async fn update_role(
        &self,
        id: &str,
        name: Option<String>,
        description: Option<String>,
    ) -> Result<Role, Error> {
        self.change(|reader| {
            let (mut role, revision) = require::<Role>(reader, "role", &id)?;
            let old = role.name.clone();
            set(&mut role.name, &name);
            set(&mut role.description, &description);
            check_role(&role)?;
            let mut txn = Txn::new();
            rename(reader, &mut txn, KIND, Role::name_scope(role.domain.as_ref()), (&old, &role.name), id)?;
            txn.replace(role.key(), revision, role.encode());
            Decided::rights("a role was changed", txn, role)
        })
        .await
    }

    /// Removes a role from everybody and everywhere.
    pub async fn delete_role(&self, id: &str) -> Result<(), Error> {
        let hanging = |reader: &Reader<'_>, role: &Role| {
            let mut keys: Vec<_> = reader.keys_by(GRANTS_BY_ROLE, role.id.as_str()).cloned().collect();
            for found in reader.all::<Implication>() {
                let (implication, _) = found?;
                if implication.prior == role.id || implication.implied == role.id {
                    keys.push(implication.key());
                }
            }
            Ok(keys)
        };
        let names = |role: &Role| vec![NameOf::Role.key(Role::name_scope(role.domain.as_ref()), &role.name)];
        self.remove::<Role>(id, |_, _| Ok(()), hanging, names).await
    }

    /// Lets `implied` follow from `prior`; it may do so already. A circle is refused.
    pub async fn imply(&self, prior: &str, implied: &str) -> Result<(Role, Role), Error> {
        self.change(|reader| {
            let mut txn = Txn::new();
            let prior = hang_on::<Role>(reader, &mut txn, &prior)?;
            let implied = hang_on::<Role>(reader, &mut txn, &implied)?;
            if implied.domain.is_some() && prior.domain.is_none() {
                let text = "a role that is private to a domain does not follow from one that is everybody's";
                return Err(Error::Refused(text.to_owned()));
            }
            let below = rights::closure(reader, [implied.id.clone()].into())?;
            if below.contains(&prior.id) {
                return Err(Error::Invalid(format!("the role {} follows from {} already", prior.name, implied.name)));
            }
            let implication = Implication { prior: prior.id.clone(), implied: implied.id.clone() };
            if reader.entry(&implication.key()).is_some() {
                return Decided::nothing((prior, implied));
            }
            txn.create(implication.key(), implication.encode());
            Decided::rights("a role follows from another", txn, (prior, implied))
        })
        .await
    }

    /// Ends that `implied` follows from `prior`.
    pub async fn unimply(&self, prior: &str, implied: &str) -> Result<(), Error> {
        self.change(|reader| {
            let (prior, _) = require::<Role>(reader, "role", &prior)?;
            let (implied, _) = require::<Role>(reader, "role", &implied)?;
            let key = Implication { prior: prior.id.clone(), implied: implied.id.clone() }.key();
            let Some(entry) = reader.entry(&key) else {
                return Err(Error::not_found("implied role", implied.id));
            };
            let mut txn = Txn::new();
            txn.remove(key, entry.modified);
            Decided::rights("a role does not follow any more", txn, ())
        })
        .await
    }
}

fn check_role(role: &Role) -> Result<(), Error> {
    check::name(&role.name, check::LONG_NAME_CHARS_MAX)?;
    check::text("description", &role.description)
}
