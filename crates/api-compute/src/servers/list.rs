//! Lists of servers: which, in which order, which page of them.

use api::paging::Page;
use api::{Caller, Fault, Json, Query, RequestCx};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use servers::{Server, ServerId, list};
use store::{DecodeError, Reader};

use super::filter::Wish;
use super::records::presence;
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
    answer(cloud, cx, caller, query, raw, Depth::Brief, "servers").await
}

/// `GET /servers/detail`
pub(crate) async fn detail(
    cloud: Cloud,
    cx: RequestCx,
    caller: Caller,
    query: Query<Vec<(String, String)>>,
    raw: RawQuery,
) -> Result<Response, Fault> {
    answer(cloud, cx, caller, query, raw, Depth::Full, "servers/detail").await
}

async fn answer(
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
    let mut around = Around::new(&cx, &caller, depth).listed();
    let (shown, more) = cloud
        .view
        .read(|reader| {
            let (found, more) = find(reader, &wish, &page)?;
            let shown = found.into_iter().map(|server| around.gather(reader, server));
            Ok::<_, Fault>((shown.collect::<Result<Vec<_>, _>>()?, more))
        })
        .await??;
    if around.needs_presence() && shown.iter().any(|shown| shown.server.node.is_some()) {
        around.with_presence(presence(&cloud));
    }
    let last = shown.last().filter(|_| more).map(|shown| shown.server.id.to_string());
    let links = last.map(|id| common::next(&cx, path, raw.as_deref(), &id));
    Ok(Json(Many { around: &around, shown: &shown, links }).into_response())
}

/// The page, and whether more follows.
fn find(reader: &Reader<'_>, wish: &Wish, page: &Page) -> Result<(Vec<Server>, bool), Fault> {
    if wish.nothing {
        return Ok((Vec::new(), false));
    }
    match &wish.id {
        None if wish.newest_first() => next_page(reader, wish, page),
        Some(id) => {
            let found = reader.get::<Server>(id)?.map(|(server, _)| Ok(server));
            sorted_page(reader, wish, page, found.into_iter())
        }
        None => sorted_page(reader, wish, page, list::newest_first(reader, wish.project.as_deref(), None)),
    }
}

/// In the order in which they are kept: only what is on the page is read, and what the filters let fall on the way.
fn next_page(reader: &Reader<'_>, wish: &Wish, page: &Page) -> Result<(Vec<Server>, bool), Fault> {
    let limit = page.limit(PAGE_ENTRIES_MAX)?;
    let marker = match page.marker.as_deref() {
        None | Some("") => None,
        Some(marker) => Some(marked(reader, wish, marker)?),
    };
    let mut found = Vec::new();
    for server in list::newest_first(reader, wish.project.as_deref(), marker.as_ref()) {
        let server = server?;
        if !wish.wants(reader, &server)? {
            continue;
        }
        if found.len() == limit {
            return Ok((found, true));
        }
        found.push(server);
    }
    Ok((found, false))
}

/// The last server of the page before. It need not fit the filters any more, but the caller must be able to see it.
fn marked(reader: &Reader<'_>, wish: &Wish, marker: &str) -> Result<Server, Fault> {
    let found = match marker.parse::<ServerId>() {
        Ok(id) => reader.get::<Server>(&id)?.map(|(server, _)| server),
        Err(_) => None,
    };
    found.filter(|server| wish.covers(server)).ok_or_else(|| no_marker(marker))
}

fn no_marker(marker: &str) -> Fault {
    Fault::bad_request(format!("marker [{marker}] not found"))
}

/// In another order: all that fit are read and sorted first.
fn sorted_page(
    reader: &Reader<'_>,
    wish: &Wish,
    page: &Page,
    all: impl Iterator<Item = Result<Server, DecodeError>>,
) -> Result<(Vec<Server>, bool), Fault> {
    let mut found = Vec::new();
    for server in all {
        let server = server?;
        if wish.wants(reader, &server)? {
            found.push(server);
        }
    }
    wish.sort(&mut found);
    let cut = page.cut(found, PAGE_ENTRIES_MAX, |server| server.id.to_string());
    let paged = cut.map_err(|fault| page.marker.as_deref().map_or(fault, no_marker))?;
    Ok((paged.entries, paged.more))
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
