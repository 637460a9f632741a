//! Which versions there are.

use api::Json;
use serde_json::{Value, json};

use crate::{VERSION_MAX, VERSION_MIN};

/// `GET /placement/`: without a token.
pub(crate) async fn root() -> Json<Value> {
    Json(json!({ "versions": [{
        "id": "v1.0",
        "max_version": VERSION_MAX.to_string(),
        "min_version": VERSION_MIN.to_string(),
        "status": "CURRENT",
        "links": [{ "rel": "self", "href": "" }],
    }] }))
}
