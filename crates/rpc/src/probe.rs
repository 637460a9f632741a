//! Asking a host whether somebody listens, when nothing is heard any more.

use std::time::Duration;

use world::BoxFuture;

/// What an attempt to connect has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The host took the connection. Whether the process behind it answers is another question.
    Connected,
    /// The host answered that nobody listens there.
    Refused,
    /// Nothing was heard in time, or the network said that there is no way.
    Silent,
    /// It could not be tried: this says nothing of the other.
    Untried,
}

/// Tries connections.
pub trait Prober: Send + Sync {
    /// Tries to connect to `endpoint` (`address:port`), and takes no longer than `within`.
    fn probe(&self, endpoint: &str, within: Duration) -> BoxFuture<'static, Probe>;
}
