//! A client without manners: it sends any bytes over TLS, as fast or as slowly as a test wants.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// An answer that takes longer is a hang.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Where a cell answers, and whom to trust there.
#[derive(Clone)]
pub struct Door {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// One TLS connection.
pub struct Raw {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
}

/// What was answered.
pub struct RawAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Headers, their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Door {
    pub(crate) fn new(address: SocketAddr, authority: &Path) -> Door {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(authority).expect("the cell's authority is a certificate");
        roots.add(certificate).expect("the cell's authority can be trusted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.expect("ring speaks TLS 1.2 and 1.3").with_root_certificates(roots).with_no_client_auth();
        Door { address, tls: Arc::new(tls) }
    }

    /// A connection that has said nothing yet, not even hello.
    pub fn knock(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the cell listens");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a socket has timeouts");
        stream.set_write_timeout(Some(ANSWER_WITHIN)).expect("a socket has timeouts");
        stream.set_nodelay(true).expect("a socket can do without delay");
        stream
    }

    /// A connection that speaks HTTP/1.1.
    pub fn enter(&self) -> Raw {
        let name = ServerName::from(self.address.ip());
        let connection = ClientConnection::new(Arc::clone(&self.tls), name).expect("a client's configuration");
        Raw { stream: StreamOwned::new(connection, self.knock()), rest: Vec::new() }
    }
}

impl Raw {
    /// Sends `bytes`, or as much of them as the server hears.
    pub fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next answer; `bare`: to a request whose answers have no body. `Err`: there is none, and why.
    pub fn answer(&mut self, bare: bool) -> Result<RawAnswer, String> {
        let end = loop {
            if let Some(end) = find(&self.rest, b"\r\n\r\n") {
                break end;
            }
            if self.read()? == 0 {
                return Err("the connection was closed without an answer".to_owned());
            }
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("no HTTP: {head}"))?;
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = match headers.get("transfer-encoding") {
            _ if bare || status == 204 || status == 304 => Vec::new(),
            Some(_chunked) => self.chunks()?,
            None => self.take(length)?,
        };
        Ok(RawAnswer { status, headers, body })
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.rest, b"\r\n") {
                    break end;
                }
                if self.read()? == 0 {
                    return Err("the body was cut".to_owned());
                }
            };
            let line = String::from_utf8_lossy(&self.take(end + 2)?).into_owned();
            let length = usize::from_str_radix(line.trim(), 16).map_err(|_| format!("no chunk: {line}"))?;
            body.extend(self.take(length)?);
            self.take(2)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.rest.len() < length {
            if self.read()? == 0 {
                return Err(format!("the body was cut after {} of {length} bytes", self.rest.len()));
            }
        }
        Ok(self.rest.drain(..length).collect())
    }

    fn read(&mut self) -> Result<usize, String> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.rest.extend_from_slice(&buffer[..length]);
                Ok(length)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(format!("nothing came within {ANSWER_WITHIN:?}: a hang"))
            }
            // The server need not say goodbye.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Debug for RawAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.300}", self.status, String::from_utf8_lossy(&self.body))
    }
}

impl RawAnswer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether the server closes the connection behind it.
    pub fn closes(&self) -> bool {
        self.headers.get("connection").is_some_and(|value| value == "close")
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
