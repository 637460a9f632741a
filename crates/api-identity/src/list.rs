//! Lists as Keystone writes them: filtered, sorted, cut into pages if the client asks for pages.

use api::paging::Page;
use api::{Fault, Json, Query, RequestCx};
use serde_json::{Value, json};

use crate::shape::{Shape, base, object};

/// The query of a list, as it came.
pub(crate) type Filters = Query<Vec<(String, String)>>;

/// The value of a parameter.
pub(crate) fn get<'a>(filters: &'a Filters, name: &str) -> Option<&'a str> {
    filters.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Whether a parameter that is a switch is on: it is there, and does not say no.
pub(crate) fn is_on(filters: &Filters, name: &str) -> bool {
    get(filters, name).is_some_and(|value| !is_no(value))
}

fn is_no(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "no" | "off")
}

/// The answer with those of `records` that fit the filters; only filters on `fields` count.
pub(crate) fn answer<R: Shape>(
    cx: &RequestCx,
    path: &str,
    filters: &Filters,
    fields: &[&str],
    records: &[R],
) -> Result<Json<Value>, Fault> {
    let mut objects: Vec<Value> = records.iter().map(|record| object(cx, record)).collect();
    objects.retain(|object| filters.0.iter().all(|(name, value)| fits(object, fields, name, value)));
    sort(filters, fields, &mut objects);
    wrap(cx, path, filters, R::MANY, objects)
}

/// The answer with `objects`, which are in their final order.
pub(crate) fn wrap(
    cx: &RequestCx,
    path: &str,
    filters: &Filters,
    wrapper: &str,
    objects: Vec<Value>,
) -> Result<Json<Value>, Fault> {
    let page =
        Page { limit: get(filters, "limit").map(str::to_owned), marker: get(filters, "marker").map(str::to_owned) };
    let cut = page.cut(objects, usize::MAX, |object| object["id"].as_str().unwrap_or("").to_owned())?;
    let (url, query) = (format!("{}{path}", base(cx)), encode(filters));
    let itself = if query.is_empty() { url.clone() } else { format!("{url}?{query}") };
    let next = cut.entries.last().filter(|_| cut.more).and_then(|last| last["id"].as_str());
    let next = next.map(|marker| api::paging::next_url(&url, Some(&query), marker));
    let mut answer = json!({
        wrapper: cut.entries, "links": { "next": next, "self": itself, "previous": null },
    });
    if cut.more {
        answer["truncated"] = json!(true);
    }
    Ok(Json(answer))
}

fn encode(filters: &Filters) -> String {
    let pairs = filters.0.iter().map(|(name, value)| match value.as_str() {
        "" => escape(name),
        value => format!("{}={}", escape(name), escape(value)),
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn fits(object: &Value, fields: &[&str], name: &str, wanted: &str) -> bool {
    let (field, comparison) = name.split_once("__").unwrap_or((name, ""));
    if !fields.contains(&field) {
        return true;
    }
    match &object[field] {
        Value::Bool(value) => *value != is_no(wanted),
        Value::String(value) => compare(value, comparison, wanted),
        Value::Null => wanted.is_empty() || wanted == "None",
        Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn compare(value: &str, comparison: &str, wanted: &str) -> bool {
    if let Some(insensitive) = comparison.strip_prefix('i') {
        return compare(&value.to_lowercase(), insensitive, &wanted.to_lowercase());
    }
    match comparison {
        "contains" => value.contains(wanted),
        "startswith" => value.starts_with(wanted),
        "endswith" => value.ends_with(wanted),
        _ => value == wanted,
    }
}

fn sort(filters: &Filters, fields: &[&str], objects: &mut [Value]) {
    let Some(key) = get(filters, "sort_key").filter(|key| fields.contains(key) || *key == "id") else { return };
    let text = |object: &Value| object[key].as_str().unwrap_or("").to_owned();
    objects.sort_by_key(text);
    if get(filters, "sort_dir") == Some("desc") {
        objects.reverse();
    }
}
