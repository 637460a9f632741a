//! Bare tonic with mutual TLS: the same service, the same messages, tonic's own server, channel and TLS.

use std::net::SocketAddr;
use std::path::Path;

use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::agent::v1::agent_service_server::AgentServiceServer;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use crate::cell::free_address;
use crate::figures::rpc::Echo;
use crate::serve::{self, Pem};

/// Serves on a port of loopback until the process ends.
pub async fn serve(dir: &Path) -> anyhow::Result<SocketAddr> {
    let pem = Pem::read(dir, "server")?;
    let identity = Identity::from_pem(&pem.own.certificate_pem, &pem.own.key_pem);
    let authority = Certificate::from_pem(&pem.authority);
    let tls = ServerTlsConfig::new().identity(identity).client_ca_root(authority);
    let address = free_address()?;
    let server = Server::builder().tcp_nodelay(true).tls_config(tls)?.add_service(AgentServiceServer::new(Echo));
    tokio::spawn(server.serve(address));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    Ok(address)
}

/// A client; its clones share one connection.
pub async fn connect(dir: &Path, address: SocketAddr) -> anyhow::Result<AgentServiceClient<Channel>> {
    let pem = Pem::read(dir, "client")?;
    let identity = Identity::from_pem(&pem.own.certificate_pem, &pem.own.key_pem);
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&pem.authority))
        .identity(identity)
        .domain_name(serve::server().server_name());
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tcp_nodelay(true).tls_config(tls)?;
    Ok(AgentServiceClient::new(endpoint.connect().await?))
}
