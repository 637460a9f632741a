//! Application credentials, the keys that sign tokens, and tokens that were given back.

use bytes::Bytes;
use proto::identity::state::v1 as stored;
use store::{Key, Record};
use world::Wall;

use super::id;
use crate::name::{ProjectId, RoleId, UserId};

/// A secret with which a program acts for a user in one project.
#[derive(Clone, PartialEq, Eq)]
pub struct ApplicationCredential {
    /// Its id.
    pub id: String,
    /// The user for whom it acts.
    pub user: UserId,
    /// The project in which it acts.
    pub project: ProjectId,
    /// Unique for the user.
    pub name: String,
    /// For people.
    pub description: String,
    /// A PHC string.
    pub secret_hash: String,
    /// What it may at most.
    pub roles: Vec<RoleId>,
    /// When it ends.
    pub expires: Option<Wall>,
    /// Whether it may make other credentials.
    pub unrestricted: bool,
}

impl std::fmt::Debug for ApplicationCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApplicationCredential({} of {})", self.id, self.user)
    }
}

impl Record for ApplicationCredential {
    const TABLE: &'static str = "application-credential/";
    type Stored = stored::ApplicationCredential;

    fn id(&self) -> String {
        self.id.clone()
    }
    fn to_stored(&self) -> stored::ApplicationCredential {
        stored::ApplicationCredential {
            id: self.id.clone(),
            user_id: self.user.to_string(),
            project_id: self.project.to_string(),
            name: self.name.clone(),
            description: self.description.clone(),
            secret_hash: self.secret_hash.clone(),
            role_ids: self.roles.iter().map(RoleId::to_string).collect(),
            expires_micros: self.expires.map_or(0, Wall::as_micros),
            unrestricted: self.unrestricted,
        }
    }
    fn from_stored(stored: stored::ApplicationCredential) -> Result<ApplicationCredential, String> {
        Ok(ApplicationCredential {
            user: id(&stored.user_id)?,
            project: id(&stored.project_id)?,
            name: stored.name,
            description: stored.description,
            secret_hash: stored.secret_hash,
            roles: stored.role_ids.iter().map(|text| id(text)).collect::<Result<_, _>>()?,
            expires: (stored.expires_micros > 0).then(|| Wall::from_micros(stored.expires_micros)),
            unrestricted: stored.unrestricted,
            id: stored.id,
        })
    }
}

/// A key that signs tokens. Of several the newest signs; all of them verify.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Part of each token that it signed.
    pub id: [u8; 4],
    /// The seed of the Ed25519 key pair.
    pub seed: [u8; 32],
    /// When it was made.
    pub created: Wall,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenKey({})", hex::encode(self.id))
    }
}

impl Record for TokenKey {
    const TABLE: &'static str = "token-key/";
    type Stored = stored::TokenKey;

    fn id(&self) -> String {
        hex::encode(self.id)
    }
    fn to_stored(&self) -> stored::TokenKey {
        stored::TokenKey {
            id: hex::encode(self.id),
            seed: Bytes::copy_from_slice(&self.seed),
            created_micros: self.created.as_micros(),
        }
    }
    fn from_stored(stored: stored::TokenKey) -> Result<TokenKey, String> {
        let mut id = [0; 4];
        hex::decode_to_slice(&stored.id, &mut id).map_err(|_| "its id is not 8 hexadecimal digits".to_owned())?;
        let seed = stored.seed.as_ref().try_into().map_err(|_| "its seed has not 32 bytes".to_owned())?;
        Ok(TokenKey { id, seed, created: Wall::from_micros(stored.created_micros) })
    }
}

/// A token that was given back before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedToken {
    /// The token's audit id.
    pub audit_id: String,
    /// When the token ends, and this record is worth nothing.
    pub expires: Wall,
}

impl RevokedToken {
    /// The key for a token, so that those which end first stand first.
    pub fn key_for(audit_id: &str, expires: Wall) -> Key {
        RevokedToken::key_of(&format_args!("{:010}-{audit_id}", expires.as_secs()))
    }
}

impl Record for RevokedToken {
    const TABLE: &'static str = "token-revoked/";
    type Stored = stored::RevokedToken;

    fn id(&self) -> String {
        format!("{:010}-{}", self.expires.as_secs(), self.audit_id)
    }
    fn to_stored(&self) -> stored::RevokedToken {
        stored::RevokedToken { audit_id: self.audit_id.clone(), expires_micros: self.expires.as_micros() }
    }
    fn from_stored(stored: stored::RevokedToken) -> Result<RevokedToken, String> {
        Ok(RevokedToken { audit_id: stored.audit_id, expires: Wall::from_micros(stored.expires_micros) })
    }
}
