//! What is alike for all resources: who may ask, lists, single objects, the attributes that all have.

use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::{RawQuery, State};
use networks::plan::{self, Owned};
use networks::{NetError, Networks, Standard, Who};
use serde_json::{Value, json};
use store::Reader;

use crate::fault::{fault, missing};
use crate::list::{Object, Query};

/// A resource as the API shows it.
pub(crate) trait Resource: Owned + Send + 'static {
    /// Its name in a body.
    const ONE: &'static str;
    /// The name of several in a body.
    const MANY: &'static str;
    /// The name of its collection in a path.
    const PATH: &'static str;

    /// The object, as `who` is shown it.
    fn object(&self, reader: &Reader<'_>, who: &Who) -> Result<Object, NetError>;

    /// Whether it may be seen by those who do not own it.
    fn is_public(&self, _reader: &Reader<'_>, _who: &Who) -> Result<bool, NetError> {
        Ok(self.is_shared())
    }

    /// All that a list may hold; `query` may be used to look at fewer. Filters and visibility are applied afterwards.
    fn candidates(reader: &Reader<'_>, who: &Who, query: &Query) -> Result<Vec<Self>, NetError>;
}

/// Whoever may look.
pub(crate) fn viewer(caller: &Caller) -> Result<Who, Fault> {
    who(caller, "reader")
}

/// Whoever may change things.
pub(crate) fn editor(caller: &Caller) -> Result<Who, Fault> {
    who(caller, "member")
}

fn who(caller: &Caller, role: &'static str) -> Result<Who, Fault> {
    let project = caller.project()?.clone();
    let admin = caller.is_admin();
    if !admin {
        caller.require(role)?;
    }
    Ok(Who { project, admin })
}

/// An id in a path; what cannot be one names nothing.
pub(crate) fn id_of<I: std::str::FromStr>(text: &str, kind: networks::Kind) -> Result<I, Fault> {
    text.parse().map_err(|_| missing(kind, text))
}

/// The address of a collection.
pub(crate) fn collection_url(cx: &RequestCx, path: &str) -> String {
    format!("{}/network/v2.0/{path}", cx.platform.public_url)
}

/// Adds what all resources show.
pub(crate) fn with_standard(mut object: Value, standard: &Standard) -> Object {
    object["name"] = json!(standard.name);
    object["description"] = json!(standard.description);
    object["tenant_id"] = json!(standard.project.as_str());
    object["project_id"] = json!(standard.project.as_str());
    object["created_at"] = json!(api::time::rfc3339(standard.created));
    object["updated_at"] = json!(api::time::rfc3339(standard.updated));
    object["revision_number"] = json!(standard.revision);
    object["tags"] = json!(standard.tags);
    match object {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Object::new(),
    }
}

/// `GET /{collection}`
pub(crate) async fn list<R: Resource>(
    State(cloud): State<Networks>,
    cx: RequestCx,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Fault> {
    let who = viewer(&caller)?;
    let query = Query::parse(query.as_deref())?;
    let found = cloud.read(|reader| Ok(admitted::<R>(reader, &who, &query))).await.map_err(fault)??;
    Ok(Json(query.answer(found, R::MANY, &collection_url(&cx, R::PATH))?))
}

fn admitted<R: Resource>(reader: &Reader<'_>, who: &Who, query: &Query) -> Result<Vec<Object>, Fault> {
    let mut found = Vec::new();
    for record in R::candidates(reader, who, query).map_err(fault)? {
        if who.owns(record.owner()) || record.is_public(reader, who).map_err(fault)? {
            let object = record.object(reader, who).map_err(fault)?;
            if query.admits(&object)? {
                found.push(object);
            }
        }
    }
    Ok(found)
}

/// `GET /{collection}/{id}`
pub(crate) async fn show<R: Resource>(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Fault> {
    let who = viewer(&caller)?;
    let query = Query::parse(query.as_deref())?;
    let uuid: networks::NetworkId = id_of(&id, R::KIND)?;
    let found = cloud.read(|reader| {
        let record: R = seen(reader, &who, &uuid.to_string())?;
        record.object(reader, &who)
    });
    let object = query.project(found.await.map_err(fault)?);
    Ok(Json(json!({ R::ONE: object })))
}

fn seen<R: Resource>(reader: &Reader<'_>, who: &Who, id: &str) -> Result<R, NetError> {
    if let Some((record, _)) = reader.get::<R>(&id)?
        && (who.owns(record.owner()) || record.is_public(reader, who)?)
    {
        return Ok(record);
    }
    Err(NetError::NotFound { kind: R::KIND, id: id.to_owned() })
}

/// The answer that shows records after a change.
pub(crate) async fn answer<R: Resource>(
    cloud: &Networks,
    who: &Who,
    records: &[R],
    bulk: bool,
) -> Result<Json<Value>, Fault> {
    let objects = cloud.read(|reader| {
        let objects = records.iter().map(|record| record.object(reader, who));
        objects.collect::<Result<Vec<_>, _>>()
    });
    let mut objects = objects.await.map_err(fault)?;
    if bulk {
        return Ok(Json(json!({ R::MANY: objects })));
    }
    Ok(Json(json!({ R::ONE: objects.pop() })))
}

/// All records of a table.
pub(crate) fn all<R: Resource>(reader: &Reader<'_>) -> Result<Vec<R>, NetError> {
    Ok(reader.all::<R>().map(|found| found.map(|(record, _)| record)).collect::<Result<_, _>>()?)
}

/// The record with the id that the query names, if it names one.
pub(crate) fn by_id<R: Resource>(reader: &Reader<'_>, query: &Query) -> Result<Option<Vec<R>>, NetError> {
    let Some(id) = query.only("id") else { return Ok(None) };
    let Ok(id) = id.parse::<networks::NetworkId>() else { return Ok(Some(Vec::new())) };
    Ok(Some(reader.get::<R>(&id)?.map(|(record, _)| record).into_iter().collect()))
}

/// Deletes one thing.
pub(crate) async fn delete<I: Copy + std::str::FromStr>(
    cloud: &Networks,
    caller: &Caller,
    (kind, id): (networks::Kind, &str),
    decide: impl Fn(&mut plan::Plan<'_>, I) -> Result<(), NetError>,
) -> Result<http::StatusCode, Fault> {
    let who = editor(caller)?;
    let id: I = id_of(id, kind)?;
    cloud.decide(&who, |plan| decide(plan, id)).await.map_err(fault)?;
    Ok(http::StatusCode::NO_CONTENT)
}
