//! `PATCH /v2/images/{id}`: JSON patch in the two forms that clients send.
//!
//! The newer form is RFC 6902 with `add`, `replace` and `remove`; the older one names the path as the value of the verb.
//! Operations become changes one after the other, each seeing what those before it did; all happen or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::extract::{JSON_BYTES_MAX, read_body};
use api::{Caller, Fault, Json, Path, RequestCx};
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, header};
use images::{Change, Image, Images};
use serde_json::Value;

use crate::wire::{self, Kind};
use crate::{fault, viewer};

const NEWER: &str = "application/openstack-images-v2.1-json-patch";
const OLDER: &str = "application/openstack-images-v2.0-json-patch";
/// Operations in one patch: more than an image has attributes, properties and tags to change.
const OPERATIONS_MAX: usize = 1000;

/// `PATCH /v2/images/{id}`.
pub async fn update(
    State(images): State<Arc<Images>>,
    cx: RequestCx,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Fault> {
    let id = fault::image_id(&id)?;
    let form = Form::of(&headers)?;
    let bytes = read_body(&cx, &headers, body, JSON_BYTES_MAX).await?;
    let operations = parse(form, &bytes)?;
    let changed = images.update(&viewer(&caller), id, |image| changes(form, image, &operations)).await;
    Ok(Json(wire::image(&changed.map_err(fault::update(id))?)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Newer,
    Older,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Form, Fault> {
        let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        match said.split(';').next().unwrap_or("").trim() {
            NEWER => Ok(Form::Newer),
            OLDER => Ok(Form::Older),
            _ => Err(Fault::bad_media_type(format!("An image is changed with {NEWER} or {OLDER}."))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Add,
    Replace,
    Remove,
}

#[derive(Clone, Debug, PartialEq)]
struct Operation {
    verb: Verb,
    name: String,
    /// Behind the name: only tags have parts that can be pointed at.
    part: Option<String>,
    value: Value,
}

fn parse(form: Form, bytes: &[u8]) -> Result<Vec<Operation>, Fault> {
    let body: Value =
        serde_json::from_slice(bytes).map_err(|error| Fault::bad_request(format!("Malformed JSON: {error}")))?;
    let Value::Array(items) = body else {
        return Err(Fault::bad_request("The body of a patch must be an array of operations."));
    };
    if items.len() > OPERATIONS_MAX {
        return Err(Fault::too_large(format!("A patch has at most {OPERATIONS_MAX} operations.")));
    }
    items.iter().map(|item| operation(form, item)).collect()
}

fn operation(form: Form, item: &Value) -> Result<Operation, Fault> {
    let verb_of = |word: &str| match word {
        "add" => Some(Verb::Add),
        "replace" => Some(Verb::Replace),
        "remove" => Some(Verb::Remove),
        _ => None,
    };
    let found = match form {
        Form::Newer => item.get("op").and_then(Value::as_str).and_then(verb_of).zip(item.get("path")),
        Form::Older => ["add", "replace", "remove"].iter().find_map(|word| verb_of(word).zip(item.get(*word))),
    };
    let (verb, path) = found.ok_or_else(|| {
        Fault::bad_request("Each operation of a patch must be add, replace or remove, and have a path.")
    })?;
    let value = match (verb, item.get("value")) {
        (Verb::Remove, _) => Value::Null,
        (Verb::Add | Verb::Replace, Some(value)) => value.clone(),
        (Verb::Add | Verb::Replace, None) => return Err(Fault::bad_request("Operation without \"value\".")),
    };
    let (name, part) = pointer(path.as_str().unwrap_or(""))?;
    Ok(Operation { verb, name, part, value })
}

/// A JSON pointer of one part, or two below `tags`.
fn pointer(text: &str) -> Result<(String, Option<String>), Fault> {
    let bad = || Fault::bad_request(format!("Invalid JSON pointer for this resource: '{text}'."));
    let mut parts = text.strip_prefix('/').ok_or_else(bad)?.split('/').map(unescape);
    let name = parts.next().flatten().filter(|name| !name.is_empty()).ok_or_else(bad)?;
    let part = match parts.next() {
        None => None,
        Some(Some(part)) if name == "tags" && !part.is_empty() => Some(part),
        Some(_) => return Err(bad()),
    };
    if parts.next().is_some() { Err(bad()) } else { Ok((name, part)) }
}

/// `~1` is `/`, `~0` is `~`; `None` if a `~` stands alone.
fn unescape(part: &str) -> Option<String> {
    let mut pieces = part.split('~');
    let mut plain = pieces.next().unwrap_or("").to_owned();
    for piece in pieces {
        match piece.as_bytes().first() {
            Some(b'0') => plain.push('~'),
            Some(b'1') => plain.push('/'),
            Some(_) | None => return None,
        }
        plain.push_str(&piece[1..]);
    }
    Some(plain)
}

/// What of the image an operation looks at, as the operations before it leave it.
struct Seen {
    properties: BTreeMap<String, String>,
    tags: Vec<String>,
}

fn changes(form: Form, image: &Image, operations: &[Operation]) -> Result<Vec<Change>, Fault> {
    let mut seen = Seen { properties: image.properties.clone(), tags: image.tags.iter().cloned().collect() };
    operations.iter().map(|operation| seen.change(form, operation)).collect()
}

impl Seen {
    fn change(&mut self, form: Form, operation: &Operation) -> Result<Change, Fault> {
        if let Some(part) = &operation.part {
            self.change_tag(operation, part)?;
            return Ok(Change::Tags(self.tags.clone()));
        }
        match (wire::kind_of(&operation.name)?, operation.verb) {
            (Kind::Attribute, Verb::Remove) => {
                Err(Fault::forbidden(format!("Property {} may not be removed.", operation.name)))
            }
            (Kind::Attribute, Verb::Add) if form == Form::Older => {
                Err(Fault::conflict(format!("Property {} already present.", operation.name)))
            }
            (Kind::Attribute, Verb::Add | Verb::Replace) => {
                let change = wire::set(&operation.name, &operation.value)?;
                if let Change::Tags(tags) = &change {
                    self.tags.clone_from(tags);
                }
                Ok(change)
            }
            (Kind::Property, verb) => self.change_property(form, verb, operation),
        }
    }

    fn change_property(&mut self, form: Form, verb: Verb, operation: &Operation) -> Result<Change, Fault> {
        let name = &operation.name;
        match (verb, self.properties.contains_key(name)) {
            (Verb::Replace | Verb::Remove, false) => Err(Fault::conflict(format!("Property {name} does not exist."))),
            (Verb::Add, true) if form == Form::Older => {
                Err(Fault::conflict(format!("Property {name} already present.")))
            }
            (Verb::Remove, true) => {
                self.properties.remove(name);
                Ok(Change::RemoveProperty(name.clone()))
            }
            (Verb::Add, _) | (Verb::Replace, true) => {
                let value = wire::string(name, &operation.value)?;
                self.properties.insert(name.clone(), value.clone());
                Ok(Change::SetProperty(name.clone(), value))
            }
        }
    }

    /// Tags are shown in order, so a client may point at one by its place. (They are a set all the same.)
    fn change_tag(&mut self, operation: &Operation, part: &str) -> Result<(), Fault> {
        let bad = || Fault::conflict(format!("The image has no tag at place {part}."));
        let place = if part == "-" { Some(self.tags.len()) } else { part.parse::<usize>().ok() };
        let place = place.ok_or_else(bad)?;
        match operation.verb {
            Verb::Add if place <= self.tags.len() => {
                self.tags.insert(place, wire::string("tags", &operation.value)?);
            }
            Verb::Replace if place < self.tags.len() => {
                self.tags[place] = wire::string("tags", &operation.value)?;
            }
            Verb::Remove if place < self.tags.len() => {
                self.tags.remove(place);
            }
            Verb::Add | Verb::Replace | Verb::Remove => return Err(bad()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<(&str, Option<&str>)>) {
        let found = pointer(path).ok();
        let found = found.as_ref().map(|(name, part)| (name.as_str(), part.as_deref()));
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn pointers_are_read() {
        check("/name", Some(("name", None)));
        check("/a~1b~0c", Some(("a/b~c", None)));
        check("/~01", Some(("~1", None)));
        check("/tags/-", Some(("tags", Some("-"))));
        for bad in ["", "/", "name", "/name/", "/a/b", "/tags/1/2", "/a~", "/a~2", "//a"] {
            check(bad, None);
        }
    }
}
