//! Spans as the OpenTelemetry protocol has them (`ExportTraceServiceRequest`, version 1).
//!
//! Only the handful of messages that carry a span, declared by hand: their numbers are frozen by that protocol, and the
//! crates that bring all of it bring an SDK with it.

use prost::Message;

use crate::ring::Record;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

/// `SpanKind`: within a process, or the called side of a call.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
/// `StatusCode`: unset is how a span says that it went well.
const UNSET: i32 = 0;
const ERROR: i32 = 2;

/// `spans` as one request; those of one process stand together, in their order.
pub(crate) fn encode(release: &str, spans: &[Record]) -> Vec<u8> {
    let mut groups: Vec<(&str, Vec<Span>)> = Vec::new();
    for record in spans {
        let span = span(record);
        match groups.iter_mut().find(|(process, _)| *process == &*record.process) {
            Some((_, group)) => group.push(span),
            None => groups.push((&record.process, vec![span])),
        }
    }
    let scope = || Some(Scope { name: "mainstay".into(), version: release.to_owned() });
    let resource_spans = groups.into_iter().map(|(process, spans)| ResourceSpans {
        resource: Some(resource(release, process)),
        scope_spans: vec![ScopeSpans { scope: scope(), spans }],
    });
    Request { resource_spans: resource_spans.collect() }.encode_to_vec()
}

/// A process `role/name`: the role is the service, the name which instance of it.
fn resource(release: &str, process: &str) -> Resource {
    let (role, name) = process.split_once('/').unwrap_or((process, ""));
    let attributes = vec![
        pair("service.namespace", "mainstay"),
        pair("service.name", role),
        pair("service.instance.id", name),
        pair("service.version", release),
    ];
    Resource { attributes }
}

fn span(record: &Record) -> Span {
    let start = record.start.as_micros().saturating_mul(1000);
    let took = u64::try_from(record.took.as_nanos()).unwrap_or(u64::MAX);
    let known = [
        ("mainstay.request.id", record.request.as_deref()),
        ("mainstay.server.id", record.subject.as_deref()),
        ("mainstay.work.id", record.work.as_deref()),
    ];
    let attributes = known.into_iter().filter_map(|(key, value)| value.map(|value| pair(key, value))).collect();
    let called = record.name.starts_with('/');
    let status = match &record.error {
        Some(message) => Status { message: message.clone(), code: ERROR },
        None => Status { message: String::new(), code: UNSET },
    };
    Span {
        trace_id: record.trace.0.to_be_bytes().to_vec(),
        span_id: record.id.0.to_be_bytes().to_vec(),
        // Without a parent the field is empty, not zeros.
        parent_span_id: if record.parent.0 == 0 { Vec::new() } else { record.parent.0.to_be_bytes().to_vec() },
        name: record.name.trim_start_matches('/').to_owned(),
        kind: if called { SERVER } else { INTERNAL },
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(took),
        attributes,
        status: Some(status),
    }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { string_value: Some(value.to_owned()) }) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use world::Wall;

    use super::*;
    use crate::{SpanId, TraceId};

    #[test]
    fn a_span_says_what_a_collector_needs() {
        let record = |process: &str, id: u64, parent: u64, error: Option<&str>| Record {
            process: process.into(),
            trace: TraceId(0x0102),
            id: SpanId(id),
            parent: SpanId(parent),
            name: "/mainstay.agent.v1.AgentService/Perform",
            start: Wall::from_micros(5),
            took: Duration::from_micros(7),
            request: Some("req-1".into()),
            subject: None,
            work: Some("w1".into()),
            error: error.map(str::to_owned),
        };
        let spans = [record("api/a", 1, 0, None), record("agent/n", 2, 1, Some("full")), record("api/a", 3, 1, None)];
        let request = Request::decode(&encode("0.1", &spans)[..]).unwrap();
        assert_eq!(request.resource_spans.len(), 2, "one group a process");
        let api = &request.resource_spans[0];
        let attributes = &api.resource.as_ref().unwrap().attributes;
        assert!(
            attributes.contains(&pair("service.name", "api")) && attributes.contains(&pair("service.instance.id", "a"))
        );
        let first = &api.scope_spans[0].spans[0];
        assert_eq!((first.trace_id.len(), first.span_id.len(), first.parent_span_id.len()), (16, 8, 0));
        assert_eq!((first.start_time_unix_nano, first.end_time_unix_nano), (5_000, 12_000));
        assert_eq!(first.attributes, [pair("mainstay.request.id", "req-1"), pair("mainstay.work.id", "w1")]);
        let failed = &request.resource_spans[1].scope_spans[0].spans[0];
        assert_eq!(failed.parent_span_id, 1u64.to_be_bytes());
        assert_eq!(failed.status, Some(Status { message: "full".into(), code: ERROR }));
        assert_eq!(failed.name, "mainstay.agent.v1.AgentService/Perform");
    }
}
