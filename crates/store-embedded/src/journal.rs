//! One group of commits is one SQLite transaction.
//!
//! Only the state that the group leaves behind is written: a counter that a hundred commits of the group moved is one row
//! written once. It is appended to the recent rows, and some older rows are brought to their places with it: see
//! [`crate::recent`]. The commits themselves are history, which this engine keeps in memory only.
//!
//! What a kill leaves: before `COMMIT` returns, the state before the group or after it, as SQLite's log decides when it is
//! opened; afterwards the state after it. A checkpoint only copies what the log holds, and may be killed anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use rusqlite::hooks::Wal;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, params, wal::CheckpointMode};
use store::core::Pending;
use store::engine::{AppendError, Journal};
use store::{Entry, Key, Revision, Value};

use crate::lock::Lock;
use crate::open::Observer;
use crate::recent::{Recent, Said, Slice};
use crate::schema::{COUNTER, GONE, IN_PLACE, RECORD};

/// Pages of 4 KiB in the log after which it is copied into the file. More: longer to open; fewer: more often written twice.
const CHECKPOINT_PAGES: u32 = 4096;

/// The SQLite file of an open store.
pub(crate) struct SqliteJournal {
    connection: Connection,
    recent: Recent,
    /// Pages in the log, as of the last commit.
    log_pages: Arc<AtomicU32>,
    /// The last group found no space.
    full: bool,
    observer: Box<dyn Observer>,
    /// Released after the connection is closed: fields are dropped in this order.
    _lock: Lock,
}

impl SqliteJournal {
    pub(crate) fn new(
        mut connection: Connection,
        recent: Recent,
        lock: Lock,
        observer: Box<dyn Observer>,
    ) -> rusqlite::Result<SqliteJournal> {
        let log_pages = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&log_pages);
        connection.wal_hook(Some(move |_: &mut Wal, pages: std::ffi::c_int| {
            seen.store(pages.cast_unsigned(), Ordering::Relaxed);
            Ok(())
        }))?;
        connection.set_prepared_statement_cache_capacity(16);
        Ok(SqliteJournal { connection, recent, log_pages, full: false, observer, _lock: lock })
    }

    /// Copies the log into the file once it is long, or when space is short, since a copied log is written again from its
    /// start. It fails like a commit does, and must be heeded like one: after a failed sync the kernel may call the next
    /// one a success.
    fn checkpoint_if_due(&mut self) -> Result<(), AppendError> {
        if !self.full && self.log_pages.load(Ordering::Relaxed) < CHECKPOINT_PAGES {
            return Ok(());
        }
        match self.connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::RESTART) {
            Ok(_) => {
                self.log_pages.store(0, Ordering::Relaxed);
                Ok(())
            }
            // No page that the log cannot bring again was lost, and the log itself may still have room.
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(AppendError::Unknown(format!("copying the log: {error}"))),
        }
    }

    /// From the next commit on, SQLite reports each one as failed although it happened.
    #[cfg(test)]
    pub(crate) fn fail_after_commit(&mut self) {
        let fail = |_: &mut Wal, _: std::ffi::c_int| Err(rusqlite::Error::InvalidQuery);
        self.connection.wal_hook(Some(fail)).expect("a hook can always be set");
    }

    fn write(&self, group: &[(&Key, Option<&Entry>, bool)], revision: Revision, slice: &Slice) -> rusqlite::Result<()> {
        let mut put = self.connection.prepare_cached(
            "INSERT INTO entry (key, kind, value, created, modified) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (key) DO UPDATE SET value = ?3, kind = ?2, created = ?4, modified = ?5",
        )?;
        let mut delete = self.connection.prepare_cached("DELETE FROM entry WHERE key = ?1")?;
        let mut place = |key: &Key, entry: Option<&Entry>| match entry {
            Some(entry) => write_entry(&mut put, key, entry),
            None => delete.execute([key.as_bytes()]).map(drop),
        };
        // Older rows first: the group may have a newer value for the same place.
        self.recent.folds(slice).try_for_each(|(key, entry)| place(key, entry))?;
        for (key, entry, _) in group.iter().filter(|(.., at_once)| *at_once) {
            place(key, *entry)?;
        }
        if let Some(emptied) = slice.empties {
            self.connection.prepare_cached(&format!("DELETE FROM {}", emptied.name()))?.execute([])?;
        }
        // Last, because what goes at once may have made the room that rows need.
        let mut append = self.connection.prepare_cached(&format!(
            "INSERT INTO {} (n, key, kind, value, created, modified) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            self.recent.table().name()
        ))?;
        for (number, (key, entry, at_once)) in (self.recent.next_row()..).zip(group) {
            append_row(&mut append, number, key, *entry, *at_once)?;
        }
        let revision = signed(revision);
        self.connection.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'revision'")?.execute([revision])?;
        Ok(())
    }

    fn run(&self, statement: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(statement)?.execute([]).map(drop)
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&mut self, group: &Pending) -> Result<(), AppendError> {
        self.observer.begins();
        let appended = self.write_group(group);
        let size = |entry: Option<&Entry>| entry.and_then(Entry::record).map_or(8, |bytes| bytes.len());
        let bytes = group.changes().map(|(key, entry)| key.as_bytes().len() + size(entry)).sum();
        self.observer.ended(group.batches().len(), bytes);
        appended
    }
}

