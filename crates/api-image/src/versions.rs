//! Which versions there are, and which ways of import (none).

use api::{Caller, Json, RequestCx};
use http::StatusCode;
use serde_json::{Value, json};

/// Version, status. What 2.8 and those behind 2.9 add are several stores, caching and locations, which are not here.
const VERSIONS: [(&str, &str); 9] = [
    ("v2.9", "CURRENT"),
    ("v2.7", "SUPPORTED"),
    ("v2.6", "SUPPORTED"),
    ("v2.5", "SUPPORTED"),
    ("v2.4", "SUPPORTED"),
    ("v2.3", "SUPPORTED"),
    ("v2.2", "SUPPORTED"),
    ("v2.1", "SUPPORTED"),
    ("v2.0", "SUPPORTED"),
];

fn body(cx: &RequestCx) -> Json<Value> {
    let link = json!([{ "rel": "self", "href": format!("{}/image/v2/", cx.platform.public_url) }]);
    let version = |(id, status): &(&str, &str)| json!({ "id": id, "status": status, "links": link });
    Json(json!({ "versions": VERSIONS.iter().map(version).collect::<Vec<_>>() }))
}

/// `GET /`: choose one.
pub async fn root(cx: RequestCx) -> (StatusCode, Json<Value>) {
    (StatusCode::MULTIPLE_CHOICES, body(&cx))
}

/// `GET /versions`: the same, asked for.
pub async fn versions(cx: RequestCx) -> Json<Value> {
    body(&cx)
}

/// `GET /v2/info/import`.
pub async fn import_methods(_caller: Caller) -> Json<Value> {
    Json(json!({
        "import-methods": { "description": "Import methods available.", "type": "array", "value": [] }
    }))
}
