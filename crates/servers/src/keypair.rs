//! Key pairs: SSH public keys by user and name. A private key that Mainstay made is shown once and never kept.

use identity::UserId;
use world::Wall;

/// A key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The user.
    pub user: UserId,
    /// Its name, unique for the user.
    pub name: String,
    /// The public key in OpenSSH's form.
    pub public_key: String,
    /// MD5 fingerprint as Nova shows it.
    pub fingerprint: String,
    /// When it was made.
    pub created: Wall,
}

impl KeyPair {
    /// The id of the record: the user, and the name with what could be mistaken for a separator written as hex.
    pub fn record_id(user: &UserId, name: &str) -> String {
        format!("{user}/{}", hex::encode(name))
    }
}
