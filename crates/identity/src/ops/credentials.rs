//! Application credentials.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use store::{Key, Record, Txn};
use world::Wall;

use super::{claim, hang_on};
use crate::check;
use crate::error::Error;
use crate::index::CREDENTIALS_BY_USER;
use crate::name::{ProjectId, RoleId, UserId};
use crate::record::{ApplicationCredential, NameOf, Project, Target, User};
use crate::rights;
use crate::service::{Decided, Identity, require};

const KIND: (NameOf, &str) = (NameOf::ApplicationCredential, "application credential");

/// An application credential to be.
#[derive(Clone)]
pub struct NewCredential {
    /// The user for whom it will act.
    pub user: UserId,
    /// The project in which it will act.
    pub project: ProjectId,
    /// Unique for the user.
    pub name: String,
    /// For people.
    pub description: String,
    /// The secret; none: one is made.
    pub secret: Option<String>,
    /// Roles by id or name; none: all that the user has there now.
    pub roles: Option<Vec<String>>,
    /// When it ends.
    pub expires: Option<Wall>,
    /// Whether it may make other credentials.
    pub unrestricted: bool,
}

impl Identity {
    /// A new application credential, and its secret, which is told this once.
    pub async fn create_credential(&self, new: NewCredential) -> Result<(ApplicationCredential, String), Error> {
        check::name(&new.name, check::LONG_NAME_CHARS_MAX)?;
        check::text("description", &new.description)?;
        if new.expires.is_some_and(|expires| expires <= self.world.wall()) {
            return Err(Error::Invalid("Invalid input for field 'expires_at': it is in the past".to_owned()));
        }
        let secret = new.secret.clone().unwrap_or_else(|| URL_SAFE_NO_PAD.encode(self.world.random::<48>()));
        let hash = self.hash(Some(&secret)).await?.ok_or(Error::Busy)?;
        let id = ids::random_uuid(&self.world).simple().to_string();
        let made = self
            .change(|reader| {
                let mut txn = Txn::new();
                hang_on::<User>(reader, &mut txn, &new.user)?;
                hang_on::<Project>(reader, &mut txn, &new.project)?;
                let has = rights::roles_at(reader, &new.user, &Target::Project(new.project.clone()))?;
                let roles = pick(&has, new.roles.as_deref())?;
                claim(reader, &mut txn, KIND, (new.user.as_str(), &new.name), &id)?;
                let credential = ApplicationCredential {
                    id: id.clone(),
                    user: new.user.clone(),
                    project: new.project.clone(),
                    name: new.name.clone(),
                    description: new.description.clone(),
                    secret_hash: hash.clone(),
                    roles,
                    expires: new.expires,
                    unrestricted: new.unrestricted,
                };
                txn.create(credential.key(), credential.encode());
                Decided::plain(txn, credential)
            })
            .await?;
        Ok((made, secret))
    }

    /// The application credentials of a user.
    pub async fn credentials_of(&self, user: &str) -> Result<Vec<ApplicationCredential>, Error> {
        self.ask(|reader| {
            let (user, _) = require::<User>(reader, "user", &user)?;
            let found = reader.by::<ApplicationCredential>(CREDENTIALS_BY_USER, user.id.as_str());
            Ok(found.map(|found| Ok(found?.0)).collect::<Result<_, store::DecodeError>>()?)
        })
        .await
    }

    /// Removes an application credential of `user`; its tokens end with it.
    pub async fn delete_credential(&self, user: &str, id: &str) -> Result<(), Error> {
        self.change(|reader| {
            let (credential, revision) = require::<ApplicationCredential>(reader, "application credential", &id)?;
            if credential.user.as_str() != user {
                return Err(Error::not_found("application credential", id));
            }
            let mut txn = Txn::new();
            let [record, name] = keys_of(&credential);
            txn.remove(record, revision).delete(name);
            Decided::rights("an application credential was removed", txn, ())
        })
        .await
    }
}

/// The keys of a credential: the record, and its name.
pub(crate) fn keys_of(credential: &ApplicationCredential) -> [Key; 2] {
    [credential.key(), NameOf::ApplicationCredential.key(credential.user.as_str(), &credential.name)]
}

fn pick(has: &rights::Roles, wanted: Option<&[String]>) -> Result<Vec<RoleId>, Error> {
    let Some(wanted) = wanted else { return Ok(has.keys().cloned().collect()) };
    let find = |wanted: &String| {
        let found = has.values().find(|role| role.id.as_str() == wanted || role.name == *wanted);
        found.map(|role| role.id.clone()).ok_or_else(|| {
            Error::Invalid(format!("the user has no role {wanted:?} in the project, so it cannot be delegated"))
        })
    };
    wanted.iter().map(find).collect()
}
