//! The metadata service's connections.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{CONNECTIONS_PER_TAP, Current, pause_after};

/// A request's head must be complete after this time.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// A connection ends after this time, whatever it does.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// The memory for reading from one connection, in bytes.
const BUFFER: usize = 16 * 1024;

/// Accepts connections for ever. Dropping it ends them all.
pub(super) async fn listen(listener: TcpListener, current: Arc<Current>) {
    let mut open = JoinSet::new();
    let mut per_tap: BTreeMap<u32, usize> = BTreeMap::new();
    loop {
        tokio::select! {
            Some(ended) = open.join_next() => {
                if let Ok(mark) = ended {
                    release(&mut per_tap, mark);
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(&mut open, &mut per_tap, stream, &current),
                Err(error) => pause_after("accepting a metadata connection", &error).await,
            },
        }
    }
}

/// Serves the connection if its tap is known and has not too many already; else it is closed at once.
fn admit(open: &mut JoinSet<u32>, per_tap: &mut BTreeMap<u32, usize>, stream: TcpStream, current: &Arc<Current>) {
    let Ok(mark) = socket2::SockRef::from(&stream.as_fd()).mark() else { return };
    let count = per_tap.entry(mark).or_default();
    if current.port(mark).is_none() || *count >= CONNECTIONS_PER_TAP {
        if *count == 0 {
            per_tap.remove(&mark);
        }
        return;
    }
    *count += 1;
    open.spawn(serve(stream, mark, current.clone()));
}

fn release(per_tap: &mut BTreeMap<u32, usize>, mark: u32) {
    if let Some(count) = per_tap.get_mut(&mark) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            per_tap.remove(&mark);
        }
    }
}

async fn serve(stream: TcpStream, mark: u32, current: Arc<Current>) -> u32 {
    let answer = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = respond(&current, mark, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    // Whether it ended well concerns only the guest.
    let _outcome = tokio::time::timeout(CONNECTION_TIME, connection).await;
    mark
}

fn respond(current: &Current, mark: u32, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let plain = HeaderValue::from_static("text/plain; charset=UTF-8");
    if method != Method::GET && method != Method::HEAD {
        let mut response = filled(StatusCode::METHOD_NOT_ALLOWED, plain, "only GET and HEAD\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match current.port(mark).and_then(|port| port.metadata.get(path)) {
        Some(document) => filled(StatusCode::OK, HeaderValue::from_static(document.kind), document.content),
        None => filled(StatusCode::NOT_FOUND, plain, "not found\n".into()),
    }
}

fn filled(status: StatusCode, kind: HeaderValue, content: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
