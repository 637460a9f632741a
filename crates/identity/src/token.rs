//! Tokens as bytes: who, where and when, signed with Ed25519.
//!
//! A token is the unpadded URL-safe base64 of: a version byte, the four bytes of the key's id, a protobuf message, and
//! the signature of all that. It says what it is good for and nothing about rights: those are read from the records
//! whenever it is verified, so what a user loses, its tokens lose.
//!
//! Pure: keys, time and randomness come in as parameters.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use prost::Message;
use proto::identity::state::v1 as stored;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use world::Wall;

use crate::name::{DomainId, ProjectId, UserId};
use crate::record::TokenKey;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 5;
const SIGNATURE_BYTES: usize = 64;
/// Signed in front of every token, so that a signature over something else can never pass for one.
const CONTEXT: &[u8] = b"mainstay token\0";
/// The most bytes of a token's text.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// How a user proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// With a password.
    Password,
    /// With another token.
    Token,
    /// With an application credential.
    ApplicationCredential,
}

impl Method {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Token => "token",
            Method::ApplicationCredential => "application_credential",
        }
    }
}

/// Where a token is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere in particular.
    Nowhere,
    /// In a project.
    Project(ProjectId),
    /// In a domain.
    Domain(DomainId),
    /// For what belongs to nobody: the cloud itself.
    System,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who.
    pub user: UserId,
    /// Where.
    pub place: Place,
    /// When it was issued.
    pub issued: Wall,
    /// When it ends.
    pub expires: Wall,
    /// Its own name in audits.
    pub audit: [u8; 16],
    /// The name of the first token of its chain, if that is another one.
    pub chain: Option<[u8; 16]>,
    /// How the user proved who it is.
    pub methods: Vec<Method>,
    /// The application credential that was used.
    pub credential: Option<String>,
}

impl Claims {
    /// The audit id as text.
    pub fn audit_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.audit)
    }

    /// The audit ids, its own first.
    pub fn audit_ids(&self) -> Vec<String> {
        let chain = self.chain.map(|chain| URL_SAFE_NO_PAD.encode(chain));
        std::iter::once(self.audit_id()).chain(chain).collect()
    }
}

/// Signs `claims` with `key`.
pub fn sign(claims: &Claims, key: &TokenKey) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&key.id);
    to_message(claims).encode(&mut bytes).expect("a Vec grows as needed");
    let signature = key_pair(key).sign(&[CONTEXT, &bytes].concat());
    bytes.extend_from_slice(signature.as_ref());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What `text` says, if one of the keys that `find` knows has signed it and it has not ended by `now`.
pub fn verify(text: &str, now: Wall, find: impl FnOnce([u8; 4]) -> Option<TokenKey>) -> Result<Claims, &'static str> {
    if text.len() > TOKEN_BYTES_MAX {
        return Err("it is too long");
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is not base64")?;
    if bytes.len() < HEAD_BYTES + SIGNATURE_BYTES || bytes[0] != VERSION {
        return Err("it is none of ours");
    }
    let (signed, signature) = bytes.split_at(bytes.len() - SIGNATURE_BYTES);
    let id = [signed[1], signed[2], signed[3], signed[4]];
    let key = find(id).ok_or("its key is unknown")?;
    let public = UnparsedPublicKey::new(&ED25519, key_pair(&key).public_key().as_ref().to_vec());
    public.verify(&[CONTEXT, signed].concat(), signature).map_err(|_| "its signature is wrong")?;
    let message = stored::Token::decode(&signed[HEAD_BYTES..]).map_err(|_| "it is damaged")?;
    let claims = from_message(message).ok_or("it is damaged")?;
    if now >= claims.expires { Err("it has expired") } else { Ok(claims) }
}

fn key_pair(key: &TokenKey) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&key.seed).expect("any 32 bytes are the seed of a key pair")
}

