//! HTTP requests in the telemetry of the process.

use std::sync::Arc;
use std::time::Duration;

use api::{RequestCx, RequestObserver};
use http::{Method, StatusCode};
use telemetry::metrics::{Histogram, Metrics};

/// Counts and times requests, and logs those that were our fault.
pub struct Observer {
    requests: Histogram,
}

impl Observer {
    /// An observer that counts in `metrics`.
    pub fn new(metrics: &Metrics) -> Arc<Observer> {
        let labels = &["method", "route", "status"];
        Arc::new(Observer {
            requests: metrics.histogram("mainstay_http_seconds", labels, "Requests to the public API."),
        })
    }
}

impl RequestObserver for Observer {
    fn on_end(&self, request: &RequestCx, method: &Method, route: &str, status: StatusCode, took: Duration) {
        // What no route knows, a client chooses: it must not become a label.
        let method = if route.is_empty() { "" } else { method.as_str() };
        self.requests.record(&[method, route, status.as_str()], took);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(request = request.request_id, method, route, "a request failed through our fault");
        }
    }
}
