//! Users and their passwords.

use store::{Reader, Record, Txn};
use world::Wall;

use super::{claim, hang_on, rename, set};
use crate::check;
use crate::error::Error;
use crate::index::CREDENTIALS_BY_USER;
use crate::name::{DomainId, ProjectId, UserId};
use crate::record::{Actor, ApplicationCredential, Domain, Membership, NameOf, User};
use crate::service::{CHANGE_OPERATIONS_MAX, Decided, HangingOnUser, Identity, require};

const KIND: (NameOf, &str) = (NameOf::User, "user");

/// A user to be.
#[derive(Clone, Default)]
pub struct NewUser {
    /// The name.
    pub name: String,
    /// The description.
    pub description: String,
    /// The address.
    pub email: String,
    /// Whether it can log in.
    pub enabled: bool,
    /// The project for logins that name none.
    pub default_project: Option<ProjectId>,
    /// The password, if it gets one.
    pub password: Option<String>,
    /// A JSON object with whatever else clients attach.
    pub extra: String,
}

/// What may be changed; `None` leaves it.
#[derive(Clone, Default)]
pub struct UserPatch {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The address.
    pub email: Option<String>,
    /// Whether it can log in.
    pub enabled: Option<bool>,
    /// The project for logins that name none.
    pub default_project: Option<Option<ProjectId>>,
    /// The password: tokens from before are void.
    pub password: Option<String>,
    /// A JSON object with whatever else clients attach.
    pub extra: Option<String>,
}

impl Identity {
    /// A new user in `domain`.
    pub async fn create_user(&self, domain: &DomainId, new: NewUser) -> Result<User, Error> {
        let now = self.world.wall();
        let user = User {
            id: UserId::random(&self.world),
            domain: domain.clone(),
            password_hash: self.hash(new.password.as_deref()).await?,
            name: new.name,
            description: new.description,
            email: new.email,
            enabled: new.enabled,
            deleting: false,
            default_project: new.default_project,
            password_set: now,
            tokens_valid_from: Wall::default(),
            extra: new.extra,
        };
        check_user(&user)?;
        self.change(|reader| {
            let mut txn = Txn::new();
            hang_on::<Domain>(reader, &mut txn, domain)?;
            claim(reader, &mut txn, KIND, (user.domain.as_str(), &user.name), user.id.as_str())?;
            txn.create(user.key(), user.encode());
            Decided::plain(txn, user.clone())
        })
        .await
    }

    /// Changes a user.
    pub async fn update_user(&self, id: &str, patch: &UserPatch) -> Result<User, Error> {
        let hash = self.hash(patch.password.as_deref()).await?;
        let now = self.world.wall();
        self.change(|reader| {
            let (mut user, revision) = require::<User>(reader, "user", &id)?;
            let old = user.clone();
            set(&mut user.name, &patch.name);
            set(&mut user.description, &patch.description);
            set(&mut user.email, &patch.email);
            set(&mut user.enabled, &patch.enabled);
            set(&mut user.default_project, &patch.default_project);
            set(&mut user.extra, &patch.extra);
            if hash.is_some() {
                user.password_hash.clone_from(&hash);
                user.password_set = now;
            }
            if hash.is_some() || (old.enabled && !user.enabled) {
                user.tokens_valid_from = now;
            }
            check_user(&user)?;
            let mut txn = Txn::new();
            rename(reader, &mut txn, KIND, user.domain.as_str(), (&old.name, &user.name), id)?;
            txn.replace(user.key(), revision, user.encode());
            Decided::rights("a user was changed", txn, user)
        })
        .await
    }

    /// Changes a password for someone who knows the old one; `false`: it is another one, or there is no such user.
    pub async fn change_password(&self, id: &str, old: &str, new: &str) -> Result<bool, Error> {
        let user = self.ask(|reader| Ok(reader.get::<User>(&id)?)).await?;
        let user = user.map(|(user, _)| user).filter(|user| user.enabled && !user.deleting);
        // As with logins, it takes as long for a user who does not exist.
        let hash = user.and_then(|user| user.password_hash);
        if !self.passwords.verify(old, hash).await.map_err(|_| Error::Busy)? {
            return Ok(false);
        }
        let patch = UserPatch { password: Some(new.to_owned()), ..UserPatch::default() };
        self.update_user(id, &patch).await.map(|_| true)
    }

    /// Removes a user, with its assignments, memberships and application credentials, and what others keep for it.
    pub async fn delete_user(&self, id: &str) -> Result<(), Error> {
        let hanging = |reader: &Reader<'_>, user: &User| {
            let grants = reader.range(Actor::User(user.id.clone()).grants());
            let mut keys: Vec<_> = grants.map(|(key, _)| key.clone()).collect();
            keys.extend(reader.range(Membership::of(&user.id)).map(|(key, _)| key.clone()));
            for found in reader.by::<ApplicationCredential>(CREDENTIALS_BY_USER, user.id.as_str()) {
                keys.extend(super::credentials::keys_of(&found?.0));
            }
            Ok(keys)
        };
        let names = |user: &User| vec![NameOf::User.key(user.domain.as_str(), &user.name)];
        self.doom::<User>(id, |_, _| Ok(())).await?;
        for remove in self.hanging_on_users {
            let user = id.parse().map_err(|_| Error::not_found("user", id))?;
            self.remove_beside(&user, *remove).await?;
        }
        self.finish::<User>(id, hanging, names).await
    }

    /// Removes what somebody else keeps for a user, before the user itself: until then its name can be found again.
    async fn remove_beside(&self, user: &UserId, remove: HangingOnUser) -> Result<(), Error> {
        let step = |reader: &Reader<'_>| match remove(reader, user, CHANGE_OPERATIONS_MAX) {
            Some(txn) => Decided::plain(txn, true),
            None => Decided::nothing(false),
        };
        while self.change(step).await? {}
        Ok(())
    }

    pub(crate) async fn hash(&self, password: Option<&str>) -> Result<Option<String>, Error> {
        let Some(password) = password else { return Ok(None) };
        check::password(password)?;
        self.passwords.hash(&self.world, password).await.map(Some).map_err(|_| Error::Busy)
    }
}

fn check_user(user: &User) -> Result<(), Error> {
    check::name(&user.name, check::LONG_NAME_CHARS_MAX)?;
    check::text("description", &user.description)?;
    check::text("extra", &user.extra)?;
    check::text("email", &user.email)
}
