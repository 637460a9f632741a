//! Bare axum over HTTPS: routes of the same shape that answer with the same bytes, and nothing that looks at them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path as Segment;
use axum::routing::get;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::serve::Pem;

/// Files in the directory: what is answered for one server, and for the list.
pub const ONE: &str = "one.json";
/// See [`ONE`].
pub const MANY: &str = "many.json";

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Serves on a port of loopback until the process ends.
pub async fn serve(dir: &Path) -> anyhow::Result<SocketAddr> {
    let (one, many) = (Bytes::from(std::fs::read(dir.join(ONE))?), Bytes::from(std::fs::read(dir.join(MANY))?));
    let shown = |_: Segment<String>| async move { (JSON, one) };
    let listed = || async move { (JSON, many) };
    let router = Router::new()
        .route("/compute/v2.1/servers/detail", get(listed))
        .route("/compute/v2.1/servers/{id}", get(shown));
    let own = Pem::read(dir, "public")?.own;
    let chain = CertificateDer::pem_slice_iter(own.certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes())?;
    let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(connection(acceptor.clone(), socket, router.clone()));
        }
    });
    Ok(address)
}

async fn connection(acceptor: TlsAcceptor, socket: TcpStream, router: Router) {
    let _as_fast_as_it_goes = socket.set_nodelay(true);
    let Ok(stream) = acceptor.accept(socket).await else { return };
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    // How it ends is the client's business.
    let _ended = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}
