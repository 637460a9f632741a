//! What the file looks like, and reading all of it.
//!
//! `entry` has a row for each key, its place: `kind` 0 is a record (its value is bytes), 1 is a counter (its value is a
//! number). What `recent_a` and `recent_b` say of a key is newer, and the row with the highest `n` is the newest: `kind` 2
//! says that the key is gone, 3 that its place is right. `meta` holds the revision of the newest commit. The view
//! `readable` puts all this together, with keys as text, for people: `sqlite3 store.db 'SELECT * FROM readable'`, on a copy
//! or while no process has the store open.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, Row, types::ValueRef};
use store::core::Core;
use store::{Entry, Key, Revision, Value};

use crate::OpenError;
use crate::recent::{Recent, Rows, Said, Table};

/// `PRAGMA application_id` of our files: "MsSt".
const APPLICATION: i32 = 0x4d73_5374;
/// `PRAGMA user_version`: the layout below. Raised with each change of it.
const VERSION: i32 = 2;
/// The layout before, without recent rows.
const WITHOUT_RECENT: i32 = 1;

/// `kind` of a record.
pub(crate) const RECORD: i64 = 0;
/// `kind` of a counter.
pub(crate) const COUNTER: i64 = 1;
/// `kind` of a recent row: the key is gone.
pub(crate) const GONE: i64 = 2;
/// `kind` of a recent row: the place says what the key is.
pub(crate) const IN_PLACE: i64 = 3;

const LAYOUT: &str = "
    CREATE TABLE entry (
        key      BLOB NOT NULL PRIMARY KEY,
        kind     INTEGER NOT NULL CHECK (kind IN (0, 1)),
        value    NOT NULL,
        created  INTEGER NOT NULL,
        modified INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('revision', 0);";

const RECENT: &str = "
    CREATE TABLE recent_a (
        n        INTEGER PRIMARY KEY,
        key      BLOB NOT NULL,
        kind     INTEGER NOT NULL CHECK (kind IN (0, 1, 2, 3)),
        value,
        created  INTEGER NOT NULL,
        modified INTEGER NOT NULL
    );
    CREATE TABLE recent_b (
        n        INTEGER PRIMARY KEY,
        key      BLOB NOT NULL,
        kind     INTEGER NOT NULL CHECK (kind IN (0, 1, 2, 3)),
        value,
        created  INTEGER NOT NULL,
        modified INTEGER NOT NULL
    );
    DROP VIEW IF EXISTS readable;
    CREATE VIEW readable AS
        WITH recent AS (SELECT * FROM recent_a UNION ALL SELECT * FROM recent_b),
             newest AS (SELECT key, kind, value, created, modified, max(n) FROM recent GROUP BY key),
             state AS (
                 SELECT key, kind, value, created, modified FROM entry
                 WHERE key NOT IN (SELECT key FROM newest WHERE kind <> 3)
                 UNION ALL
                 SELECT key, kind, value, created, modified FROM newest WHERE kind < 2
             )
        SELECT CAST(key AS TEXT) AS key, CASE kind WHEN 0 THEN 'record' ELSE 'counter' END AS kind,
               value, created, modified
        FROM state;";

/// Creates the layout in an empty file, or checks that the file has it.
pub(crate) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_path_buf(), source };
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id").map_err(sqlite)?, number("user_version").map_err(sqlite)?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    match (application, version) {
        (0, 0) if tables == 0 => {
            // One transaction: a crash in here leaves an empty file or a whole layout.
            let transaction = connection.transaction().map_err(sqlite)?;
            transaction.execute_batch(LAYOUT).map_err(sqlite)?;
            transaction.execute_batch(RECENT).map_err(sqlite)?;
            transaction.pragma_update(None, "application_id", APPLICATION).map_err(sqlite)?;
            transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
            transaction.commit().map_err(sqlite)
        }
        (APPLICATION, VERSION) => Ok(()),
        (APPLICATION, WITHOUT_RECENT) => {
            let transaction = connection.transaction().map_err(sqlite)?;
            transaction.execute_batch(RECENT).map_err(sqlite)?;
            transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
            transaction.commit().map_err(sqlite)
        }
        (APPLICATION, found) => Err(OpenError::OtherVersion { path: path.to_path_buf(), found, known: VERSION }),
        (_, _) => Err(OpenError::NotAStore { path: path.to_path_buf() }),
    }
}

