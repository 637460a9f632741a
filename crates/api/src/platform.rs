//! What every API family is handed: the world, who verifies tokens, how requests are observed, where we are.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use identity::AuthError;
use world::World;

use crate::request::RequestCx;

/// Verifies tokens. Called once for each request that needs a caller, so it has to be quick.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Who owns `token`.
    async fn authenticate(&self, token: &str) -> Result<Arc<identity::Caller>, AuthError>;
}

#[async_trait]
impl Authenticator for identity::Identity {
    async fn authenticate(&self, token: &str) -> Result<Arc<identity::Caller>, AuthError> {
        identity::Identity::authenticate(self, token).await
    }
}

/// Is told of every request; telemetry hangs on it.
pub trait RequestObserver: Send + Sync {
    /// The answer's head is ready.
    fn on_end(&self, request: &RequestCx, method: &Method, route: &str, status: StatusCode, took: Duration);
}

/// An observer that looks away: for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl RequestObserver for Unobserved {
    fn on_end(&self, _: &RequestCx, _: &Method, _: &str, _: StatusCode, _: Duration) {}
}

/// What every service gets. Cloning is cheap enough for start-up; at run time it is shared.
#[derive(Clone)]
pub struct Platform {
    /// Time, randomness, tasks.
    pub world: World,
    /// Who verifies tokens.
    pub auth: Arc<dyn Authenticator>,
    /// Who watches requests.
    pub observer: Arc<dyn RequestObserver>,
    /// The region's name, as in the catalog.
    pub region: String,
    /// `https://host:port`, without a slash at the end: where clients reach us.
    pub public_url: String,
}
