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
        let requests = metrics.histogram("mainstay_http_seconds", "status", "HTTP requests, by class of status.");
        Arc::new(Observer { requests })
    }
}

impl RequestObserver for Observer {
    fn on_start(&self, _request: &RequestCx, _method: &Method, _route: &str) -> tracing::Span {
        tracing::Span::none()
    }

    fn on_end(&self, request: &RequestCx, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let class = match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.record(class, took);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(request = request.request_id, %method, route, "a request failed through our fault");
        }
    }
}
