//! What all lists have in common: filters by any field, chosen fields, order, pages. Pure, over JSON objects.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use api::Fault;
use serde_json::{Map, Value, json};

use crate::attrs::truth;

/// Entries of a page if none is asked for: as Neutron, all.
const PAGE_ENTRIES_MAX: usize = 100_000;

/// A list request's query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Filters: field, and the values of which one has to match.
    pub(crate) filters: BTreeMap<String, Vec<String>>,
    fields: Vec<String>,
    sort: Vec<(String, bool)>,
    limit: Option<usize>,
    marker: Option<String>,
    reverse: bool,
    /// The query's pairs that stay in the links to other pages.
    kept: Vec<(String, String)>,
}

/// Objects of one list.
pub(crate) type Object = Map<String, Value>;

impl Query {
    /// From the raw query of a request.
    pub(crate) fn parse(raw: Option<&str>) -> Result<Query, Fault> {
        let mut query = Query::default();
        let (mut keys, mut directions) = (Vec::new(), Vec::new());
        for (name, value) in pairs(raw.unwrap_or("")) {
            match name.as_str() {
                "fields" => query.fields.push(value.clone()),
                "sort_key" => keys.push(value.clone()),
                "sort_dir" => directions.push(descending(&value)?),
                "limit" => query.limit = limit(&value)?,
                "marker" => query.marker = Some(value.clone()),
                "page_reverse" => {
                    query.reverse = truth(&Value::String(value.clone())).unwrap_or(false);
                }
                _ => query.filters.entry(name.clone()).or_default().push(value.clone()),
            }
            if name != "marker" && name != "page_reverse" {
                query.kept.push((name, value));
            }
        }
        if !directions.is_empty() && directions.len() != keys.len() {
            return Err(Fault::bad_request("The number of sort_keys and sort_dirs must be same"));
        }
        directions.resize(keys.len(), false);
        query.sort = keys.into_iter().zip(directions).collect();
        Ok(query)
    }

