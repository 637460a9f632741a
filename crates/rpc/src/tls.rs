//! The real wire: TCP with mutual TLS, both ways verified against the cell's authority.
//!
//! A certificate may be replaced while a process runs: [`Credentials`] are shared by everything that was made from them,
//! and the next handshake shows the new one. Connections that stand go on until the certificate that they were verified by
//! ends, and no session is resumed on another.

mod client;
mod clock;
mod connection;
mod handshakes;
mod heard;
mod probe;
mod server;
mod socket;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use pki::Issued;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

pub use client::TlsPeers;
pub use probe::TcpProber;
pub use server::{ListenError, Listener};

/// How long calls may go on after the certificate of the connection's other end has ended.
const PAST_END_MAX: Duration = Duration::from_secs(5);

/// Calls in progress that a connection takes.
const STREAMS_MAX: usize = 1024;

/// Keys or certificates of this process cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text is damaged.
    #[error("a key or certificate file is damaged: {0}")]
    Pem(String),
    /// TLS refuses the combination.
    #[error("the certificate, key and authority do not fit together")]
    Rustls(#[from] rustls::Error),
    /// The verifier of peers cannot be made.
    #[error("the cell's authority cannot be used to verify peers: {0}")]
    Verifier(String),
}

/// A process's certificate and the authority that it trusts. Cloning shares them.
#[derive(Clone)]
pub struct Credentials {
    own: Arc<Own>,
    authority_pem: String,
}

/// The certificate and key that are shown, until they are replaced.
struct Own(RwLock<Arc<CertifiedKey>>);

impl Own {
    fn read(issued: &Issued) -> Result<Arc<CertifiedKey>, TlsError> {
        let pem = |error: rustls::pki_types::pem::Error| TlsError::Pem(error.to_string());
        let chain = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).map_err(pem)?;
        Ok(Arc::new(CertifiedKey::from_der(chain.map_err(pem)?, key, &provider())?))
    }

    fn shown(&self) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown()
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.shown()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn roots(authority_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
        roots.add(certificate.map_err(|error| TlsError::Pem(error.to_string()))?)?;
    }
    Ok(Arc::new(roots))
}

/// A client that shows no certificate and speaks HTTP/1.1: for servers outside of the cell that `authority_pem` vouches
/// for.
pub fn anonymous_client_config(authority_pem: &str) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authority_pem)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Credentials {
    /// The certificate and key `own`, and the authority (PEM) that peers are verified against.
    pub fn new(own: &Issued, authority_pem: &str) -> Result<Credentials, TlsError> {
        let own = Arc::new(Own(RwLock::new(Own::read(own)?)));
        Ok(Credentials { own, authority_pem: authority_pem.to_owned() })
    }

    /// Shows `own` from the next handshake on. Whether that is another certificate than before.
    pub fn replace(&self, own: &Issued) -> Result<bool, TlsError> {
        let own = Own::read(own)?;
        let mut shown = self.own.0.write();
        let other = shown.cert != own.cert;
        *shown = own;
        Ok(other)
    }

    /// How this process calls: presents its certificate, verifies the peer's.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots(&self.authority_pem)?)
            .with_client_cert_resolver(Arc::clone(&self.own) as Arc<dyn ResolvesClientCert>);
        // A session that is resumed is one of the certificates that began it, whatever has been shown or has ended since.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// How this process is called: demands a certificate of the cell from every peer.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots(&self.authority_pem)?, provider())
                .build()
                .map_err(|error| TlsError::Verifier(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.own) as Arc<dyn ResolvesServerCert>);
        // As for clients: nothing is resumed.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// A server that does not ask for client certificates: the public HTTPS endpoint.
    pub fn public_server_config(&self) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.own) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use pki::{Authority, Identity, Role};
    use proto::health::v1::CheckRequest;
    use proto::health::v1::health_service_client::HealthServiceClient;
    use telemetry::metrics::Metrics;
    use telemetry::{Cx, Ring};
    use tonic::service::Routes;
    use world::os::OsHost;

    use super::*;
    use crate::{Error, Health, Limits, Peers, Server, Target};

    #[tokio::test]
    async fn a_certificate_that_was_replaced_is_shown_without_a_restart() {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let who = |role, name: &str| Identity { cell: "c.mainstay".into(), role, name: name.into() };
        let authority = Authority::create(&world, "c.mainstay").unwrap();
        // Peers of another authority know nothing of this one: what it issued is as bad as a certificate that has ended.
        let other = Authority::create(&world, "c.mainstay").unwrap();
        let (server_id, caller_id) = (who(Role::Scheduler, "s"), who(Role::Operator, "admin"));
        let bad = other.issue(&world, &server_id).unwrap();
        let credentials = Credentials::new(&bad, &authority.certificate_pem).unwrap();
        let health = Health::new(&world, "1", Vec::new());
        let (ring, metrics) = (Ring::new(&world, "s"), Metrics::default());
        let server = Server::new(&ring, &metrics, Limits::default(), Routes::new(health.service()));
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let target = Target { role: Role::Scheduler, name: "s".into(), endpoint: listener.address().to_string() };
        listener.serve(&world, server, &credentials).unwrap();

        let issued = authority.issue(&world, &caller_id).unwrap();
        let own = Credentials::new(&issued, &authority.certificate_pem).unwrap();
        let peers = TlsPeers::new(&world, caller_id, &own).unwrap();
        let call = async || {
            let cx = Cx::root(&ring, None, world.now() + Duration::from_secs(5));
            HealthServiceClient::new(peers.channel(&target, &cx)).check(CheckRequest {}).await.map_err(Error::from)
        };
        let refused = call().await.unwrap_err();
        assert!(refused.reason.contains("certificate"), "{refused}");
        let fresh = authority.issue(&world, &server_id).unwrap();
        assert_eq!((credentials.replace(&fresh).unwrap(), credentials.replace(&fresh).unwrap()), (true, false));
        call().await.unwrap();
        assert!(credentials.replace(&Issued { key_pem: bad.key_pem, ..issued }).is_err(), "key and certificate of two");
        call().await.unwrap();
    }
}
