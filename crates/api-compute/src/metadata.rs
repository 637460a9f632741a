//! What servers and images have in common about metadata: the bodies of its calls, and one answer.

use std::collections::BTreeMap;

use api::Fault;
use serde_json::Value;

use crate::body::only;

const CHARS_MAX: usize = 255;

/// Short texts under short names: all that the body has, as its member `name`.
pub(crate) fn parsed(body: Value, name: &str) -> Result<BTreeMap<String, String>, Fault> {
    Ok(only(body, name)?.texts(CHARS_MAX, false)?.into_iter().collect())
}

/// The body of a call about one item: it says the name again that the path has.
pub(crate) fn item(body: Value, key: &str) -> Result<BTreeMap<String, String>, Fault> {
    let given = parsed(body, "meta")?;
    if given.len() > 1 {
        return Err(Fault::bad_request("Request body contains too many items"));
    }
    if !given.contains_key(key) {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    }
    Ok(given)
}

/// There is no such item.
pub(crate) fn no_item() -> Fault {
    Fault::not_found("Metadata item was not found")
}
