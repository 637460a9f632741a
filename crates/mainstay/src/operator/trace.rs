//! The path of a request through every process: what their rings still hold, joined with the durable record.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use proto::operator::v1 as wire;
use proto::telemetry::v1::telemetry_service_client::TelemetryServiceClient;
use proto::telemetry::v1::{FindSpansRequest, Span};
use rpc::Target;
use servers::{Action, BY_REQUEST, ServerId};
use store::Reader;
use telemetry::{Cx, Query, TraceId};
use tonic::Status;

use super::{Inner, remembers, unavailable};

/// A process that does not answer in time is named as silent.
pub(super) const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Processes that are asked at the same time.
pub(super) const ASKED_AT_ONCE_MAX: usize = 64;

/// Everything that is known of `subject`: a request's id, or a server's.
pub(super) async fn gather(inner: &Inner, subject: &str) -> Result<wire::GetTraceResponse, Status> {
    let actions = inner.view.read(|reader| actions_of(reader, subject)).await.map_err(unavailable)?;
    let mut traces: BTreeSet<TraceId> = actions.iter().map(|action| action.trace).collect();
    let query =
        |trace: Option<TraceId>| Query { trace, request: Some(subject.to_owned()), subject: Some(subject.to_owned()) };
    let mut spans: Vec<Span> = Vec::new();
    let own = inner.ring.find(&query(None));
    traces.extend(own.iter().map(|record| record.trace));
    let mut silent = Vec::new();
    for trace in &traces {
        let found = inner.ring.find(&Query { trace: Some(*trace), ..Query::default() });
        spans.extend(found.into_iter().map(telemetry::service::to_wire));
    }
    let others = inner.others().into_iter().filter(|target| remembers(target.role));
    let asked = others.map(|target| {
        let traces = &traces;
        async move {
            let found = spans_of(inner, &target, subject, traces).await;
            (target, found)
        }
    });
    let mut answers = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE_MAX);
    while let Some((target, found)) = answers.next().await {
        match found {
            Ok(found) => spans.extend(found),
            Err(_) => silent.push(target.to_string()),
        }
    }
    silent.sort();
    let mut seen = BTreeSet::new();
    spans.retain(|span| seen.insert((span.trace.clone(), span.id)));
    spans.sort_by_key(|span| (span.start_us, span.id));
    Ok(wire::GetTraceResponse { spans, actions: actions.into_iter().map(action_to_wire).collect(), silent })
}

fn actions_of(reader: &Reader<'_>, subject: &str) -> Vec<Action> {
    if let Ok(server) = subject.parse::<ServerId>() {
        let found = reader.range(Action::of(server)).filter_map(|(_, entry)| store::Record::decode_entry(entry).ok());
        return found.map(|(action, _)| action).collect();
    }
    reader.by::<Action>(BY_REQUEST, subject).filter_map(Result::ok).map(|(action, _)| action).collect()
}

fn action_to_wire(action: Action) -> wire::Action {
    let step = |step: servers::ActionStep| wire::Step {
        name: step.name,
        start_us: step.start.as_micros(),
        took_us: step.took_us,
        error: step.error.unwrap_or_default(),
        undo: step.undo,
    };
    wire::Action {
        request_id: action.request_id,
        server: action.server.to_string(),
        action: action.action,
        start_us: action.start.as_micros(),
        finish_us: action.finish.map_or(0, |finish| finish.as_micros()),
        message: action.message.unwrap_or_default(),
        steps: action.steps.into_iter().map(step).collect(),
    }
}

/// What another process has of `subject` or of `traces`.
async fn spans_of(
    inner: &Inner,
    target: &Target,
    subject: &str,
    traces: &BTreeSet<TraceId>,
) -> Result<Vec<Span>, rpc::Error> {
    let request = |trace: Option<&TraceId>| FindSpansRequest {
        trace: trace.map(|trace| trace.0.to_be_bytes().to_vec().into()).unwrap_or_default(),
        request_id: subject.to_owned(),
        subject: subject.to_owned(),
    };
    let wanted: Vec<Option<&TraceId>> = if traces.is_empty() { vec![None] } else { traces.iter().map(Some).collect() };
    let mut spans = Vec::new();
    for trace in wanted {
        spans.extend(ask(inner, target, request(trace)).await?);
    }
    Ok(spans)
}

async fn ask(inner: &Inner, target: &Target, request: FindSpansRequest) -> Result<Vec<Span>, rpc::Error> {
    let cx = Cx::root(&inner.ring, None, inner.ring.world().now() + ANSWER_WAIT_MAX);
    let mut client = TelemetryServiceClient::new(inner.peers.channel(target, &cx));
    Ok(client.find_spans(request).await.map_err(rpc::Error::from)?.into_inner().spans)
}