fn to_message(claims: &Claims) -> stored::Token {
    let methods = claims.methods.iter().map(|method| match method {
        Method::Password => stored::Method::Password,
        Method::Token => stored::Method::Token,
        Method::ApplicationCredential => stored::Method::ApplicationCredential,
    });
    let (project_id, domain_id) = match &claims.place {
        Place::Nowhere | Place::System => (String::new(), String::new()),
        Place::Project(project) => (project.to_string(), String::new()),
        Place::Domain(domain) => (String::new(), domain.to_string()),
    };
    stored::Token {
        user_id: claims.user.to_string(),
        project_id,
        domain_id,
        issued_micros: claims.issued.as_micros(),
        expires_micros: claims.expires.as_micros(),
        audit_id: Bytes::copy_from_slice(&claims.audit),
        chain_id: claims.chain.map_or_else(Bytes::new, |chain| Bytes::copy_from_slice(&chain)),
        methods: methods.map(i32::from).collect(),
        application_credential_id: claims.credential.clone().unwrap_or_default(),
        system: claims.place == Place::System,
    }
}

fn from_message(message: stored::Token) -> Option<Claims> {
    let place = match (message.project_id.as_str(), message.domain_id.as_str(), message.system) {
        ("", "", false) => Place::Nowhere,
        ("", "", true) => Place::System,
        (project, "", false) => Place::Project(project.parse().ok()?),
        ("", domain, false) => Place::Domain(domain.parse().ok()?),
        (_, _, _) => return None,
    };
    let methods = message.methods().map(|method| match method {
        stored::Method::Password => Some(Method::Password),
        stored::Method::Token => Some(Method::Token),
        stored::Method::ApplicationCredential => Some(Method::ApplicationCredential),
        stored::Method::Unspecified => None,
    });
    let methods = methods.collect::<Option<Vec<_>>>()?;
    let chain = message.chain_id.as_ref();
    Some(Claims {
        user: message.user_id.parse().ok()?,
        place,
        issued: Wall::from_micros(message.issued_micros),
        expires: Wall::from_micros(message.expires_micros),
        audit: message.audit_id.as_ref().try_into().ok()?,
        chain: if chain.is_empty() { None } else { Some(chain.try_into().ok()?) },
        methods,
        credential: Some(message.application_credential_id).filter(|id| !id.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> TokenKey {
        TokenKey { id: [number; 4], seed: [number; 32], created: Wall::from_micros(0) }
    }

    fn claims() -> Claims {
        Claims {
            user: "u1".parse().unwrap(),
            place: Place::Project("p1".parse().unwrap()),
            issued: Wall::from_micros(5),
            expires: Wall::from_micros(100),
            audit: [3; 16],
            chain: Some([4; 16]),
            methods: vec![Method::Token, Method::Password],
            credential: None,
        }
    }

    fn find(id: [u8; 4]) -> Option<TokenKey> {
        (id[0] < 3).then(|| key(id[0]))
    }

    #[test]
    fn a_token_says_what_was_signed_until_it_ends() {
        let token = sign(&claims(), &key(1));
        assert_eq!(verify(&token, Wall::from_micros(99), find), Ok(claims()));
        assert_eq!(verify(&token, Wall::from_micros(100), find), Err("it has expired"));
    }

    #[test]
    fn nothing_else_is_a_token() {
        let now = Wall::from_micros(50);
        assert_eq!(verify(&sign(&claims(), &key(3)), now, find), Err("its key is unknown"));
        let forged = TokenKey { seed: [9; 32], ..key(1) };
        assert_eq!(verify(&sign(&claims(), &forged), now, find), Err("its signature is wrong"));
        for text in ["", "x", "gAAAAABl", "AQEBAQE", &"A".repeat(4000)] {
            assert!(verify(text, now, find).is_err(), "{text}");
        }
        let good = sign(&claims(), &key(1));
        for position in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bytes).unwrap();
            assert!(verify(&bent, now, find).is_err(), "flipped at {position}");
        }
    }
}
