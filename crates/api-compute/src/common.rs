//! What all handlers share: the context of a call, the administrator's door, links, ids for old clients.

use std::sync::Arc;

use api::{Caller, Fault, Microversion, RequestCx};
use axum::extract::State;
use ids::uuid::Uuid;
use rpc::Peers;
use serde_json::{Value, json};
use telemetry::{Cx, RequestId, Span, SpanId, TraceId};

use crate::Compute;

/// What all handlers are given.
pub(crate) type Cloud = State<Arc<Compute>>;

impl Compute {
    /// The context of a call, and its span; `about`: the id of what it is about, if that is known.
    pub(crate) fn open(&self, request: &RequestCx, name: &'static str, about: Option<&str>) -> (Cx, Span) {
        let id: RequestId = request.request_id.as_str().into();
        let about = |cx: Cx| match about {
            Some(subject) => cx.about(&subject).span(name),
            None => cx.span(name),
        };
        if let Some((trace, parent)) = request.client_trace {
            // A client's word is not trusted to name our trace: but in its own there is a span that knows our request.
            let theirs = Cx::continued(
                &self.ring,
                TraceId(trace),
                SpanId(parent),
                Some(RequestId::clone(&id)),
                request.deadline,
            );
            drop(about(theirs));
        }
        about(Cx::root(&self.ring, Some(id), request.deadline))
    }

    /// A client's channel to the coordinator.
    pub(crate) fn coordinator(&self, cx: &Cx) -> rpc::Channel {
        let peers: &dyn Peers = &*self.peers;
        peers.channel(&self.coordinator, cx)
    }
}

/// Refuses everybody but administrators, in Nova's words.
pub(crate) fn admin(caller: &Caller, rule: &str) -> Result<(), Fault> {
    if caller.is_admin() {
        return Ok(());
    }
    Err(Fault::forbidden(format!("Policy doesn't allow {rule} to be performed.")))
}

/// Refuses those who may only look.
pub(crate) fn member(caller: &Caller) -> Result<(), Fault> {
    caller.project()?;
    if caller.is_admin() { Ok(()) } else { Ok(caller.require("member")?) }
}

/// Versions before `minor` have no such path.
pub(crate) fn since(version: Microversion, minor: u16) -> Result<(), Fault> {
    if version.at_least(2, minor) { Ok(()) } else { Err(Fault::not_found("The resource could not be found.")) }
}

/// Versions from `minor` on have no such path.
pub(crate) fn until(version: Microversion, minor: u16) -> Result<(), Fault> {
    if version.at_least(2, minor) { Err(Fault::not_found("The resource could not be found.")) } else { Ok(()) }
}

/// The links of something under `/compute/v2.1/{path}`.
pub(crate) fn links(public_url: &str, path: &str) -> Value {
    json!([
        { "rel": "self", "href": format!("{public_url}/compute/v2.1/{path}") },
        { "rel": "bookmark", "href": format!("{public_url}/compute/{path}") },
    ])
}

/// The link to the next page of a list.
pub(crate) fn next(cx: &RequestCx, path: &str, query: Option<&str>, marker: &str) -> Value {
    let base = format!("{}/compute/v2.1/{path}", cx.platform.public_url);
    json!([{ "rel": "next", "href": api::paging::next_url(&base, query, marker) }])
}

/// A number for clients of the time when things had numbers: 31 bits of the id.
pub(crate) fn number_of(id: &Uuid) -> u64 {
    u64::from((id.as_u128() & 0x7fff_ffff) as u32)
}

/// Text of a query parameter by name; the last one counts.
pub(crate) fn last<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// `limit` and `marker` of a query.
pub(crate) fn page(pairs: &[(String, String)]) -> api::paging::Page {
    api::paging::Page {
        limit: last(pairs, "limit").map(str::to_owned),
        marker: last(pairs, "marker").map(str::to_owned),
    }
}