/// Reads the whole state, and what of it is not in its place.
pub(crate) fn load(connection: &Connection, path: &Path, rows_max: u64) -> Result<(Core, Recent), OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_path_buf(), source };
    let damaged = |what| OpenError::Damaged { path: path.to_path_buf(), what };
    let revision: i64 =
        connection.query_row("SELECT value FROM meta WHERE name = 'revision'", [], |row| row.get(0)).map_err(sqlite)?;
    let revision = Revision::from_u64(revision.cast_unsigned());
    let mut tables = [(Table::A, Rows::default()), (Table::B, Rows::default())];
    for (table, rows) in &mut tables {
        let select = format!("SELECT key, kind, value, created, modified, n FROM {} ORDER BY n", table.name());
        let mut statement = connection.prepare(&select).map_err(sqlite)?;
        let mut found = statement.query([]).map_err(sqlite)?;
        while let Some(row) = found.next().map_err(sqlite)? {
            let (key, said) = said(row, revision).map_err(damaged)?;
            rows.newest.insert(key, said);
            (rows.count, rows.last) = (rows.count + 1, row.get(5).map_err(sqlite)?);
        }
    }
    // The numbers rise through both tables: the one that was begun later has the last row.
    let [mut young, mut old] = tables;
    if old.1.last > young.1.last {
        std::mem::swap(&mut young, &mut old);
    }
    let last_row = young.1.last;
    let recent = Recent::load(rows_max, young.0, last_row, young.1, old.1);

    // In the order of the keys, which is the order of the file and what makes building the map cheap.
    let mut statement =
        connection.prepare("SELECT key, kind, value, created, modified FROM entry ORDER BY key").map_err(sqlite)?;
    let mut rows = statement.query([]).map_err(sqlite)?;
    let mut places = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        places.push(entry(row, revision).map_err(damaged)?);
    }
    let mut state: BTreeMap<Key, Entry> = places.into_iter().collect();
    for (key, said) in recent.newest() {
        match said {
            Said::Is(entry) => drop(state.insert(key.clone(), entry.clone())),
            Said::Gone => drop(state.remove(key)),
            Said::InPlace => {}
        }
    }
    Ok((Core::open(state, revision), recent))
}

fn said(row: &Row<'_>, newest: Revision) -> Result<(Key, Said), String> {
    let kind: i64 = row.get(1).map_err(|error| error.to_string())?;
    let key = || {
        let ValueRef::Blob(key) = row.get_ref(0).map_err(|error| error.to_string())? else {
            return Err("a key is not bytes".to_owned());
        };
        Ok(Key::new(Bytes::copy_from_slice(key)))
    };
    match kind {
        GONE => Ok((key()?, Said::Gone)),
        IN_PLACE => Ok((key()?, Said::InPlace)),
        _ => entry(row, newest).map(|(key, entry)| (key, Said::Is(entry))),
    }
}

fn entry(row: &Row<'_>, newest: Revision) -> Result<(Key, Entry), String> {
    let column = |index| row.get_ref(index).map_err(|error| error.to_string());
    let ValueRef::Blob(key) = column(0)? else { return Err("a key is not bytes".into()) };
    let key = Key::new(Bytes::copy_from_slice(key));
    let value = match (column(1)?, column(2)?) {
        (ValueRef::Integer(RECORD), ValueRef::Blob(bytes)) => Value::Record(Bytes::copy_from_slice(bytes)),
        (ValueRef::Integer(COUNTER), ValueRef::Integer(number)) if number >= 0 => {
            Value::Counter(number.cast_unsigned())
        }
        (_, _) => return Err(format!("the value of {key} does not fit its kind")),
    };
    let revision = |index| match column(index)? {
        ValueRef::Integer(number) if number > 0 && number.cast_unsigned() <= newest.as_u64() => {
            Ok(Revision::from_u64(number.cast_unsigned()))
        }
        ValueRef::Integer(_) | ValueRef::Null | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => {
            Err(format!("a revision of {key} is none of this store's, whose newest is {newest}"))
        }
    };
    let (created, modified) = (revision(3)?, revision(4)?);
    Ok((key, Entry { value, created, modified }))
}
