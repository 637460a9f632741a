//! Bare tonic with mutual TLS: the same service, the same messages, tonic's own server, channel and TLS.

use std::net::SocketAddr;
use std::path::Path;

use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::agent::v1::agent_service_server::AgentServiceServer;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use crate::cell::free_address;
use crate::figures::rpc::Echo;
use crate::serve::{self, Leave, Pem};

/// Serves on a port of loopback until the process ends.
pub async fn serve(dir: &Path) -> anyhow::Result<(SocketAddr, Leave)> {
    let pem = Pem::read(dir, "server")?;
    let identity = Identity::from_pem(&pem.own.certificate_pem, &pem.own.key_pem);
    let authority = Certificate::from_pem(&pem.authority);
    let tls = ServerTlsConfig::new().identity(identity).client_ca_root(authority);
    let address = free_address()?;
    let echo = AgentServiceServer::new(Echo { port: address.port() });
    let server = Server::builder().tcp_nodelay(true).tls_config(tls)?.add_service(echo);
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(server.serve_with_shutdown(address, async move { drop(left.await) }));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    let leave = async move {
        drop(leave);
        // However it ended, the process ends now.
        let _ended = served.await;
    };
    Ok((address, Box::pin(leave)))
}

/// A client; its clones share one connection.
pub async fn connect(dir: &Path, address: SocketAddr) -> anyhow::Result<AgentServiceClient<Channel>> {
    Ok(AgentServiceClient::new(endpoint(dir, address)?.connect().await?))
}

/// Where a server is, and how it is spoken to.
pub fn endpoint(dir: &Path, address: SocketAddr) -> anyhow::Result<Endpoint> {
    let pem = Pem::read(dir, "client")?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&pem.authority))
        .identity(Identity::from_pem(&pem.own.certificate_pem, &pem.own.key_pem))
        .domain_name(serve::server().server_name());
    Ok(Endpoint::from_shared(format!("https://{address}"))?.tcp_nodelay(true).tls_config(tls)?)
}
