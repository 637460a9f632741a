//! The real wire: TCP with mutual TLS, both ways verified against the cell's authority.

mod client;
mod server;

use std::sync::Arc;

use pki::Issued;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use client::TlsPeers;
pub use server::{ListenError, Listener};

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

/// A process's certificate and the authority that it trusts.
#[derive(Clone)]
pub struct Credentials {
    /// Certificate and key of this process.
    pub own: Issued,
    /// The cell's authority, PEM.
    pub authority_pem: String,
}

impl Credentials {
    fn chain(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let pem = |error: rustls::pki_types::pem::Error| TlsError::Pem(error.to_string());
        let chain = CertificateDer::pem_slice_iter(self.own.certificate_pem.as_bytes()).collect::<Result<_, _>>();
        Ok((chain.map_err(pem)?, PrivateKeyDer::from_pem_slice(self.own.key_pem.as_bytes()).map_err(pem)?))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authority_pem.as_bytes()) {
            roots.add(certificate.map_err(|error| TlsError::Pem(error.to_string()))?)?;
        }
        Ok(Arc::new(roots))
    }

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }

    /// How this process calls: presents its certificate, verifies the peer's.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let (chain, key) = self.chain()?;
        let mut config = ClientConfig::builder_with_provider(Self::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// How this process is called: demands a certificate of the cell from every peer.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let (chain, key) = self.chain()?;
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(self.roots()?, Self::provider())
            .build()
            .map_err(|error| TlsError::Verifier(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(Self::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// A server that does not ask for client certificates: the public HTTPS endpoint.
pub fn public_server_config(own: &Issued) -> Result<ServerConfig, TlsError> {
    let credentials = Credentials { own: own.clone(), authority_pem: String::new() };
    let (chain, key) = credentials.chain()?;
    let mut config = ServerConfig::builder_with_provider(Credentials::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
