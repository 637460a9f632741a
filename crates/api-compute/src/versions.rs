//! Which versions there are and where.

use api::{Json, RequestCx};
use serde_json::{Value, json};

use crate::{VERSION_MAX, VERSION_MIN};

fn version(cx: &RequestCx) -> Value {
    json!({
        "id": "v2.1",
        "status": "CURRENT",
        "version": VERSION_MAX.to_string(),
        "min_version": VERSION_MIN.to_string(),
        "updated": "2013-07-23T11:33:21Z",
        "links": [{ "rel": "self", "href": format!("{}/compute/v2.1/", cx.platform.public_url) }],
    })
}

/// `GET /compute`
pub(crate) async fn all(cx: RequestCx) -> Json<Value> {
    Json(json!({ "versions": [version(&cx)] }))
}

/// `GET /compute/v2.1`
pub(crate) async fn v2_1(cx: RequestCx) -> Json<Value> {
    let mut version = version(&cx);
    version["media-types"] =
        json!([{ "base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1" }]);
    Json(json!({ "version": version }))
}
