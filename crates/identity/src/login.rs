//! Getting a token, and giving it back.

use std::sync::Arc;

use store::{DecodeError, ReadError, Reader, Record};
use world::Wall;

use crate::caller::AuthError;
use crate::error::Error;
use crate::keys;
use crate::name::{DomainId, ProjectId, UserId};
use crate::password::Busy;
use crate::record::{ApplicationCredential, Domain, NameClaim, NameOf, Project, RevokedToken, User};
use crate::service::{Decided, Identity};
use crate::token::{self, Claims, Method, Place};
use crate::verify::{Unsupported, Verified};

/// A domain as a login names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainRef {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// A user, project or application credential as a login names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ref<Within> {
    /// By id.
    Id(String),
    /// By name, which is unique within something.
    Name(String, Within),
}

/// How the user proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// With a password.
    Password(Ref<DomainRef>, String),
    /// With another token.
    Token(String),
    /// With an application credential.
    ApplicationCredential(Ref<Ref<DomainRef>>, String),
}

/// For what the token shall be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The user's default project if it has one and a role there, else nothing.
    Default,
    /// Nothing in particular.
    Unscoped,
    /// A project.
    Project(Ref<DomainRef>),
    /// A domain.
    Domain(DomainRef),
    /// The cloud itself.
    System,
}

