//! Rude clients against the real server on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use identity::AuthError;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use world::World;

use super::{Limits, serve};
use crate::{Authenticator, Caller, Dialect, Fault, Json, Platform, Routes, Unobserved};

struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(&self, _token: &str) -> Result<Arc<identity::Caller>, AuthError> {
        Err(AuthError::Invalid("nobody is known here"))
    }
}

struct Server {
    address: SocketAddr,
    root: CertificateDer<'static>,
}

fn world() -> World {
    world::os::OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir())
}

async fn server(limits: Limits) -> Server {
    let world = world();
    let platform = Platform {
        world: world.clone(),
        auth: Arc::new(Nobody),
        observer: Arc::new(Unobserved),
        region: "RegionOne".to_owned(),
        public_url: "https://here:1".to_owned(),
    };
    let routes = Routes::<()>::new(Dialect::Nova)
        .get("/fine", async || "fine")
        .get("/closed", async |_caller: Caller| "never")
        .get("/broken", async || -> Result<(), Fault> { panic!("a defect") })
        .post("/echo", async |Json(body): Json<Value>| Json(body));
    let (router, _) = routes.build((), &platform);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let root = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![root.clone()], key.into()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    world.clone().spawn("server", serve(listener, tls, router, world, limits, std::future::pending()));
    Server { address, root }
}

impl Server {
    async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
    }

    /// Sends `bytes` over HTTP/1.1 and reads until the server closes.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect(b"http/1.1").await;
        // The server may have heard enough before all is said.
        let _cut = stream.write_all(bytes).await;
        read(&mut stream).await
    }
}

async fn read(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let all = async {
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
            }
        }
    };
    world().timeout(Duration::from_secs(20), all).await.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn answers_are_nova_s() {
    let server = server(Limits::default()).await;
    let get = async |path: &str| {
        server.say(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await
    };
    assert!(get("/fine").await.starts_with("HTTP/1.1 200 "));
    let closed = get("/closed").await;
    assert!(closed.starts_with("HTTP/1.1 401 "), "{closed}");
    assert!(closed.contains("www-authenticate: Keystone uri=\"https://here:1/identity/v3\""), "{closed}");
    let broken = get("/broken").await;
    assert!(broken.starts_with("HTTP/1.1 500 ") && broken.contains("{\"computeFault\":"), "{broken}");
    let unknown = get("/unknown").await;
    assert!(unknown.starts_with("HTTP/1.1 404 ") && unknown.contains("{\"itemNotFound\":"), "{unknown}");
    let wrong = get("/echo").await;
    assert!(wrong.starts_with("HTTP/1.1 405 ") && wrong.contains("allow: POST"), "{wrong}");
    for answer in [closed, broken, unknown, wrong] {
        assert!(answer.contains("x-openstack-request-id: req-"), "{answer}");
    }
}

#[tokio::test]
async fn huge_requests_are_refused_before_they_are_held() {
    let server = server(Limits::default()).await;
    let head = format!("GET /fine HTTP/1.1\r\nhost: x\r\nx-huge: {}\r\n\r\n", "a".repeat(1024 * 1024));
    assert!(server.say(head.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let many: String = (0..2000).map(|number| format!("x-{number}: a\r\n")).collect();
    let many = format!("GET /fine HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    assert!(server.say(many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    // What the buffers of the reader would let pass is refused all the same, in the family's words.
    for (name, bytes) in [("x-huge", 70 << 10), ("x-huge", 100 << 10), ("x-auth-token", 65 << 10)] {
        let head =
            format!("GET /fine HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{name}: {}\r\n\r\n", "a".repeat(bytes));
        let answer = server.say(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 ") && answer.contains("{\"badRequest\":"), "{answer}");
    }
    let long = format!("GET /fine?{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "a".repeat(20 << 10));
    let answer = server.say(long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 414 ") && answer.contains("{\"badRequest\":"), "{answer}");
    let post = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let announced = server.say(format!("{post}content-length: 99999999999\r\n\r\n{{").as_bytes()).await;
    assert!(announced.starts_with("HTTP/1.1 413 ") && announced.contains("overLimit"), "{announced}");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    // The last one goes on sending long after it was refused, and hears the refusal nevertheless.
    for chunks in [17, 100, 300] {
        let chunked = format!("{post}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(chunks));
        let answer = server.say(chunked.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("overLimit"), "{chunks} chunks: {answer}");
    }
}

#[tokio::test]
async fn slow_clients_are_left() {
    let short = Duration::from_millis(300);
    let server = server(Limits { handshake: short, head: short, silence: short * 2, ..Limits::default() }).await;
    // No handshake, half a head, half a body: all end by the server's hand.
    let mut mute = TcpStream::connect(server.address).await.unwrap();
    let mut byte = [0; 1];
    let closed = mute.read(&mut byte);
    assert_eq!(world().timeout(Duration::from_secs(10), closed).await.expect("it is closed").unwrap_or(0), 0);
    server.say(b"GET /fine HTTP/1.1\r\nhost:").await;
    let body = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let answer = server.say(body).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn who_says_nothing_makes_room_for_others() {
    let server = server(Limits { connections: config::Permits::new(8), ..Limits::default() }).await;
    // All are taken: by clients that do not even shake hands, that say half a head, and that had an answer and stay.
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut rude = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect(b"http/1.1").await;
        stream.write_all(b"GET /fine HTTP/1.1\r\nx-half: ").await.unwrap();
        rude.push(stream);
    }
    for _ in 0..20 {
        let mut stream = server.connect(b"http/1.1").await;
        stream.write_all(b"GET /fine HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut word = [0; 12];
        let answered = world().timeout(Duration::from_secs(10), stream.read_exact(&mut word)).await;
        answered.expect("there is room").unwrap();
        assert_eq!(&word, b"HTTP/1.1 200");
        rude.push(stream);
    }
}

#[tokio::test]
async fn a_lowered_bound_lets_the_idle_go_when_somebody_comes() {
    let connections = config::Permits::new(64);
    let server = server(Limits { connections: connections.clone(), ..Limits::default() }).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(server.connect(b"http/1.1").await);
    }
    connections.resize(4);
    let mut stream = server.connect(b"http/1.1").await;
    stream.write_all(b"GET /fine HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut word = [0; 12];
    let answered = world().timeout(Duration::from_secs(10), stream.read_exact(&mut word)).await;
    answered.expect("there is room").unwrap();
    assert_eq!(&word, b"HTTP/1.1 200");
    assert_eq!(connections.over(), 0);
    let mut stay = 0;
    for mut one in idle {
        let gone = world().timeout(Duration::from_millis(50), one.read_u8()).await;
        stay += usize::from(gone.is_err());
    }
    assert!(stay < 4, "{stay} of the idle stay beside who came");
}

#[tokio::test]
async fn http2_is_spoken_with_those_who_ask() {
    let server = server(Limits::default()).await;
    let mut stream = server.connect(b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the first frame holds the server's settings");
}
