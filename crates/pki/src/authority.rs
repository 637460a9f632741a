//! Issues certificates, and reads the identity out of one.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use time::OffsetDateTime;
use world::{Wall, World};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use crate::identity::Identity;

/// How long a certificate of a process is valid. It is renewed long before, also while the process runs.
const LEAF_VALID: Duration = Duration::from_secs(90 * 86_400);
/// How long the authority is valid.
const AUTHORITY_VALID: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Certificates are valid a little before they were made, for machines whose clocks differ.
const CLOCK_SKEW_SECS: u64 = 3600;

/// A key or certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Making or parsing failed.
    #[error("cannot make or read a key or certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate carries no identity of a cell.
    #[error("the certificate carries no identity of a cell: {0}")]
    NoIdentity(String),
    /// A key or certificate is not what it should be.
    #[error("a key or certificate is damaged: {0}")]
    Damaged(String),
}

/// The cell's authority: its key is the root of all trust within the cell.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The authority's certificate, PEM. Public.
    pub certificate_pem: String,
    /// The authority's key, PEM. The greatest secret of the cell.
    pub key_pem: String,
    cell: String,
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key: a secret.
    pub key_pem: String,
}

/// For how long a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// It should be replaced from here on: a third of its life is left for whatever stands in the way.
    pub renew: Wall,
    /// It is worth nothing from here on.
    pub end: Wall,
}

impl Issued {
    /// For how long the certificate is good, if the key belongs to it: files that were replaced one after the other may
    /// be of two certificates.
    pub fn validity(&self) -> Result<Validity, PkiError> {
        self.read(|certificate| {
            if certificate.public_key().raw != KeyPair::from_pem(&self.key_pem)?.subject_public_key_info() {
                return Err(PkiError::Damaged("the key belongs to another certificate".into()));
            }
            let (start, end) = (secs(certificate.validity().not_before), secs(certificate.validity().not_after));
            Ok(Validity { renew: wall(end - end.saturating_sub(start) / 3), end: wall(end) })
        })
    }

    /// Whether it has every name that a certificate of `identity` is issued with today. One that an earlier release has
    /// issued may not.
    pub fn names(&self, identity: &Identity) -> Result<bool, PkiError> {
        self.read(|certificate| {
            let there = alternative_names(certificate)?;
            let named = |name: &str| there.iter().any(|one| matches!(one, GeneralName::DNSName(dns) if *dns == name));
            let is = there.iter().any(|one| matches!(one, GeneralName::URI(uri) if *uri == identity.uri()));
            Ok(is && identity.server_names().iter().all(|name| named(name)))
        })
    }

    fn read<T>(&self, f: impl FnOnce(&X509Certificate<'_>) -> Result<T, PkiError>) -> Result<T, PkiError> {
        let damaged = |why: String| PkiError::Damaged(why);
        let (_, pem) = x509_parser::pem::parse_x509_pem(self.certificate_pem.as_bytes())
            .map_err(|error| damaged(error.to_string()))?;
        f(&pem.parse_x509().map_err(|error| damaged(error.to_string()))?)
    }
}

/// When the certificate (DER) of a peer ends.
pub fn end_of(der: &[u8]) -> Result<Wall, PkiError> {
    let parsed = x509_parser::parse_x509_certificate(der);
    let (_, certificate) = parsed.map_err(|error| PkiError::Damaged(error.to_string()))?;
    Ok(wall(secs(certificate.validity().not_after)))
}

fn secs(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

fn wall(secs: u64) -> Wall {
    Wall::from_micros(secs.saturating_mul(1_000_000))
}

fn alternative_names<'a>(certificate: &'a X509Certificate<'a>) -> Result<&'a [GeneralName<'a>], PkiError> {
    let names = certificate.subject_alternative_name().map_err(|error| PkiError::NoIdentity(error.to_string()))?;
    Ok(names.map(|names| names.value.general_names.as_slice()).unwrap_or_default())
}

impl Authority {
    /// A new authority for the cell `cell` (a DNS name).
    pub fn create(world: &World, cell: &str) -> Result<Authority, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("Mainstay cell {cell}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, world.wall(), AUTHORITY_VALID);
        let certificate_pem = params.self_signed(&key)?.pem();
        Authority::load(cell, &certificate_pem, &key.serialize_pem())
    }

    /// The authority that was kept as these texts.
    pub fn load(cell: &str, certificate_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, KeyPair::from_pem(key_pem)?)?;
        Ok(Authority {
            issuer,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            cell: cell.to_owned(),
        })
    }

    /// The cell.
    pub fn cell(&self) -> &str {
        &self.cell
    }

    /// A certificate for a process, valid as a client and as a server.
    pub fn issue(&self, world: &World, identity: &Identity) -> Result<Issued, PkiError> {
        self.issue_for(world, identity, LEAF_VALID)
    }

    /// The same, valid for whole seconds of `span` only.
    pub fn issue_for(&self, world: &World, identity: &Identity, span: Duration) -> Result<Issued, PkiError> {
        let mut sans = vec![SanType::URI(identity.uri().try_into()?)];
        for name in identity.server_names() {
            sans.push(SanType::DnsName(name.try_into()?));
        }
        self.issue_with(world, &identity.to_string(), sans, span)
    }

    /// A certificate for the public HTTPS endpoint, under the host names and addresses by which clients reach it.
    pub fn issue_public(&self, world: &World, hosts: &[String]) -> Result<Issued, PkiError> {
        let sans = hosts
            .iter()
            .map(|host| match host.parse() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => Ok(SanType::DnsName(host.as_str().try_into()?)),
            })
            .collect::<Result<Vec<_>, PkiError>>()?;
        self.issue_with(world, "public API", sans, LEAF_VALID)
    }

