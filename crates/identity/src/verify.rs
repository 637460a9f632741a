//! From a token to its owner and rights, without asking anyone.
//!
//! The signature says who and where; whether that user is still enabled, in which project, with which roles, is read from
//! the view. The conclusion is kept until the identity epoch moves, which every commit does that may take a right away:
//! so a kept token costs a hash and two look-ups, and a lost right is lost as soon as the view has seen it.

use std::sync::Arc;

use store::{DecodeError, Reader, Revision};
use world::Wall;

use crate::cache::digest;
use crate::caller::{AuthError, Caller, ProjectScope};
use crate::name::{DomainId, RoleId};
use crate::record::{ApplicationCredential, Domain, Project, RevokedToken, Target, TokenKey, User};
use crate::rights::{self, Roles};
use crate::service::Identity;
use crate::token::{self, Claims, Place};

/// A token that was found to be good, with everything that is said about it.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The owner as the rest of the product sees it.
    pub caller: Arc<Caller>,
    /// The roles with their ids.
    pub roles: Vec<(RoleId, String)>,
    /// What the token itself says.
    pub claims: Claims,
    /// The application credential that was used, if one was.
    pub credential: Option<ApplicationCredential>,
    /// When the owner's password was set.
    pub password_set: Wall,
    epoch: Option<Revision>,
}

/// Why a state does not support a token's claims.
pub(crate) enum Unsupported {
    Refused(&'static str),
    Damaged(DecodeError),
}

impl From<DecodeError> for Unsupported {
    fn from(error: DecodeError) -> Unsupported {
        Unsupported::Damaged(error)
    }
}

impl Identity {
    /// Who owns `token`. Reads the view as it is; asks the store only before refusing what it would have accepted.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Caller>, AuthError> {
        Ok(Arc::clone(&self.inspect(token).await?.caller))
    }

    /// All that is to say about `token`.
    pub async fn inspect(&self, token: &str) -> Result<Arc<Verified>, AuthError> {
        let digest = digest(token);
        let now = self.world.wall();
        if let Some(kept) = self.cache.get(&digest) {
            let epoch = self.view.peek(|reader| self.epoch_in(reader));
            if kept.epoch == epoch && now < kept.caller.expires {
                return Ok(kept);
            }
        }
        let verified = match self.view.peek(|reader| self.verify(reader, token, now)) {
            Ok(verified) => verified,
            // The token may be newer than what this process has seen.
            Err(Unsupported::Refused(_)) if plausible(token) => {
                let read = self.view.read(|reader| self.verify(reader, token, now)).await;
                read.map_err(|error| AuthError::NotNow(error.to_string()))?.map_err(auth_error)?
            }
            Err(unsupported) => return Err(auth_error(unsupported)),
        };
        let verified = Arc::new(verified);
        self.cache.put(digest, Arc::clone(&verified));
        Ok(verified)
    }

    fn verify(&self, reader: &Reader<'_>, token: &str, now: Wall) -> Result<Verified, Unsupported> {
        let mut damaged = None;
        let find = |id: [u8; 4]| match reader.get::<TokenKey>(&hex::encode(id)) {
            Ok(found) => found.map(|(key, _)| key),
            Err(error) => {
                damaged = Some(error);
                None
            }
        };
        let claims = token::verify(token, now, find);
        if let Some(error) = damaged {
            return Err(error.into());
        }
        let claims = claims.map_err(Unsupported::Refused)?;
        if reader.entry(&RevokedToken::key_for(&claims.audit_id(), claims.expires)).is_some() {
            return Err(Unsupported::Refused("it was revoked"));
        }
        self.support(reader, claims, now)
    }

    fn epoch_in(&self, reader: &Reader<'_>) -> Option<Revision> {
        reader.entry(&self.epoch).map(|entry| entry.modified)
    }

