//! An HTTPS client that costs little: HTTP/1.1 on one persistent connection, bodies as they are.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where to connect, and whom to trust. Cloning shares the count of bytes.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    tls: TlsConnector,
    host: HeaderValue,
    traffic: Rc<Cell<u64>>,
}

/// An answer, an error's too.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The answer, if it has this status.
    pub fn is(self, status: u16) -> anyhow::Result<Answer> {
        if self.status.as_u16() == status {
            return Ok(self);
        }
        anyhow::bail!("answered with {}: {}", self.status, String::from_utf8_lossy(&self.body))
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the answer is no JSON")
    }
}

impl Endpoint {
    /// HTTPS at `address`, with a certificate of this authority.
    pub fn new(address: SocketAddr, authority_pem: &[u8]) -> anyhow::Result<Endpoint> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority_pem) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = HeaderValue::from_str(&address.to_string())?;
        Ok(Endpoint { address, tls: TlsConnector::from(Arc::new(config)), host, traffic: Rc::default() })
    }

    /// Bytes of TLS that went to and fro over all its connections.
    pub fn traffic(&self) -> u64 {
        self.traffic.get()
    }

    /// A connection, on which requests carry `token` if there is one.
    pub async fn connect(&self, token: Option<&str>) -> anyhow::Result<Connection> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let counted = Counted { socket, traffic: Rc::clone(&self.traffic) };
        let stream = self.tls.connect(ServerName::from(self.address.ip()), counted).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever waits for an answer.
        let local = tokio::task::spawn_local(async move { drop(connection.await) });
        let token = token.map(HeaderValue::from_str).transpose()?;
        Ok(Connection { sender, endpoint: self.clone(), token, task: local })
    }
}

/// One connection; one request at a time. If the server has closed it meanwhile, the next request opens another.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    endpoint: Endpoint,
    token: Option<HeaderValue>,
    task: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// One request and its whole answer.
    pub async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let mut request =
            Request::builder().method(method).uri(path).header(http::header::HOST, self.endpoint.host.clone());
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token.clone());
        }
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if self.sender.ready().await.is_err() {
            let token = self.token.as_ref().map(HeaderValue::to_str).transpose()?;
            *self = self.endpoint.connect(token).await?;
        }
        let response = self.sender.send_request(request.body(Full::new(body))?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// `GET`.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.ask(Method::GET, path, Bytes::new()).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket whose bytes are counted.
struct Counted {
    socket: TcpStream,
    traffic: Rc<Cell<u64>>,
}

impl Counted {
    fn add(&self, bytes: usize) {
        self.traffic.set(self.traffic.get() + bytes as u64);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Task<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.add(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.add(*written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
