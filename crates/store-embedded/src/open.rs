//! Opening a store: take the lock, read everything, start the committer's thread.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use store::core::Core;
use store::engine::Engine;

use crate::journal::SqliteJournal;
use crate::lock::Lock;
use crate::schema;

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{store:?} is in use by {holder} (it holds {lock:?}): stop that process first")]
    InUse {
        /// The store's file.
        store: PathBuf,
        /// The lock's file.
        lock: PathBuf,
        /// Who wrote into it that they hold it.
        holder: String,
    },
    /// The file's layout is not this release's.
    #[error("{path:?} has layout version {found}, this release knows {known}: use the release that wrote it")]
    OtherVersion {
        /// The store's file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// The one version known here.
        known: i32,
    },
    /// The file is an SQLite database, but of something else.
    #[error("{path:?} is the database of another program, not a store")]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file holds what no store ever writes.
    #[error("{path:?} is damaged: {what}; restore it from a backup")]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// SQLite failed.
    #[error("SQLite cannot open or read {path:?}")]
    Sqlite {
        /// The store's file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
    /// The operating system failed.
    #[error("{path:?} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

/// Is told, from the committer's thread, of every group of commits that is written.
pub trait Observer: Send {
    /// A group is about to be written.
    fn begins(&mut self);
    /// It was written and synced, or refused: so many commits, and bytes of keys and values.
    fn ended(&mut self, commits: usize, bytes: usize);
}

/// How a store is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Changes that are appended to one table of recent rows before the other one is begun. More: fewer bytes written;
    /// fewer: less memory, and quicker to open. Any number is right.
    pub recent_rows_max: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        // Some seconds of a busy cell, and a tenth of a second when it is opened.
        Settings { recent_rows_max: 65_536 }
    }
}

/// Takes no note.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn begins(&mut self) {}
    fn ended(&mut self, _commits: usize, _bytes: usize) {}
}

/// Opens the store in the file `path`, or creates it there; its directory must exist.
///
/// `on_broken` is called, at most once and from the committer's thread, when a write failed in a way that leaves open what
/// is on the disk. The engine refuses everything from then on; the process must end and open the store again.
///
/// The engine ends, and the file is released, when [`Engine::close`] returns, or some time after the last handle is gone.
pub fn open(path: &Path, on_broken: impl FnOnce(String) + Send + 'static) -> Result<Engine, OpenError> {
    open_with(path, on_broken, Unobserved, Settings::default())
}

/// As [`open`]; `observer` is told of every group that is written, and the store is kept as `settings` say. They may be
/// others each time.
pub fn open_with(
    path: &Path,
    on_broken: impl FnOnce(String) + Send + 'static,
    observer: impl Observer + 'static,
    settings: Settings,
) -> Result<Engine, OpenError> {
    let lock = Lock::take(path)?;
    let mut connection = connect(path)?;
    schema::prepare(&mut connection, path)?;
    let (core, recent) = schema::load(&connection, path, settings.recent_rows_max)?;
    let journal = SqliteJournal::new(connection, recent, lock, Box::new(observer))
        .map_err(|source| OpenError::Sqlite { path: path.to_path_buf(), source })?;
    start(core, journal, on_broken).map_err(|source| OpenError::Io { path: path.to_path_buf(), source })
}

/// Runs the committer over `journal` on a thread of its own.
pub(crate) fn start(
    core: Core,
    journal: SqliteJournal,
    on_broken: impl FnOnce(String) + Send + 'static,
) -> std::io::Result<Engine> {
    let (engine, committer) = Engine::new(core, journal);
    let run = move || {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| futures_executor::block_on(committer.run())));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => on_broken(error.to_string()),
            Err(_) => on_broken("the committer panicked".into()),
        }
    };
    std::thread::Builder::new().name("store-committer".into()).spawn(run)?;
    Ok(engine)
}

pub(crate) fn connect(path: &Path) -> Result<Connection, OpenError> {
    let io = |source| OpenError::Io { path: path.to_path_buf(), source };
    let sqlite = |source| OpenError::Sqlite { path: path.to_path_buf(), source };
    // Made by us, so that it is nobody else's to read; SQLite gives its log the same mode.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    let set = |name, value: &dyn rusqlite::ToSql| connection.pragma_update(None, name, value).map_err(sqlite);
    // Before the log is first touched: its index then lives in memory, and no other program can write behind our back.
    set("locking_mode", &"EXCLUSIVE")?;
    set("journal_mode", &"WAL")?;
    // FULL: every commit syncs the log before it returns.
    set("synchronous", &"FULL")?;
    // The journal checkpoints by itself, where it can tell a failure.
    set("wal_autocheckpoint", &0)?;
    set("temp_store", &"MEMORY")?;
    // KiB. Only upserts read pages; the state itself is in memory already.
    set("cache_size", &-8192)?;
    // The names of new files must be as durable as what is in them.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
    Ok(connection)
}
