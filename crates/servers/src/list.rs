//! Servers in the order in which lists show them: the newest first.
//!
//! One index holds them in that order, for each project and for all: so a page costs the decoding of what is on it,
//! however many servers there are.

use bytes::Bytes;
use store::{DecodeError, Key, Reader, Record};
use world::Wall;

use crate::server::Server;

pub(crate) const BY_AGE: &str = "server by age";
/// Stands for all projects; no project has this id.
const ALL: &str = "*";

/// The terms of [`BY_AGE`]: the project, then the time that is left until the end of times.
pub(crate) fn terms(_: &Key, bytes: &Bytes) -> Vec<String> {
    let Ok(server) = Server::decode(bytes) else { return Vec::new() };
    vec![term(server.project.as_str(), server.created), term(ALL, server.created)]
}

fn term(project: &str, created: Wall) -> String {
    format!("{project}/{:016x}", u64::MAX - created.as_micros())
}

/// The servers of `project`, or of all, the newest first; with `after`, only those that come behind that one. Each is
/// decoded when it is reached.
pub fn newest_first<'r>(
    reader: &'r Reader<'_>,
    project: Option<&str>,
    after: Option<&Server>,
) -> impl Iterator<Item = Result<Server, DecodeError>> + 'r {
    let project = project.unwrap_or(ALL);
    let after = after.map(|server| (term(project, server.created), server.key()));
    let keys = reader.keys_under(BY_AGE, format!("{project}/"), after);
    keys.filter_map(|key| reader.entry(key)).map(|entry| Ok(Server::decode_entry(entry)?.0))
}
