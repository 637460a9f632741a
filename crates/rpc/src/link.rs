//! What lies under a call: the connection that it came over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The connection that a call came over; in the request's extensions, if there is one. Holding it does not hold the
/// connection open.
#[derive(Clone)]
pub struct Link(Arc<dyn Fn() -> Option<Duration> + Send + Sync>);

impl Link {
    /// A connection of which `heard` tells what [`Link::heard`] promises.
    pub fn new(heard: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Link {
        Link(Arc::new(heard))
    }

    /// How long ago the peer's host last gave a sign of life on it: data, or the receipt of ours, or an answer to a
    /// keepalive, which a kernel gives whatever its processes do. While the host can be reached this stays little above
    /// a second. None: the connection has ended.
    pub fn heard(&self) -> Option<Duration> {
        (self.0)()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.heard()).finish()
    }
}

/// The connection that a call came over. None for calls within a process.
pub fn link_of<T>(request: &tonic::Request<T>) -> Option<Link> {
    request.extensions().get::<Link>().cloned()
}
