//! Bare SQLite with group commit: one thread, one file, whatever waits shares one transaction and one sync.
//!
//! The same table, the same bytes, the same journal and sync modes, the same rule for copying the log, prepared
//! statements; a counter that a group moves is one row written once, as ours does it. What is missing is all that makes
//! it a store: nothing is decided, watched or read.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, params};
use tokio::sync::{mpsc, oneshot};

/// Commits that share one transaction at most, as ours.
const GROUP_MAX: usize = 512;
/// Pages in the log after which it is copied into the file, as ours.
const CHECKPOINT_PAGES: u32 = 4096;

/// A row to insert, and whom to tell that it is durable.
struct Insert {
    key: Bytes,
    value: Bytes,
    done: oneshot::Sender<()>,
}

/// A handle on the thread that writes, which ends with the last handle.
#[derive(Clone)]
pub struct Sqlite {
    queue: mpsc::Sender<Insert>,
}

impl Sqlite {
    /// A new file.
    pub fn create(path: &Path) -> anyhow::Result<Sqlite> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        // In memory: as with ours, no other process reads along.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "cache_size", -8192)?;
        connection.execute_batch(
            "CREATE TABLE entry (key BLOB NOT NULL PRIMARY KEY, kind INTEGER NOT NULL, value NOT NULL,
                 created INTEGER NOT NULL, modified INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
             INSERT INTO meta VALUES ('revision', 0);
             INSERT INTO entry VALUES (CAST('counter' AS BLOB), 1, 0, 0, 0);",
        )?;
        let (queue, waiting) = mpsc::channel(8192);
        std::thread::Builder::new().name("bare-sqlite".into()).spawn(move || write(&connection, waiting))?;
        Ok(Sqlite { queue })
    }

    /// Inserts a row and adds one to the counter; returns when both are durable.
    pub async fn commit(&self, key: Bytes, value: Bytes) -> anyhow::Result<()> {
        let (done, durable) = oneshot::channel();
        self.queue.send(Insert { key, value, done }).await?;
        Ok(durable.await?)
    }
}

/// Whoever waits learns of a failure by the thread's end.
fn write(connection: &Connection, mut waiting: mpsc::Receiver<Insert>) {
    let (mut revision, mut group) = (0i64, Vec::new());
    while waiting.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        if let Err(error) = insert(connection, &group, &mut revision) {
            eprintln!("bare SQLite failed: {error}");
            return;
        }
        for insert in group.drain(..) {
            let _gone_is_as_good = insert.done.send(());
        }
    }
}

fn insert(connection: &Connection, group: &[Insert], revision: &mut i64) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    {
        let mut put = connection.prepare_cached("INSERT INTO entry VALUES (?1, 0, ?2, ?3, ?3)")?;
        for one in group {
            *revision += 1;
            put.execute(params![&one.key[..], &one.value[..], *revision])?;
        }
    }
    connection
        .prepare_cached("UPDATE entry SET value = ?1, modified = ?1 WHERE key = CAST('counter' AS BLOB)")?
        .execute([*revision])?;
    connection.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'revision'")?.execute([*revision])?;
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}
