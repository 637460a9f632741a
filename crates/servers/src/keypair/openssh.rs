//! Keys as OpenSSH writes them: public keys are read and fingerprinted, Ed25519 pairs are made.
//!
//! A public key is `type base64 comment`; the base64 holds a *blob*: fields with a length of four bytes in front, the
//! first of which repeats the type. A private key is a blob of blobs in PEM (`PROTOCOL.key` of OpenSSH's sources).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use world::World;

const ED25519: &str = "ssh-ed25519";
/// Public keys that are kept.
const TYPES: [&str; 8] = [
    "ssh-rsa",
    "ssh-dss",
    ED25519,
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
const LINE: usize = 70;

/// The blob of a public key; `None` if the text is no public key.
pub(super) fn blob(text: &str) -> Option<Vec<u8>> {
    let mut words = text.trim().split([' ', '\t']).filter(|word| !word.is_empty());
    let kind = words.next().filter(|kind| TYPES.contains(kind))?;
    if text.trim().contains(['\n', '\r']) {
        return None;
    }
    let blob = STANDARD.decode(words.next()?).ok()?;
    let fields = fields(&blob)?;
    (fields.len() >= 2 && fields[0] == kind.as_bytes() && !fields[1].is_empty()).then_some(blob)
}

fn fields(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (field, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        fields.push(field);
        rest = behind;
    }
    Some(fields)
}

/// MD5 with colons, as the API has always shown it.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    let pairs: Vec<String> = Md5::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

/// An Ed25519 key pair.
pub(super) struct Ed25519 {
    seed: [u8; 32],
    public: [u8; 32],
    check: [u8; 4],
}

impl Ed25519 {
    /// A new one, drawn from `world`.
    pub(super) fn generate(world: &World) -> Ed25519 {
        Ed25519::from_seed(world.random(), world.random())
    }

    fn from_seed(seed: [u8; 32], check: [u8; 4]) -> Ed25519 {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are an Ed25519 seed");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Ed25519 { seed, public, check }
    }

    pub(super) fn blob(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, ED25519.as_bytes());
        put(&mut out, &self.public);
        out
    }

    pub(super) fn public_key(&self, comment: &str) -> String {
        format!("{ED25519} {} {comment}", STANDARD.encode(self.blob()))
    }

    pub(super) fn private_key(&self, comment: &str) -> String {
        let mut secret = Vec::new();
        // The same four bytes twice tell a reader of an encrypted key that its passphrase was right.
        secret.extend_from_slice(&self.check);
        secret.extend_from_slice(&self.check);
        secret.extend_from_slice(&self.blob());
        put(&mut secret, &[self.seed, self.public].concat());
        put(&mut secret, comment.as_bytes());
        let padding = (8 - secret.len() % 8) % 8;
        secret.extend((1..=8u8).take(padding));
        let mut out = b"openssh-key-v1\0".to_vec();
        for part in [b"none".as_slice(), b"none", b""] {
            put(&mut out, part);
        }
        out.extend_from_slice(&1u32.to_be_bytes());
        put(&mut out, &self.blob());
        put(&mut out, &secret);
        let text = STANDARD.encode(out);
        let mut pem = String::from("-----BEGIN OPENSSH PRIVATE KEY-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, behind) = rest.split_at(rest.len().min(LINE));
            pem.push_str(line);
            pem.push('\n');
            rest = behind;
        }
        pem.push_str("-----END OPENSSH PRIVATE KEY-----\n");
        pem
    }
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_is_one_that_is_read() {
        let key = Ed25519::from_seed([7; 32], [1, 2, 3, 4]);
        let text = key.public_key("mine");
        assert_eq!(blob(&text), Some(key.blob()));
        assert_eq!(fingerprint(&key.blob()).len(), 47);
        let pem = key.private_key("mine");
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let bytes = STANDARD.decode(body).unwrap();
        let rest = bytes.strip_prefix(b"openssh-key-v1\0").unwrap();
        // none, none, no options, one key: then two fields, the public and the secret half.
        let halves = fields(&rest[4 + 4 + 4 + 4 + 4 + 4..]).unwrap();
        assert_eq!(halves[0], key.blob());
        assert!(halves[1].len().is_multiple_of(8));
        assert_eq!(fields(&halves[1][8..8 + 4 + 11 + 4 + 32 + 4 + 64]).unwrap()[2][..32], [7; 32]);
    }

    #[test]
    fn what_is_no_public_key_is_not_taken() {
        let zeros = format!("ssh-rsa {} someone", "A".repeat(2048));
        for text in ["", "ssh-rsa", "ssh-rsa JUNK", "nonsense AAAA", zeros.as_str(), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"]
        {
            assert_eq!(blob(text), None, "{text}");
        }
    }
}
