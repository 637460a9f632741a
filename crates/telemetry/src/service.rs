//! The ring, asked from outside.

use std::sync::Arc;

use proto::telemetry::v1 as wire;
use proto::telemetry::v1::telemetry_service_server::{TelemetryService, TelemetryServiceServer};
use tonic::{Request, Response, Status};

use crate::cx::TraceId;
use crate::ring::{Query, Record, Ring};

struct Service(Arc<Ring>);

/// The gRPC service over `ring`.
pub fn service(ring: &Arc<Ring>) -> TelemetryServiceServer<impl TelemetryService> {
    TelemetryServiceServer::new(Service(Arc::clone(ring)))
}

#[async_trait::async_trait]
impl TelemetryService for Service {
    async fn find_spans(
        &self,
        request: Request<wire::FindSpansRequest>,
    ) -> Result<Response<wire::FindSpansResponse>, Status> {
        let request = request.into_inner();
        let trace = <[u8; 16]>::try_from(&request.trace[..]).ok().map(|bytes| TraceId(u128::from_be_bytes(bytes)));
        let given = |text: String| (!text.is_empty()).then_some(text);
        let query = Query { trace, request: given(request.request_id), subject: given(request.subject) };
        let spans = self.0.find(&query).into_iter().map(to_wire).collect();
        Ok(Response::new(wire::FindSpansResponse { spans }))
    }
}

/// A span as it travels.
pub fn to_wire(record: Record) -> wire::Span {
    wire::Span {
        trace: record.trace.0.to_be_bytes().to_vec().into(),
        id: record.id.0,
        parent: record.parent.0,
        name: record.name.to_owned(),
        process: record.process.to_string(),
        start_us: record.start.as_micros(),
        took_us: u64::try_from(record.took.as_micros()).unwrap_or(u64::MAX),
        request_id: record.request.map(|request| request.to_string()).unwrap_or_default(),
        subject: record.subject.map(|subject| subject.to_string()).unwrap_or_default(),
        error: record.error.unwrap_or_default(),
        work: record.work.map(|work| work.to_string()).unwrap_or_default(),
    }
}
