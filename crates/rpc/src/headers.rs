//! What goes along with a call: deadline, trace, request id, and which thing and which work it is about.
//!
//! `grpc-timeout` as gRPC defines it, `traceparent` as W3C Trace Context does, `x-openstack-request-id`,
//! `mainstay-subject` and `mainstay-work`.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use telemetry::{Cx, SpanId, TraceId};

const TIMEOUT: &str = "grpc-timeout";
const TRACE: &str = "traceparent";
const REQUEST: &str = "x-openstack-request-id";
const SUBJECT: &str = "mainstay-subject";
const WORK: &str = "mainstay-work";
/// The longest id that is believed.
const ID_BYTES_MAX: usize = 64;

/// Writes `cx` into the headers of a call.
pub(crate) fn write(headers: &mut HeaderMap, cx: &Cx) {
    let micros = cx.left().as_micros().max(1);
    // gRPC allows eight digits; beyond that a coarser unit.
    let timeout =
        if micros < 100_000_000 { format!("{micros}u") } else { format!("{}m", (micros / 1000).min(99_999_999)) };
    let trace = format!("00-{}-{:016x}-01", cx.trace(), cx.span_id().0);
    insert(headers, TIMEOUT, &timeout);
    insert(headers, TRACE, &trace);
    let known = [(REQUEST, cx.request().map(|id| &**id)), (SUBJECT, cx.subject()), (WORK, cx.work())];
    for (name, id) in known {
        if let Some(id) = id {
            insert(headers, name, id);
        }
    }
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// What a call told of its context.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) timeout: Option<Duration>,
    pub(crate) trace: Option<(TraceId, SpanId)>,
    pub(crate) request: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) work: Option<String>,
}

/// Reads what a call told; what does not parse counts as not told.
pub(crate) fn read(headers: &HeaderMap) -> Told {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = |name: &str| text(name).filter(|id| id.len() <= ID_BYTES_MAX).map(str::to_owned);
    Told {
        timeout: text(TIMEOUT).and_then(parse_timeout),
        trace: text(TRACE).and_then(parse_trace),
        request: id(REQUEST),
        subject: id(SUBJECT),
        work: id(WORK),
    }
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

fn parse_trace(text: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = text.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || trace.len() != 32 || span.len() != 16 {
        return None;
    }
    Some((TraceId(u128::from_str_radix(trace, 16).ok()?), SpanId(u64::from_str_radix(span, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_parse_as_grpc_says() {
        assert_eq!(parse_timeout("200000u"), Some(Duration::from_millis(200)));
        assert_eq!(parse_timeout("3S"), Some(Duration::from_secs(3)));
        for bad in ["", "u", "123456789u", "-1S", "1x", "1é"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_trace_that_is_none_is_not_told() {
        let good = "00-0000000000000000000000000000002a-0000000000000007-01";
        assert_eq!(parse_trace(good), Some((TraceId(42), SpanId(7))));
        for bad in ["", "00-2a-7-01", "01-0000000000000000000000000000002a-0000000000000007-01"] {
            assert_eq!(parse_trace(bad), None, "{bad:?}");
        }
    }
}