    /// The only value of a filter, if there is exactly one: for looking into an index instead of at everything.
    pub(crate) fn only(&self, field: &str) -> Option<&str> {
        match self.filters.get(field)?.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Whether an object passes all filters. A filter on a field that there is not is refused.
    pub(crate) fn admits(&self, object: &Object) -> Result<bool, Fault> {
        for (field, wanted) in &self.filters {
            let passes = match (field.as_str(), object.get(field)) {
                ("tags" | "tags-any" | "not-tags" | "not-tags-any", _) => tags(field, wanted, object.get("tags")),
                ("fixed_ips", Some(Value::Array(fixed))) => fixed_ips(wanted, fixed)?,
                (_, Some(value)) => wanted.iter().any(|wanted| matches(value, wanted)),
                (_, None) => return Err(Fault::bad_request(format!("'{field}' is invalid attribute for filtering"))),
            };
            if !passes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Only the fields that were asked for.
    pub(crate) fn project(&self, mut object: Object) -> Object {
        if !self.fields.is_empty() {
            object.retain(|name, _| self.fields.iter().any(|field| field == name));
        }
        object
    }

    /// The answer to a list request over these objects, which have passed the filters; `url` is the list's address.
    pub(crate) fn answer(&self, mut all: Vec<Object>, many: &str, url: &str) -> Result<Value, Fault> {
        all.sort_by(|one, other| self.order(one, other));
        let size = self.limit.unwrap_or(PAGE_ENTRIES_MAX);
        let at = match &self.marker {
            None => None,
            Some(marker) => {
                let found = all.iter().position(|object| id(object) == marker);
                Some(found.ok_or_else(|| {
                    Fault::bad_request(format!("The marker {marker} is not in the list.")).kind("HTTPBadRequest")
                })?)
            }
        };
        let (from, to) = match (at, self.reverse) {
            (None, false) => (0, size.min(all.len())),
            (None, true) => (all.len().saturating_sub(size), all.len()),
            (Some(at), false) => (at + 1, (at + 1).saturating_add(size).min(all.len())),
            (Some(at), true) => (at.saturating_sub(size), at),
        };
        let mut links = Vec::new();
        let page = all.get(from..to).unwrap_or_default();
        if self.limit.is_some()
            && let (Some(first), Some(last)) = (page.first(), page.last())
        {
            if to < all.len() {
                links.push(json!({ "rel": "next", "href": self.link(url, id(last), false) }));
            }
            if from > 0 {
                links.push(json!({ "rel": "previous", "href": self.link(url, id(first), true) }));
            }
        }
        let shown: Vec<Object> = page.iter().cloned().map(|object| self.project(object)).collect();
        let mut answer = Map::new();
        answer.insert(many.to_owned(), json!(shown));
        if !links.is_empty() {
            answer.insert(format!("{many}_links"), Value::Array(links));
        }
        Ok(Value::Object(answer))
    }

    fn order(&self, one: &Object, other: &Object) -> Ordering {
        for (key, descending) in &self.sort {
            let order = compare(one.get(key), other.get(key));
            if order != Ordering::Equal {
                return if *descending { order.reverse() } else { order };
            }
        }
        id(one).cmp(id(other))
    }

    fn link(&self, url: &str, marker: &str, reverse: bool) -> String {
        let mut link = format!("{url}?");
        for (name, value) in &self.kept {
            link.push_str(&format!("{}={}&", encoded(name), encoded(value)));
        }
        link.push_str("marker=");
        link.push_str(marker);
        if reverse {
            link.push_str("&page_reverse=True");
        }
        link
    }
}

fn id(object: &Object) -> &str {
    object.get("id").and_then(Value::as_str).unwrap_or("")
}

fn descending(text: &str) -> Result<bool, Fault> {
    match text {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(Fault::bad_request("sort_dir must be 'asc' or 'desc'")),
    }
}

fn limit(text: &str) -> Result<Option<usize>, Fault> {
    match text.parse::<usize>() {
        Ok(0) => Ok(None),
        Ok(limit) => Ok(Some(limit)),
        Err(_) => Err(Fault::bad_request(format!("Bad limit {text:?}: Limit must be an integer 0 or greater"))),
    }
}

fn compare(one: Option<&Value>, other: Option<&Value>) -> Ordering {
    match (one, other) {
        (Some(Value::String(one)), Some(Value::String(other))) => one.cmp(other),
        (Some(Value::Number(one)), Some(Value::Number(other))) => one.as_i64().cmp(&other.as_i64()),
        (Some(Value::Bool(one)), Some(Value::Bool(other))) => one.cmp(other),
        (one, other) => {
            let rank = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
            rank(one).cmp(&rank(other))
        }
    }
}

fn matches(value: &Value, wanted: &str) -> bool {
    match value {
        Value::Null => wanted.is_empty() || wanted == "None",
        Value::Bool(flag) => truth(&Value::String(wanted.to_owned())) == Some(*flag),
        Value::Number(number) => number.to_string() == wanted,
        Value::String(text) => text == wanted,
        Value::Array(list) => list.iter().any(|item| matches(item, wanted)),
        Value::Object(map) => map.values().any(|item| matches(item, wanted)),
    }
}

fn tags(field: &str, wanted: &[String], has: Option<&Value>) -> bool {
    let has: Vec<&str> = has.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let mut wanted = wanted.iter().flat_map(|list| list.split(','));
    match field {
        "tags" => wanted.all(|tag| has.contains(&tag)),
        "tags-any" => wanted.any(|tag| has.contains(&tag)),
        "not-tags" => !wanted.all(|tag| has.contains(&tag)),
        _ => !wanted.any(|tag| has.contains(&tag)),
    }
}

/// `ip_address=…`, `subnet_id=…`, `ip_address_substr=…`: of each kind one has to match.
fn fixed_ips(wanted: &[String], fixed: &[Value]) -> Result<bool, Fault> {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for wanted in wanted {
        match wanted.split_once('=') {
            Some((kind @ ("ip_address" | "subnet_id" | "ip_address_substr"), value)) => {
                kinds.entry(kind).or_default().push(value);
            }
            Some(_) | None => {
                return Err(Fault::bad_request(format!("Invalid filter for fixed_ips: {wanted:?}")));
            }
        }
    }
    let part = |fixed: &Value, kind: &str, value: &str| {
        let field = |name: &str| fixed.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        match kind {
            "ip_address_substr" => field("ip_address").contains(value),
            kind => field(kind) == value,
        }
    };
    Ok(kinds.iter().all(|(kind, values)| values.iter().any(|value| fixed.iter().any(|f| part(f, kind, value)))))
}

/// The pairs of a query, decoded.
fn pairs(raw: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    raw.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
                match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = after.get(2..).unwrap_or_default();
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> Vec<Object> {
        let all = json!([
            { "id": "1", "name": "b", "up": true, "tags": ["red"], "fixed_ips": [{ "ip_address": "10.0.0.1" }] },
            { "id": "2", "name": "a b", "up": false, "tags": ["red", "blue"], "fixed_ips": [] },
            { "id": "3", "name": "b", "up": true, "tags": [], "fixed_ips": [{ "ip_address": "10.0.0.9" }] },
        ]);
        serde_json::from_value(all).unwrap()
    }

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        let found = Query::parse(Some(raw)).and_then(|query| {
            let admitted: Vec<Object> = objects().into_iter().filter(|o| query.admits(o).unwrap_or(false)).collect();
            query.admits(&objects()[0])?;
            query.answer(admitted, "things", "u")
        });
        let text = match found {
            Err(fault) => fault.status.as_u16().to_string(),
            Ok(answer) => {
                let ids: Vec<&str> =
                    answer["things"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap()).collect();
                let links = answer["things_links"].as_array().into_iter().flatten();
                let links = links.map(|link| format!(" {}", link["href"].as_str().unwrap()));
                format!("{}{}", ids.join(","), links.collect::<String>())
            }
        };
        assert_eq!(text, expected, "{raw}");
    }

    #[test]
    fn lists_are_filtered_sorted_and_cut() {
        check("", "1,2,3");
        check("name=b", "1,3");
        check("name=b&id=3&id=2", "3");
        check("name=a%20b&up=False", "2");
        check("name=a+b", "2");
        check("up=true&sort_key=id&sort_dir=desc", "3,1");
        check("sort_key=name&fields=id", "2,1,3");
        check("colour=red", "400");
        check("tags=red", "1,2");
        check("tags=red,blue", "2");
        check("not-tags-any=red", "3");
        check("fixed_ips=ip_address=10.0.0.9", "3");
        check("fixed_ips=ip_address_substr=10.0", "1,3");
        check("fixed_ips=mac=1", "400");
        check("limit=2", "1,2 u?limit=2&marker=2");
        check("limit=1&marker=1", "2 u?limit=1&marker=2 u?limit=1&marker=2&page_reverse=True");
        check("limit=2&marker=2", "3 u?limit=2&marker=3&page_reverse=True");
        check("limit=1&marker=3&page_reverse=True", "2 u?limit=1&marker=2 u?limit=1&marker=2&page_reverse=True");
        check("limit=x", "400");
        check("marker=9", "400");
        check("sort_key=id&sort_dir=up", "400");
    }
}