/// No token is issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The proof is not accepted, or the user has no role where it wants to go. Nobody is told which.
    #[error("the login is refused: {0}")]
    Refused(&'static str),
    /// What this kind of token may not be used for.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Too many logins at once.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The records cannot be read now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record cannot be understood.
    #[error(transparent)]
    Damaged(#[from] DecodeError),
}

/// Who proved what, before it is known where it wants to go.
struct Proven {
    user: UserId,
    methods: Vec<Method>,
    expires: Wall,
    chain: Option<[u8; 16]>,
    credential: Option<ApplicationCredential>,
    default_place: Option<Place>,
}

impl Identity {
    /// Issues a token to whoever brings `proofs`, which must all speak of one user.
    pub async fn login(&self, proofs: &[Proof], wish: &Wish) -> Result<(String, Arc<Verified>), LoginError> {
        let mut proven: Option<Proven> = None;
        for proof in proofs {
            let next = match proof {
                Proof::Password(user, password) => self.by_password(user, password).await?,
                Proof::Token(token) => self.by_token(token).await?,
                Proof::ApplicationCredential(credential, secret) => self.by_credential(credential, secret).await?,
            };
            proven = Some(match proven {
                None => next,
                Some(first) => first.and(next)?,
            });
        }
        let proven = proven.ok_or(LoginError::Refused("it brings no proof"))?;
        self.issue(proven, wish).await
    }

    async fn by_password(&self, wanted: &Ref<DomainRef>, password: &str) -> Result<Proven, LoginError> {
        let user = self.view.read(|reader| find_user(reader, wanted)).await??;
        let hash = user.as_ref().and_then(|user| user.password_hash.clone());
        // The hash is computed whether or not there is such a user, so that both take as long.
        if !self.passwords.verify(password, hash).await? {
            return Err(LoginError::Refused("no such user, or not its password"));
        }
        let user = user.ok_or(LoginError::Refused("no such user, or not its password"))?;
        Ok(Proven {
            user: user.id,
            methods: vec![Method::Password],
            expires: self.world.wall() + self.token_span(),
            chain: None,
            credential: None,
            default_place: None,
        })
    }

    async fn by_token(&self, token: &str) -> Result<Proven, LoginError> {
        let verified = self.inspect(token).await.map_err(|error| match error {
            AuthError::Invalid(why) => LoginError::Refused(why),
            AuthError::NotNow(reason) => LoginError::Read(ReadError { reason }),
        })?;
        let claims = &verified.claims;
        if claims.credential.is_some() {
            return Err(LoginError::Forbidden("a token of an application credential gets no other tokens"));
        }
        let mut methods = claims.methods.clone();
        methods.push(Method::Token);
        methods.sort();
        methods.dedup();
        Ok(Proven {
            user: claims.user.clone(),
            methods,
            expires: claims.expires,
            chain: Some(claims.chain.unwrap_or(claims.audit)),
            credential: None,
            default_place: None,
        })
    }

    async fn by_credential(&self, wanted: &Ref<Ref<DomainRef>>, secret: &str) -> Result<Proven, LoginError> {
        let found = self.view.read(|reader| find_credential(reader, wanted)).await??;
        let hash = found.as_ref().map(|credential| credential.secret_hash.clone());
        if !self.passwords.verify(secret, hash).await? {
            return Err(LoginError::Refused("no such application credential, or not its secret"));
        }
        let credential = found.ok_or(LoginError::Refused("no such application credential, or not its secret"))?;
        let now = self.world.wall();
        let end = credential.expires.unwrap_or(now + self.token_span());
        Ok(Proven {
            user: credential.user.clone(),
            methods: vec![Method::ApplicationCredential],
            expires: end.min(now + self.token_span()),
            chain: None,
            default_place: Some(Place::Project(credential.project.clone())),
            credential: Some(credential),
        })
    }

    async fn issue(&self, proven: Proven, wish: &Wish) -> Result<(String, Arc<Verified>), LoginError> {
        let (now, audit) = (self.world.wall(), self.world.random());
        self.view.read(|reader| self.issue_on(reader, &proven, wish, now, audit)).await?
    }

    fn issue_on(
        &self,
        reader: &Reader<'_>,
        proven: &Proven,
        wish: &Wish,
        now: Wall,
        audit: [u8; 16],
    ) -> Result<(String, Arc<Verified>), LoginError> {
        let claims = |place: Place| Claims {
            user: proven.user.clone(),
            place,
            issued: now,
            expires: proven.expires,
            audit,
            chain: proven.chain,
            methods: proven.methods.clone(),
            credential: proven.credential.as_ref().map(|credential| credential.id.clone()),
        };
        let verified = match (wish, &proven.default_place) {
            // An application credential is bound to its project, whatever else is asked for.
            (Wish::Default, Some(place)) => self.support(reader, claims(place.clone()), now),
            (_, Some(_)) => return Err(LoginError::Refused("an application credential has its scope already")),
            (Wish::System, None) => self.support(reader, claims(Place::System), now),
            (Wish::Unscoped, None) => self.support(reader, claims(Place::Nowhere), now),
            (Wish::Default, None) => match default_project(reader, &proven.user)? {
                Some(project) => self
                    .support(reader, claims(Place::Project(project)), now)
                    .or_else(|_| self.support(reader, claims(Place::Nowhere), now)),
                None => self.support(reader, claims(Place::Nowhere), now),
            },
            (Wish::Project(wanted), None) => {
                let project = find_project(reader, wanted)?.ok_or(LoginError::Refused("no such project"))?;
                self.support(reader, claims(Place::Project(project)), now)
            }
            (Wish::Domain(wanted), None) => {
                let domain = find_domain(reader, wanted)?.ok_or(LoginError::Refused("no such domain"))?;
                self.support(reader, claims(Place::Domain(domain)), now)
            }
        };
        let verified = verified.map_err(|unsupported| match unsupported {
            Unsupported::Refused(why) => LoginError::Refused(why),
            Unsupported::Damaged(error) => LoginError::Damaged(error),
        })?;
        let key = keys::newest(reader)?.ok_or_else(|| ReadError { reason: "no key signs tokens yet".to_owned() })?;
        Ok((token::sign(&verified.claims, &key), Arc::new(verified)))
    }

    /// Makes a token void before its end.
    pub async fn revoke(&self, verified: &Verified) -> Result<(), Error> {
        let revoked = RevokedToken { audit_id: verified.claims.audit_id(), expires: verified.claims.expires };
        self.change(|reader| {
            if reader.entry(&revoked.key()).is_some() {
                return Decided::nothing(());
            }
            let mut txn = store::Txn::new();
            txn.create(revoked.key(), revoked.encode());
            Decided::rights("a token was revoked", txn, ())
        })
        .await
    }
}

impl Proven {
    fn and(self, other: Proven) -> Result<Proven, LoginError> {
        if self.user != other.user || self.credential.is_some() || other.credential.is_some() {
            return Err(LoginError::Refused("its proofs are of different users"));
        }
        let mut methods = [self.methods, other.methods].concat();
        methods.sort();
        methods.dedup();
        let (expires, chain) = (self.expires.min(other.expires), self.chain.or(other.chain));
        Ok(Proven { methods, expires, chain, ..other })
    }
}

fn default_project(reader: &Reader<'_>, user: &UserId) -> Result<Option<ProjectId>, DecodeError> {
    Ok(reader.get::<User>(user)?.and_then(|(user, _)| user.default_project))
}

fn by_name(reader: &Reader<'_>, kind: NameOf, scope: &str, name: &str) -> Result<Option<String>, DecodeError> {
    let Some(entry) = reader.entry(&kind.key(scope, name)) else { return Ok(None) };
    Ok(Some(NameClaim::decode_entry(entry)?.0.id))
}

fn find_domain(reader: &Reader<'_>, wanted: &DomainRef) -> Result<Option<DomainId>, DecodeError> {
    let id = match wanted {
        DomainRef::Id(id) => Some(id.clone()),
        DomainRef::Name(name) => by_name(reader, NameOf::Domain, "", name)?,
    };
    let found = id.map(|id| reader.get::<Domain>(&id)).transpose()?.flatten();
    Ok(found.map(|(domain, _)| domain.id))
}

fn find<R: Record>(reader: &Reader<'_>, kind: NameOf, wanted: &Ref<DomainRef>) -> Result<Option<R>, DecodeError> {
    let id = match wanted {
        Ref::Id(id) => Some(id.clone()),
        Ref::Name(name, domain) => match find_domain(reader, domain)? {
            Some(domain) => by_name(reader, kind, domain.as_str(), name)?,
            None => None,
        },
    };
    Ok(id.map(|id| reader.get::<R>(&id)).transpose()?.flatten().map(|(record, _)| record))
}

fn find_user(reader: &Reader<'_>, wanted: &Ref<DomainRef>) -> Result<Option<User>, DecodeError> {
    find(reader, NameOf::User, wanted)
}

fn find_project(reader: &Reader<'_>, wanted: &Ref<DomainRef>) -> Result<Option<ProjectId>, DecodeError> {
    Ok(find::<Project>(reader, NameOf::Project, wanted)?.map(|project| project.id))
}

fn find_credential(
    reader: &Reader<'_>,
    wanted: &Ref<Ref<DomainRef>>,
) -> Result<Option<ApplicationCredential>, DecodeError> {
    let id = match wanted {
        Ref::Id(id) => Some(id.clone()),
        Ref::Name(name, user) => match find_user(reader, user)? {
            Some(user) => by_name(reader, NameOf::ApplicationCredential, user.id.as_str(), name)?,
            None => None,
        },
    };
    Ok(id.map(|id| reader.get::<ApplicationCredential>(&id)).transpose()?.flatten().map(|(found, _)| found))
}
