//! Lists of servers: which, in which order, which page of them.

use api::{Caller, Fault, Json, Query, RequestCx};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use servers::Server;
use store::Reader;

use super::filter::Wish;
use super::records::attending;
use super::shown::{Around, Depth, Shown, Whole};
use crate::common::{self, Cloud};

/// Entries of a page, at most.
const PAGE_ENTRIES_MAX: usize = 1000;

/// `GET /servers`
pub(crate) async fn brief(
    cloud: Cloud,
    cx: RequestCx,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    raw: RawQuery,
) -> Result<Response, Fault> {
    list(cloud, cx, caller, query, raw, Depth::Brief, "servers").await
}

/// `GET /servers/detail`
pub(crate) async fn detail(
    cloud: Cloud,
    cx: RequestCx,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    raw: RawQuery,
) -> Result<Response, Fault> {
    list(cloud, cx, caller, query, raw, Depth::Full, "servers/detail").await
}

async fn list(
    State(cloud): Cloud,
    cx: RequestCx,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
    RawQuery(raw): RawQuery,
    depth: Depth,
    path: &str,
) -> Result<Response, Fault> {
    let wish = Wish::parse(&cx, &caller, &pairs)?;
    let page = common::page(&pairs);
    page.limit(PAGE_ENTRIES_MAX)?;
    let mut around = Around::new(&cx, &caller, depth);
    if around.needs_attendance() {
        around.attending(attending(&cloud, &cx).await);
    }
    let (shown, more) = cloud
        .view
        .read(|reader| {
            let mut found = matching(reader, &wish)?;
            wish.sort(&mut found);
            let paged =
                page.cut(found, PAGE_ENTRIES_MAX, |server| server.id.to_string()).map_err(|fault| {
                    match page.marker {
                        Some(ref marker) => Fault::bad_request(format!("marker [{marker}] not found")),
                        None => fault,
                    }
                })?;
            let shown = paged.entries.into_iter().map(|server| around.gather(reader, server));
            Ok::<_, Fault>((shown.collect::<Result<Vec<_>, _>>()?, paged.more))
        })
        .await??;
    let last = shown.last().filter(|_| more).map(|shown| shown.server.id.to_string());
    let links = last.map(|id| common::next(&cx, path, raw.as_deref(), &id));
    Ok(Json(Many { around: &around, shown: &shown, links }).into_response())
}

fn matching(reader: &Reader<'_>, wish: &Wish) -> Result<Vec<Server>, Fault> {
    let mut found = Vec::new();
    let mut keep = |server: Server| {
        if wish.wants(reader, &server)? {
            found.push(server);
        }
        Ok::<_, Fault>(())
    };
    if wish.nothing {
        return Ok(Vec::new());
    }
    match (&wish.id, &wish.project) {
        (Some(id), _) => {
            if let Some((server, _)) = reader.get::<Server>(id)? {
                keep(server)?;
            }
        }
        (None, Some(project)) => {
            for server in reader.by::<Server>(servers::BY_PROJECT, project) {
                keep(server?.0)?;
            }
        }
        (None, None) => {
            for server in reader.all::<Server>() {
                keep(server?.0)?;
            }
        }
    }
    Ok(found)
}

struct Many<'a> {
    around: &'a Around<'a>,
    shown: &'a [Shown],
    links: Option<serde_json::Value>,
}

impl Serialize for Many<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("servers", &Wholes(self.around, self.shown))?;
        if let Some(links) = &self.links {
            map.serialize_entry("servers_links", links)?;
        }
        map.end()
    }
}

struct Wholes<'a>(&'a Around<'a>, &'a [Shown]);

impl Serialize for Wholes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.1.len()))?;
        for shown in self.1 {
            list.serialize_element(&Whole(self.0, shown))?;
        }
        list.end()
    }
}