    /// What the state says to `claims`: names and roles, or why they do not hold (any more).
    pub(crate) fn support(&self, reader: &Reader<'_>, claims: Claims, now: Wall) -> Result<Verified, Unsupported> {
        let user = reader.get::<User>(&claims.user)?.map(|(user, _)| user);
        let user = user.filter(|user| user.enabled && !user.deleting);
        let user = user.ok_or(Unsupported::Refused("its user is gone or disabled"))?;
        if claims.issued < user.tokens_valid_from {
            return Err(Unsupported::Refused("its user's password was changed since"));
        }
        let user_domain = enabled_domain(reader, &user.domain)?;
        let credential = match &claims.credential {
            Some(id) => Some(live_credential(reader, id, &claims, now)?),
            None => None,
        };
        let (project, domain, mut roles) = scope(reader, &claims)?;
        if let Some(credential) = &credential {
            let allowed = rights::closure(reader, credential.roles.iter().cloned().collect())?;
            roles.retain(|id, _| allowed.contains(id));
        }
        if roles.is_empty() && claims.place != Place::Nowhere {
            return Err(Unsupported::Refused("its user has no role there"));
        }
        let roles: Vec<_> = roles.into_values().map(|role| (role.id, role.name)).collect();
        let mut names: Vec<_> = roles.iter().map(|(_, name)| name.clone()).collect();
        names.sort();
        let caller = Caller {
            user_id: user.id,
            user_name: user.name,
            user_domain,
            project,
            domain,
            roles: names,
            issued: claims.issued,
            expires: claims.expires,
            audit_ids: claims.audit_ids(),
            methods: claims.methods.iter().map(|method| method.as_str().to_owned()).collect(),
            application_credential: claims.credential.clone(),
        };
        let (caller, password_set, epoch) = (Arc::new(caller), user.password_set, self.epoch_in(reader));
        Ok(Verified { caller, roles, claims, credential, password_set, epoch })
    }
}

type Scoped = (Option<ProjectScope>, Option<(DomainId, String)>, Roles);

fn scope(reader: &Reader<'_>, claims: &Claims) -> Result<Scoped, Unsupported> {
    match &claims.place {
        Place::Nowhere => Ok((None, None, Roles::new())),
        Place::System => Ok((None, None, rights::roles_at(reader, &claims.user, &Target::System)?)),
        Place::Domain(id) => {
            let domain = enabled_domain(reader, id)?;
            let roles = rights::roles_at(reader, &claims.user, &Target::Domain(id.clone()))?;
            Ok((None, Some(domain), roles))
        }
        Place::Project(id) => {
            let project = reader.get::<Project>(id)?.map(|(project, _)| project);
            let project = project.filter(|project| project.enabled && !project.deleting);
            let project = project.ok_or(Unsupported::Refused("its project is gone or disabled"))?;
            let domain = enabled_domain(reader, &project.domain)?;
            let roles = rights::roles_at(reader, &claims.user, &Target::Project(id.clone()))?;
            Ok((Some(ProjectScope { id: project.id, name: project.name, domain }), None, roles))
        }
    }
}

fn enabled_domain(reader: &Reader<'_>, id: &DomainId) -> Result<(DomainId, String), Unsupported> {
    let domain = reader.get::<Domain>(id)?.map(|(domain, _)| domain);
    let domain = domain.filter(|domain| domain.enabled && !domain.deleting);
    let domain = domain.ok_or(Unsupported::Refused("a domain that it needs is gone or disabled"))?;
    Ok((domain.id, domain.name))
}

fn live_credential(
    reader: &Reader<'_>,
    id: &str,
    claims: &Claims,
    now: Wall,
) -> Result<ApplicationCredential, Unsupported> {
    let credential = reader.get::<ApplicationCredential>(&id)?.map(|(credential, _)| credential);
    let credential = credential.filter(|credential| {
        credential.user == claims.user
            && credential.expires.is_none_or(|expires| now < expires)
            && claims.place == Place::Project(credential.project.clone())
    });
    credential.ok_or(Unsupported::Refused("its application credential is gone or has ended"))
}

fn auth_error(unsupported: Unsupported) -> AuthError {
    match unsupported {
        Unsupported::Refused(why) => AuthError::Invalid(why),
        Unsupported::Damaged(error) => AuthError::NotNow(error.to_string()),
    }
}

/// Whether `token` looks like one of ours: only then is it worth a question to the store.
fn plausible(token: &str) -> bool {
    (120..=token::TOKEN_BYTES_MAX).contains(&token.len()) && token.starts_with("AQ")
}
