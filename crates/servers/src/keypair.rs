//! Key pairs: SSH public keys by user and name. A private key that Mainstay made is shown once and never kept.

mod openssh;

use identity::UserId;
use placement::quota;
use store::{KeyRange, Reader, Record, Revision, Txn};
use telemetry::Cx;
use world::Wall;

use crate::accept::{AcceptError, Servers};

/// The quota of key pairs, of a user.
pub const KEY_PAIRS: &str = "key_pairs";
/// What a removal of key pairs needs beside one operation for each: counter and limits, with their preconditions.
const OPERATIONS_BESIDE: usize = 4;

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

/// A new key pair whose private half was made here.
#[derive(Clone, Debug)]
pub struct Generated {
    /// What is kept.
    pub pair: KeyPair,
    /// The private key in OpenSSH's form: shown once, kept nowhere.
    pub private_key: String,
}

fn missing(name: &str) -> AcceptError {
    AcceptError::NotFound { kind: "Keypair", id: name.to_owned() }
}

/// The key pair `name` of `user`.
pub fn required(reader: &Reader<'_>, user: &UserId, name: &str) -> Result<(KeyPair, Revision), AcceptError> {
    reader.get::<KeyPair>(&KeyPair::record_id(user, name))?.ok_or_else(|| missing(name))
}

/// All key pairs of `user`, by name.
pub fn of_user(reader: &Reader<'_>, user: &UserId) -> Result<Vec<KeyPair>, AcceptError> {
    let prefix = format!("{}{user}/", KeyPair::TABLE);
    let found = reader.range(KeyRange::prefix(prefix.as_bytes())).map(|(_, entry)| KeyPair::decode_entry(entry));
    let mut pairs = found.map(|found| found.map(|(pair, _)| pair)).collect::<Result<Vec<_>, _>>()?;
    pairs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(pairs)
}

/// Removes key pairs of `user`, and behind the last one what is counted and allowed of them, in a transaction of at most
/// `room` operations; `None`: nothing is left. For whoever removes the user.
pub fn remove_of_user(reader: &Reader<'_>, user: &UserId, room: usize) -> Option<Txn> {
    let prefix = format!("{}{user}/", KeyPair::TABLE);
    let pairs: Vec<_> = reader.range(KeyRange::prefix(prefix.as_bytes())).collect();
    let (counter, limits) = (quota::used_key(user.as_str(), KEY_PAIRS), quota::Limits::key_of(user));
    let mut txn = Txn::new();
    // Whoever makes or removes a pair meanwhile moves the counter.
    if let Some(entry) = reader.entry(&counter) {
        txn.unchanged(counter.clone(), entry.modified);
    }
    let last = pairs.len() + OPERATIONS_BESIDE <= room;
    let gone = if last { pairs.len() } else { room.saturating_sub(OPERATIONS_BESIDE) };
    for (key, _) in &pairs[..gone] {
        txn.delete((*key).clone());
    }
    if last {
        if reader.entry(&counter).is_some() {
            txn.delete(counter);
        }
        if let Some(entry) = reader.entry(&limits) {
            txn.remove(limits, entry.modified);
        }
    } else {
        quota::refund(user.as_str(), KEY_PAIRS, gone as u64, &mut txn);
    }
    (!txn.ops.is_empty()).then_some(txn)
}

impl Servers {
    /// Keeps a public key that a user brings.
    pub async fn import_key(&self, cx: &Cx, user: &UserId, name: &str, text: &str) -> Result<KeyPair, AcceptError> {
        let blob = openssh::blob(text)
            .ok_or_else(|| AcceptError::Invalid("Keypair data is invalid: failed to generate fingerprint".into()))?;
        let pair = KeyPair {
            user: user.clone(),
            name: name.to_owned(),
            public_key: text.trim().to_owned(),
            fingerprint: openssh::fingerprint(&blob),
            created: cx.world().wall(),
        };
        self.keep(cx, &pair).await?;
        Ok(pair)
    }

    /// Makes an Ed25519 key pair and keeps its public half.
    pub async fn generate_key(&self, cx: &Cx, user: &UserId, name: &str) -> Result<Generated, AcceptError> {
        let key = openssh::Ed25519::generate(cx.world());
        let pair = KeyPair {
            user: user.clone(),
            name: name.to_owned(),
            public_key: key.public_key(name),
            fingerprint: openssh::fingerprint(&key.blob()),
            created: cx.world().wall(),
        };
        self.keep(cx, &pair).await?;
        Ok(Generated { pair, private_key: key.private_key(name) })
    }

    /// Quota is the user's own, whatever the project: so is the key pair.
    async fn keep(&self, cx: &Cx, pair: &KeyPair) -> Result<(), AcceptError> {
        self.decide(cx, |reader, txn| {
            if reader.entry(&pair.key()).is_some() {
                return Err(AcceptError::Conflict(format!("Key pair '{}' already exists.", pair.name)));
            }
            quota::in_force(reader, pair.user.as_str())?.charge(KEY_PAIRS, 1, txn);
            txn.create(pair.key(), pair.encode());
            Ok(())
        })
        .await
    }

    /// Removes a key pair. Servers that were made with it keep the key.
    pub async fn delete_key(&self, cx: &Cx, user: &UserId, name: &str) -> Result<(), AcceptError> {
        self.decide(cx, |reader, txn| {
            let (pair, revision) = required(reader, user, name)?;
            txn.remove(pair.key(), revision);
            quota::refund(user.as_str(), KEY_PAIRS, 1, txn);
            Ok(())
        })
        .await
    }
}
