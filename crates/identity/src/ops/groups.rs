//! Groups and who is in them.

use store::{Reader, Record, Txn};

use super::{claim, hang_on, rename, set};
use crate::check;
use crate::error::Error;
use crate::index::MEMBERS_BY_GROUP;
use crate::record::{Actor, Domain, Group, Membership, NameOf, User};
use crate::rights;
use crate::service::{Decided, Identity, require};

const KIND: (NameOf, &str) = (NameOf::Group, "group");

impl Identity {
    /// A new group.
    pub async fn create_group(&self, group: Group) -> Result<Group, Error> {
        check_group(&group)?;
        self.change(|reader| {
            let mut txn = Txn::new();
            hang_on::<Domain>(reader, &mut txn, &group.domain)?;
            claim(reader, &mut txn, KIND, (group.domain.as_str(), &group.name), group.id.as_str())?;
            txn.create(group.key(), group.encode());
            Decided::plain(txn, group.clone())
        })
        .await
    }

    /// Changes a group.
    pub async fn update_group(
        &self,
        id: &str,
        name: Option<String>,
        description: Option<String>,
    ) -> Result<Group, Error> {
        self.change(|reader| {
            let (mut group, revision) = require::<Group>(reader, "group", &id)?;
            let old = group.name.clone();
            set(&mut group.name, &name);
            set(&mut group.description, &description);
            check_group(&group)?;
            let mut txn = Txn::new();
            rename(reader, &mut txn, KIND, group.domain.as_str(), (&old, &group.name), id)?;
            txn.replace(group.key(), revision, group.encode());
            Decided::plain(txn, group)
        })
        .await
    }

    /// Removes a group, with its memberships and assignments.
    pub async fn delete_group(&self, id: &str) -> Result<(), Error> {
        let hanging = |reader: &Reader<'_>, group: &Group| {
            let grants = reader.range(Actor::Group(group.id.clone()).grants());
            let members = reader.keys_by(MEMBERS_BY_GROUP, group.id.as_str());
            Ok(grants.map(|(key, _)| key).chain(members).cloned().collect())
        };
        let names = |group: &Group| vec![NameOf::Group.key(group.domain.as_str(), &group.name)];
        self.remove::<Group>(id, |_, _| Ok(()), hanging, names).await
    }

    /// Puts a user into a group; it may be in it already.
    pub async fn add_member(&self, group: &str, user: &str) -> Result<(), Error> {
        self.change(|reader| {
            let mut txn = Txn::new();
            let group = hang_on::<Group>(reader, &mut txn, &group)?.id;
            let user = hang_on::<User>(reader, &mut txn, &user)?.id;
            let membership = Membership { user, group };
            if reader.entry(&membership.key()).is_some() {
                return Decided::nothing(());
            }
            txn.create(membership.key(), membership.encode());
            Decided::rights("a user was put into a group", txn, ())
        })
        .await
    }

    /// Takes a user out of a group that it is in.
    pub async fn remove_member(&self, group: &str, user: &str) -> Result<(), Error> {
        self.change(|reader| {
            let (group, _) = require::<Group>(reader, "group", &group)?;
            let (user, _) = require::<User>(reader, "user", &user)?;
            let key = Membership { user: user.id, group: group.id }.key();
            let Some(entry) = reader.entry(&key) else {
                return Err(Error::not_found("user in the group", user.name));
            };
            let mut txn = Txn::new();
            txn.remove(key, entry.modified);
            Decided::rights("a user was taken out of a group", txn, ())
        })
        .await
    }

    /// The users of a group.
    pub async fn members(&self, group: &str) -> Result<Vec<User>, Error> {
        self.ask(|reader| {
            let (group, _) = require::<Group>(reader, "group", &group)?;
            let mut users = Vec::new();
            for found in reader.by::<Membership>(MEMBERS_BY_GROUP, group.id.as_str()) {
                users.extend(reader.get::<User>(&found?.0.user)?.map(|(user, _)| user));
            }
            Ok(users)
        })
        .await
    }

    /// The groups of a user.
    pub async fn groups_of(&self, user: &str) -> Result<Vec<Group>, Error> {
        self.ask(|reader| {
            let (user, _) = require::<User>(reader, "user", &user)?;
            let mut groups = Vec::new();
            for group in rights::groups_of(reader, &user.id)? {
                groups.extend(reader.get::<Group>(&group)?.map(|(group, _)| group));
            }
            Ok(groups)
        })
        .await
    }
}

fn check_group(group: &Group) -> Result<(), Error> {
    check::name(&group.name, check::NAME_CHARS_MAX)?;
    check::text("description", &group.description)
}
