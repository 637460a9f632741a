//! What the file looks like, and reading all of it.
//!
//! `entry` holds the newest state, one row a key: `kind` 0 is a record (its value is bytes), 1 is a counter (its value is a
//! number). `meta` holds the revision of the newest commit. The view `readable` shows keys as text, for people:
//! `sqlite3 store.db 'SELECT * FROM readable'`, on a copy or while no process has the store open.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, Row, types::ValueRef};
use store::core::Core;
use store::{Entry, Key, Revision, Value};

use crate::OpenError;

/// `PRAGMA application_id` of our files: "MsSt".
const APPLICATION: i32 = 0x4d73_5374;
/// `PRAGMA user_version`: the layout below. Raised with each change of it.
const VERSION: i32 = 1;

/// `kind` of a record.
pub(crate) const RECORD: i64 = 0;
/// `kind` of a counter.
pub(crate) const COUNTER: i64 = 1;

const LAYOUT: &str = "
    CREATE TABLE entry (
        key      BLOB NOT NULL PRIMARY KEY,
        kind     INTEGER NOT NULL CHECK (kind IN (0, 1)),
        value    NOT NULL,
        created  INTEGER NOT NULL,
        modified INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('revision', 0);
    CREATE VIEW readable AS
        SELECT CAST(key AS TEXT) AS key, CASE kind WHEN 0 THEN 'record' ELSE 'counter' END AS kind,
               value, created, modified
        FROM entry;";

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
            transaction.pragma_update(None, "application_id", APPLICATION).map_err(sqlite)?;
            transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
            transaction.commit().map_err(sqlite)
        }
        (APPLICATION, VERSION) => Ok(()),
        (APPLICATION, found) => Err(OpenError::OtherVersion { path: path.to_path_buf(), found, known: VERSION }),
        (_, _) => Err(OpenError::NotAStore { path: path.to_path_buf() }),
    }
}

/// Reads the whole state.
pub(crate) fn load(connection: &Connection, path: &Path) -> Result<Core, OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_path_buf(), source };
    let revision: i64 =
        connection.query_row("SELECT value FROM meta WHERE name = 'revision'", [], |row| row.get(0)).map_err(sqlite)?;
    let revision = Revision::from_u64(revision.cast_unsigned());
    // In the order of the keys, which is the order of the file and what makes building the map cheap.
    let mut statement =
        connection.prepare("SELECT key, kind, value, created, modified FROM entry ORDER BY key").map_err(sqlite)?;
    let mut rows = statement.query([]).map_err(sqlite)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(sqlite)? {
        entries.push(entry(row, revision).map_err(|what| OpenError::Damaged { path: path.to_path_buf(), what })?);
    }
    Ok(Core::open(entries, revision))
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
