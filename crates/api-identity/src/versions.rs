//! Which versions there are and where.

use api::{Json, RequestCx};
use http::StatusCode;
use serde_json::{Value, json};

use crate::shape::base;

fn version(cx: &RequestCx) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{ "rel": "self", "href": format!("{}/", base(cx)) }],
        "media-types": [{ "base": "application/json", "type": "application/vnd.openstack.identity-v3+json" }],
    })
}

/// `GET /identity`: a choice of one, which is why it is a 300.
pub(crate) async fn all(cx: RequestCx) -> (StatusCode, Json<Value>) {
    (StatusCode::MULTIPLE_CHOICES, Json(json!({ "versions": { "values": [version(&cx)] } })))
}

/// `GET /identity/v3`.
pub(crate) async fn v3(cx: RequestCx) -> Json<Value> {
    Json(json!({ "version": version(&cx) }))
}