impl SqliteJournal {
    fn write_group(&mut self, group: &Pending) -> Result<(), AppendError> {
        self.checkpoint_if_due()?;
        let Some(revision) = group.revision() else { return Ok(()) };
        // Without space what goes makes room at once, and folding waits.
        let at_once = |entry: Option<&Entry>| self.full || Recent::at_once(entry);
        let changes: Vec<_> = group.changes().map(|(key, entry)| (key, entry, at_once(entry))).collect();
        let slice = if self.full { Slice::default() } else { self.recent.slice(changes.len()) };
        let written = self
            .run("BEGIN IMMEDIATE")
            .and_then(|()| self.write(&changes, revision, &slice))
            .and_then(|()| self.run("COMMIT"));
        let Err(error) = written else {
            let said = changes.into_iter().map(|(key, entry, at_once)| (key.clone(), Said::of(entry, at_once)));
            self.recent.done(said.collect(), &slice);
            self.full = false;
            return Ok(());
        };
        // Without space SQLite cannot write the frame that makes a transaction count, and so nothing happened. It takes
        // the transaction back by itself in most cases; in the others it is told to.
        let undone = self.connection.is_autocommit() || self.run("ROLLBACK").is_ok();
        if is_full(&error) && undone {
            self.full = true;
            tracing::warn!(error = %error, "the store's disk is full, commits are refused");
            return Err(AppendError::Refused("no space left for the store".into()));
        }
        Err(AppendError::Unknown(error.to_string()))
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        // Only to leave one tidy file. Closing the connection does the same, but would keep a failure to itself.
        if let Err(error) = self.connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE) {
            tracing::info!(error = %error, "the store was closed without copying its log; the next open does that");
        }
    }
}

fn write_entry(put: &mut CachedStatement<'_>, key: &Key, entry: &Entry) -> rusqlite::Result<()> {
    let (kind, value) = columns(entry);
    put.execute(params![key.as_bytes(), kind, value, signed(entry.created), signed(entry.modified)]).map(drop)
}

fn append_row(
    append: &mut CachedStatement<'_>,
    number: i64,
    key: &Key,
    entry: Option<&Entry>,
    at_once: bool,
) -> rusqlite::Result<()> {
    let (kind, value) = match entry {
        Some(_) if at_once => (IN_PLACE, ToSqlOutput::Borrowed(ValueRef::Null)),
        Some(entry) => columns(entry),
        None => (GONE, ToSqlOutput::Borrowed(ValueRef::Null)),
    };
    let (created, modified) = entry.map_or((0, 0), |entry| (signed(entry.created), signed(entry.modified)));
    append.execute(params![number, key.as_bytes(), kind, value, created, modified]).map(drop)
}

fn columns(entry: &Entry) -> (i64, ToSqlOutput<'_>) {
    let (kind, value) = match &entry.value {
        Value::Record(bytes) => (RECORD, ValueRef::Blob(bytes)),
        Value::Counter(number) => (COUNTER, ValueRef::Integer(number.cast_signed())),
    };
    (kind, ToSqlOutput::Borrowed(value))
}

/// SQLite's integers have a sign; no cell lives long enough to need it.
fn signed(revision: Revision) -> i64 {
    revision.as_u64().cast_signed()
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}
