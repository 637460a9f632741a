//! How a process is: what it runs, since when, and whether it serves yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use proto::health::v1 as wire;
use proto::health::v1::health_service_server::{HealthService, HealthServiceServer};
use tonic::{Request, Response, Status};
use world::{Mono, World};

/// What a process says of itself. Cloning shares it.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    world: World,
    started: Mono,
    release: &'static str,
    roles: Vec<String>,
    serving: AtomicBool,
    revision: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
    metrics: OnceLock<String>,
}

impl Health {
    /// A process of `release` with `roles` that is starting.
    pub fn new(world: &World, release: &'static str, roles: Vec<String>) -> Health {
        Health(Arc::new(Inner {
            world: world.clone(),
            started: world.now(),
            release,
            roles,
            serving: AtomicBool::new(false),
            revision: OnceLock::new(),
            metrics: OnceLock::new(),
        }))
    }

    /// It serves from now on.
    pub fn serving(&self) {
        self.0.serving.store(true, Ordering::Relaxed);
    }

    /// Its views are loaded; `revision` tells which revision of the store they show.
    pub fn views_loaded(&self, revision: impl Fn() -> u64 + Send + Sync + 'static) {
        let _first_wins = self.0.revision.set(Box::new(revision));
    }

    /// It serves metrics at `address`.
    pub fn metrics_at(&self, address: String) {
        let _first_wins = self.0.metrics.set(address);
    }

    /// The answer, as it stands.
    pub fn answer(&self) -> wire::CheckResponse {
        let inner = &self.0;
        let status = match inner.serving.load(Ordering::Relaxed) {
            true => wire::ServingStatus::Serving,
            false => wire::ServingStatus::NotServing,
        };
        wire::CheckResponse {
            status: status.into(),
            release: inner.release.to_owned(),
            roles: inner.roles.clone(),
            uptime_us: u64::try_from(inner.world.now().since(inner.started).as_micros()).unwrap_or(u64::MAX),
            views_loaded: inner.revision.get().is_some(),
            revision: inner.revision.get().map_or(0, |revision| revision()),
            metrics: inner.metrics.get().cloned().unwrap_or_default(),
        }
    }

    /// The gRPC service.
    pub fn service(&self) -> HealthServiceServer<impl HealthService + use<>> {
        HealthServiceServer::new(self.clone())
    }
}

#[async_trait::async_trait]
impl HealthService for Health {
    async fn check(&self, _: Request<wire::CheckRequest>) -> Result<Response<wire::CheckResponse>, Status> {
        Ok(Response::new(self.answer()))
    }
}

#[cfg(test)]
mod tests {
    use pki::{Identity, Role};
    use proto::health::v1::health_service_client::HealthServiceClient;
    use proto::telemetry::v1::FindSpansRequest;
    use proto::telemetry::v1::telemetry_service_client::TelemetryServiceClient;
    use telemetry::metrics::Metrics;
    use telemetry::{Cx, Ring};
    use tonic::service::Routes;
    use world::os::OsHost;

    use super::*;
    use crate::{Channel, Error, Limits, Server, Verdict};

    #[tokio::test]
    async fn a_process_that_is_starting_says_so_and_refuses_the_rest_for_now() {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let (ring, metrics) = (Ring::new(&world, "control/main"), Metrics::default());
        let health = Health::new(&world, "1.2.3", vec!["store".into()]);
        let server = Server::starting(&ring, &metrics, Limits::default(), Routes::new(health.service()));
        let caller = Identity { cell: "c.mainstay".into(), role: Role::Operator, name: "admin".into() };
        let cx = Cx::root(&ring, None, world.now() + std::time::Duration::from_secs(5));
        let channel = Channel::new(server.local(caller), &cx);
        let mut client = HealthServiceClient::new(channel.clone());
        let mut check = async || client.check(wire::CheckRequest {}).await.unwrap().into_inner();

        let starting = check().await;
        assert_eq!(starting.status(), wire::ServingStatus::NotServing);
        assert_eq!((&*starting.release, starting.views_loaded, starting.revision), ("1.2.3", false, 0));
        let mut operator = proto::operator::v1::operator_service_client::OperatorServiceClient::new(channel.clone());
        let refused = operator.get_status(proto::operator::v1::GetStatusRequest {}).await.unwrap_err();
        assert_eq!(Error::from(refused).verdict, Verdict::NotNow);

        health.views_loaded(|| 42);
        health.serving();
        server.started(Routes::new(health.service()).add_service(telemetry::service::service(&ring)));
        let serving = check().await;
        assert_eq!((serving.status(), serving.revision), (wire::ServingStatus::Serving, 42));
        assert!(serving.uptime_us >= starting.uptime_us);
        TelemetryServiceClient::new(channel).find_spans(FindSpansRequest::default()).await.unwrap();

        // No more calls at a time for now: a call is refused before it begins. And then there may be some again.
        server.calls().resize(0);
        let refused = client.check(wire::CheckRequest {}).await.unwrap_err();
        assert_eq!(Error::from(refused).verdict, Verdict::NotNow);
        server.calls().resize(1);
        let text = metrics.render();
        client.check(wire::CheckRequest {}).await.unwrap();
        assert!(text.contains("mainstay_rpc_refused_total{reason=\"starting\"} 1\n"), "{text}");
        assert!(text.contains("HealthService/Check\",verdict=\"ok\"} 2\n"), "{text}");
        assert!(text.contains("mainstay_rpc_in_flight 0\n"), "{text}");
    }
}