    fn issue_with(
        &self,
        world: &World,
        common_name: &str,
        sans: Vec<SanType>,
        span: Duration,
    ) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = sans;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        set_validity(&mut params, world.wall(), span);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl Identity {
    /// The identity in a certificate (DER) that TLS has verified already.
    pub fn from_certificate(der: &[u8]) -> Result<Identity, PkiError> {
        let none = |why: String| PkiError::NoIdentity(why);
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|error| none(error.to_string()))?;
        let names = alternative_names(&certificate)?;
        let mut uris = names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => uri.parse().map_err(none),
            (None, _) => Err(none("no URI".into())),
            (Some(_), Some(_)) => Err(none("more than one URI".into())),
        }
    }
}

fn set_validity(params: &mut CertificateParams, now: Wall, span: Duration) {
    let at = |secs: u64| {
        OffsetDateTime::from_unix_timestamp(i64::try_from(secs).unwrap_or(i64::MAX))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(now.as_secs().saturating_sub(CLOCK_SKEW_SECS));
    params.not_after = at(now.as_secs().saturating_add(span.as_secs()));
}

#[cfg(test)]
mod tests {
    use world::os::OsHost;

    use super::*;
    use crate::identity::Role;

    #[tokio::test]
    async fn a_certificate_says_when_it_is_due_and_whose_key_it_is() {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let authority = Authority::create(&world, "c.mainstay").unwrap();
        let identity = Identity { cell: "c.mainstay".into(), role: Role::Api, name: "one".into() };
        let (one, two) = (authority.issue(&world, &identity).unwrap(), authority.issue(&world, &identity).unwrap());
        let validity = one.validity().unwrap();
        let (day, now) = (86_400, world.wall().as_secs());
        assert!((59 * day..=60 * day).contains(&(validity.renew.as_secs() - now)), "{validity:?}");
        assert!((89 * day..=90 * day).contains(&(validity.end.as_secs() - now)), "{validity:?}");
        let mixed = Issued { key_pem: two.key_pem, ..one };
        assert!(matches!(mixed.validity(), Err(PkiError::Damaged(_))));
    }

    #[tokio::test]
    async fn a_certificate_names_the_process_and_every_role_that_it_plays() {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let authority = Authority::create(&world, "c.mainstay").unwrap();
        let who = |role, name: &str| Identity { cell: "c.mainstay".into(), role, name: name.into() };
        assert_eq!(who(Role::Agent, "n1").server_names(), ["n1.agent.c.mainstay", "agent.c.mainstay"]);
        let control = who(Role::Control, "main");
        assert!(control.server_names().contains(&Identity::any("c.mainstay", Role::Liveness)));
        let issued = authority.issue(&world, &control).unwrap();
        assert!(issued.names(&control).unwrap());
        assert!(
            !issued.names(&who(Role::Control, "other")).unwrap() && !issued.names(&who(Role::Api, "main")).unwrap()
        );
        // As it was issued before there was a name for any process of a role.
        let sans = [
            SanType::URI(control.uri().try_into().unwrap()),
            SanType::DnsName(control.server_name().try_into().unwrap()),
        ];
        let old = authority.issue_with(&world, "control/main", sans.into(), LEAF_VALID).unwrap();
        assert!(!old.names(&control).unwrap());
    }
}
