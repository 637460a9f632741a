//! The way to a collector of traces: OTLP over HTTP/1.1, with or without TLS.
//!
//! One connection a batch: there is at most one batch a second while nothing is wrong. Who takes which span, and what
//! happens to those that nobody takes, is decided in [`telemetry::export`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use telemetry::export::{Collector, Outbox, Refusal};
use telemetry::metrics::Metrics;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use world::{BoxFuture, World};

use crate::args::Watched;
use crate::operator::RELEASE;

/// A batch that is not taken in this time is sent again later.
const SEND_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long an orderly end waits for the last spans to be taken.
pub const FLUSH_WAIT_MAX: Duration = Duration::from_secs(2);

/// Starts to export to the collector that was asked for, if one was.
pub fn start(world: &World, metrics: &Metrics, watched: &Watched) -> anyhow::Result<Option<Outbox>> {
    let Some(endpoint) = watched.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
        return Ok(None);
    };
    let collector = OverHttp::new(world, endpoint, watched.otlp_ca.as_deref())
        .with_context(|| format!("cannot send traces to {endpoint:?} (--otlp-endpoint)"))?;
    Ok(Some(Outbox::start(world, metrics, RELEASE, Arc::new(collector))))
}

struct OverHttp {
    world: World,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// `host:port`, where to connect and what to call it.
    authority: String,
    path: String,
}

impl OverHttp {
    fn new(world: &World, endpoint: &str, ca: Option<&Path>) -> anyhow::Result<OverHttp> {
        let uri: Uri = endpoint.parse().context("it is no URL")?;
        let host = uri.host().context("it names no host: http://HOST:PORT")?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("it must begin with http:// or https://"),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 4318 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let here = bare == "localhost" || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        if !secure && !here {
            tracing::warn!(endpoint, "spans leave this machine unencrypted; use https:// to protect them");
        }
        let tls = match (secure, ca) {
            (false, _) => None,
            (true, None) => bail!("give the authority that its certificate is verified against: --otlp-ca FILE"),
            (true, Some(file)) => {
                let pem = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                let config = rpc::tls::anonymous_client_config(&pem)?;
                Some((TlsConnector::from(Arc::new(config)), ServerName::try_from(bare.to_owned())?))
            }
        };
        let path = format!("{}/v1/traces", uri.path().trim_end_matches('/'));
        Ok(OverHttp { world: world.clone(), tls, authority: format!("{host}:{port}"), path })
    }

    async fn post(&self, batch: Vec<u8>) -> Result<StatusCode, String> {
        let text = |error: &dyn std::fmt::Display| format!("{}: {error}", self.authority);
        let socket = TcpStream::connect(&*self.authority).await.map_err(|error| text(&error))?;
        match &self.tls {
            None => self.post_on(socket, batch).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), socket).await.map_err(|error| text(&error))?;
                self.post_on(stream, batch).await
            }
        }
    }

    async fn post_on<S>(&self, stream: S, batch: Vec<u8>) -> Result<StatusCode, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let text = |error: hyper::Error| format!("{}: {error}", self.authority);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        self.world.spawn("spans out connection", async move {
            // How it ends, the request is told.
            let _ended = connection.await;
        });
        let request = Request::post(&*self.path)
            .header(http::header::HOST, &*self.authority)
            .header(http::header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(Bytes::from(batch)))
            .map_err(|error| error.to_string())?;
        Ok(sender.send_request(request).await.map_err(text)?.status())
    }
}

impl Collector for OverHttp {
    fn send(&self, batch: Vec<u8>) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let answer = self.world.timeout(SEND_WAIT_MAX, self.post(batch)).await;
            let silent = |_| Refusal::Later(format!("{} does not answer", self.authority));
            let status = answer.map_err(silent)?.map_err(Refusal::Later)?;
            match status {
                status if status.is_success() => Ok(()),
                // Those that the protocol says to send again.
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => Err(Refusal::Later(format!("{} answers {status}", self.authority))),
                status => Err(Refusal::Never(format!(
                    "{}{} answers {status}: is it a collector that takes OTLP over HTTP (mostly on port 4318)?",
                    self.authority, self.path
                ))),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use telemetry::{Cx, Ring};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use world::os::OsHost;

    use super::*;

    /// Takes one request and answers it; returns its head and its body.
    async fn take(listener: &TcpListener, answer: &str) -> (String, Vec<u8>) {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let length = socket.read(&mut piece).await.unwrap();
            bytes.extend_from_slice(&piece[..length]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let body = &bytes[end + 4..];
            if body.len() == length.parse::<usize>().unwrap() {
                let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                socket.write_all(text.as_bytes()).await.unwrap();
                return (head, body.to_vec());
            }
        }
    }

    fn watched(endpoint: String, otlp_ca: Option<std::path::PathBuf>) -> Watched {
        let metrics_listen = ([127, 0, 0, 1], 0).into();
        Watched { metrics_listen, otlp_endpoint: Some(endpoint), otlp_ca }
    }

    #[tokio::test]
    async fn spans_reach_a_collector_that_was_away_at_first() {
        let world = OsHost::world(tokio::runtime::Handle::current(), Path::new("/nonexistent"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::default();
        let outbox = start(&world, &metrics, &watched(format!("http://{address}/base/"), None)).unwrap().unwrap();
        let ring = Ring::new(&world, "api/one");
        ring.export(outbox.clone());
        let cx = Cx::root(&ring, Some("req-7".into()), world.now() + Duration::from_secs(5)).within(&"work-9");
        drop(cx.span("POST /servers"));
        let flushed = outbox.flush(Duration::from_secs(60));
        let taken = async {
            let _away = take(&listener, "503 Service Unavailable").await;
            take(&listener, "200 OK").await
        };
        let ((), (head, body)) = tokio::join!(flushed, taken);
        assert!(head.starts_with("POST /base/v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let said = |text: &[u8]| body.windows(text.len()).any(|window| window == text);
        for text in ["service.name", "api", "req-7", "work-9", "POST /servers"] {
            assert!(said(text.as_bytes()), "{text}");
        }
        assert!(said(&cx.trace().0.to_be_bytes()), "the trace's id");
        assert!(metrics.render().contains("mainstay_otlp_spans_total{outcome=\"sent\"} 1\n"), "{}", metrics.render());
    }

    #[tokio::test]
    async fn an_endpoint_that_cannot_be_used_is_refused_at_the_start() {
        let world = OsHost::world(tokio::runtime::Handle::current(), Path::new("/nonexistent"));
        let try_it = |endpoint: &str| start(&world, &Metrics::default(), &watched(endpoint.to_owned(), None));
        for (endpoint, why) in [("collector:4318", "http"), ("https://c:4318", "--otlp-ca"), ("grpc://c", "http://")] {
            let error = format!("{:#}", try_it(endpoint).map(drop).unwrap_err());
            assert!(error.contains(why), "{endpoint}: {error}");
        }
        assert!(try_it("").unwrap().is_none(), "an empty variable of the environment asks for nothing");
    }
}
