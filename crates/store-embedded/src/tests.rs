//! The embedded engine in one process: the conformance suite, what the file holds, and disks that are full or foreign.
//!
//! Kills are in `tests/kill.rs`, which needs processes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use async_trait::async_trait;
use rusqlite::Connection;
use store::conformance::{self, Subject};
use store::engine::Engine;
use store::{CommitError, Entry, Key, KeyRange, Revision, Store, Txn};
use tempfile::TempDir;
use world::World;

use crate::journal::SqliteJournal;
use crate::open::{connect, open_with, start};
use crate::{OpenError, Settings, Unobserved, lock::Lock, open, schema};

fn open_in(dir: &Path) -> Engine {
    open(&dir.join("store.db"), |reason| panic!("broken: {reason}")).unwrap()
}

fn create(name: &str, value: Vec<u8>) -> Txn {
    let mut txn = Txn::new();
    txn.create(Key::from(name), value);
    txn
}

async fn everything(store: &Engine) -> (Vec<(Key, Entry)>, Revision) {
    let page = store.range(&KeyRange::all(), usize::MAX).await.unwrap();
    (page.entries, page.revision)
}

struct Embedded {
    dir: TempDir,
    opened: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl Subject for Embedded {
    fn world(&self) -> World {
        world::os::OsHost::world(tokio::runtime::Handle::current(), self.dir.path())
    }

    async fn open_empty(&self) -> Arc<dyn Store> {
        let number = self.opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.dir.path().join(format!("{number}.db"));
        Arc::new(open(&path, |reason| panic!("broken: {reason}")).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&Embedded { dir: TempDir::new().unwrap(), opened: Default::default() }).await;
}

#[tokio::test]
async fn everything_is_there_when_it_is_opened_again() {
    let dir = TempDir::new().unwrap();
    let store = open_in(dir.path());
    let mut first = create("a/record", vec![0, 159, 146, 150]);
    first.put(Key::new(vec![0xff, 0]), "").add(Key::from("counter"), 5, None).add(Key::from("zero"), 0, None);
    first.put(Key::from("gone"), "");
    store.commit(first).await.unwrap();
    let mut second = create("b", vec![]);
    second.add(Key::from("counter"), i64::MAX - 5, None).delete(Key::from("gone"));
    store.commit(second).await.unwrap();
    let before = everything(&store).await;
    store.close().await;

    let store = open_in(dir.path());
    assert_eq!(everything(&store).await, before);
    // The history is not kept: who was away lists again.
    assert!(store.watch(&KeyRange::all(), Revision::ZERO).await.is_err());
    assert_eq!(store.commit(create("c", vec![])).await, Ok(before.1.next()), "revisions go on where they were");
    let mut only_deletes = Txn::new();
    only_deletes.remove(Key::from("c"), before.1.next());
    let last = store.commit(only_deletes).await.unwrap();
    store.close().await;
    let store = open_in(dir.path());
    assert_eq!(store.head().await, Ok(last), "also when the newest commit left no entry");
    assert_eq!(everything(&store).await.0, before.0);
}

#[tokio::test]
async fn one_process_at_a_time_and_for_nobody_else_to_read() {
    let dir = TempDir::new().unwrap();
    let store = open_in(dir.path());
    store.commit(create("a", vec![])).await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    let second = open(&dir.path().join("store.db"), |_| {});
    let Err(OpenError::InUse { holder, .. }) = second else { panic!("the store was opened twice") };
    assert_eq!(holder, format!("process {}", std::process::id()));
    store.close().await;
    open_in(dir.path());
}

#[tokio::test]
async fn the_file_can_be_read_by_hand() {
    let dir = TempDir::new().unwrap();
    let store = open_in(dir.path());
    let mut txn = create("server/1", b"text".to_vec());
    txn.add(Key::from("usage"), 7, None);
    store.commit(txn).await.unwrap();
    store.close().await;
    let file = Connection::open(dir.path().join("store.db")).unwrap();
    let rows = |sql: &str| -> Vec<(String, String, String)> {
        let mut statement = file.prepare(sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    };
    let expected =
        [("server/1", "record", "text"), ("usage", "counter", "7")].map(|(a, b, c)| (a.into(), b.into(), c.into()));
    assert_eq!(rows("SELECT key, kind, CAST(value AS TEXT) FROM readable ORDER BY key"), expected);
}

fn refusal(path: &Path) -> String {
    let Err(error) = open(path, |_| {}) else { panic!("{path:?} was opened") };
    error.to_string()
}

#[tokio::test]
async fn foreign_newer_and_damaged_files_are_refused_and_not_touched() {
    let dir = TempDir::new().unwrap();
    let path: PathBuf = dir.path().join("store.db");
    std::fs::write(&path, "this is no database, only a file of some length".repeat(100)).unwrap();
    assert!(refusal(&path).contains("SQLite cannot open"), "{}", refusal(&path));

    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE song (title)").unwrap();
    assert!(refusal(&path).contains("another program"), "{}", refusal(&path));

    std::fs::remove_file(&path).unwrap();
    let store = open_in(dir.path());
    store.commit(create("a", vec![])).await.unwrap();
    store.close().await;
    let tamper = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    tamper("PRAGMA user_version = 3");
    assert!(refusal(&path).contains("layout version 3, this release knows 2"), "{}", refusal(&path));
    tamper("PRAGMA user_version = 2; UPDATE recent_a SET kind = 1");
    assert!(refusal(&path).contains("the value of a does not fit its kind"), "{}", refusal(&path));
    tamper("UPDATE recent_a SET kind = 0, modified = 9");
    assert!(refusal(&path).contains("none of this store's"), "{}", refusal(&path));
    tamper("UPDATE recent_a SET modified = 1; INSERT INTO entry VALUES (x'62', 1, 'text', 1, 1)");
    assert!(refusal(&path).contains("the value of b does not fit its kind"), "{}", refusal(&path));
}

#[tokio::test]
async fn a_file_of_the_layout_before_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    let file = Connection::open(&path).unwrap();
    file.execute_batch(
        "CREATE TABLE entry (key BLOB NOT NULL PRIMARY KEY, kind INTEGER NOT NULL, value NOT NULL,
             created INTEGER NOT NULL, modified INTEGER NOT NULL) WITHOUT ROWID;
         CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
         CREATE VIEW readable AS SELECT CAST(key AS TEXT) AS key, value FROM entry;
         INSERT INTO entry VALUES (x'61', 0, x'01', 3, 4), (x'62', 1, 7, 5, 5);
         INSERT INTO meta VALUES ('revision', 5);
         PRAGMA application_id = 1299403636; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(file);
    let store = open_in(dir.path());
    assert_eq!(store.commit(create("c", vec![])).await, Ok(Revision::from_u64(6)));
    let before = everything(&store).await;
    assert_eq!(before.0.len(), 3);
    store.close().await;
    assert_eq!(everything(&open_in(dir.path())).await, before);
}

async fn found_in(dir: &Path) -> (Vec<(Key, Entry)>, Revision) {
    let store = open_in(dir);
    let found = everything(&store).await;
    store.close().await;
    found
}

/// Small tables, so that many generations pass; large and small values, deletions and counters; opened again and again,
/// orderly and as a crash leaves it.
#[tokio::test]
async fn whatever_is_folded_when_the_state_is_the_same() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    let mut seed = 7_u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut copies = 0;
    for round in 0..60 {
        let settings = Settings { recent_rows_max: 1 + draw(50) };
        let broken = |reason| panic!("broken: {reason}");
        let store = open_with(&path, broken, Unobserved, settings).unwrap();
        for commit in 0..draw(40) {
            let mut txn = create(&format!("once/{round:03}/{commit:03}"), vec![1; 10]);
            for _ in 0..draw(6) {
                let key = Key::from(format!("key/{}", draw(30)));
                match draw(4) {
                    0 => txn.delete(key),
                    1 => txn.put(key, vec![2; 3_000]),
                    _ => txn.put(key, vec![3; 20]),
                };
            }
            txn.add(Key::from("count"), 1, None);
            // A key that is named twice in one transaction is refused: nothing is so.
            let _refused = store.commit(txn).await;
        }
        let before = everything(&store).await;
        if draw(2) == 0 {
            // What a kill leaves: the files as they are.
            let copy = dir.path().join(format!("copy-{copies}"));
            std::fs::create_dir(&copy).unwrap();
            for name in ["store.db", "store.db-wal"] {
                std::fs::copy(dir.path().join(name), copy.join(name)).unwrap();
            }
            copies += 1;
            assert!(found_in(&copy).await == before, "round {round}: another state after a kill");
        }
        store.close().await;
        let file = Connection::open(&path).unwrap();
        let shown: i64 = file.query_row("SELECT count(*) FROM readable", [], |row| row.get(0)).unwrap();
        assert_eq!(usize::try_from(shown).unwrap(), before.0.len(), "round {round}");
        drop(file);
        assert!(found_in(dir.path()).await == before, "round {round}: another state when opened again");
    }
    assert!(copies > 10);
}

#[tokio::test]
async fn without_space_commits_are_refused_until_there_is_some() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    let lock = Lock::take(&path).unwrap();
    let mut connection = connect(&path).unwrap();
    schema::prepare(&mut connection, &path).unwrap();
    // SQLite then answers as it does when the disk has no more room for the file.
    connection.pragma_update(None, "max_page_count", 60).unwrap();
    let (core, recent) = schema::load(&connection, &path, 40).unwrap();
    let store = start(
        core,
        SqliteJournal::new(connection, recent, lock, Box::new(crate::open::Unobserved)).unwrap(),
        |reason| panic!("broken: {reason}"),
    )
    .unwrap();

    let mut accepted = Vec::new();
    let refused = loop {
        match store.commit(create(&format!("key/{:04}", accepted.len()), vec![7; 10_000])).await {
            Ok(revision) => accepted.push(revision),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CommitError::NotNow { .. }), "{refused:?}");
    assert!(accepted.len() > 10);
    let before = everything(&store).await;
    assert_eq!(before.0.len(), accepted.len(), "reads go on, and show what was accepted");
    let mut delete = Txn::new();
    delete.remove(Key::from("key/0000"), accepted[0]);
    store.commit(delete).await.expect("there is room for making room");
    store.commit(create("late", vec![7; 5_000])).await.expect("and then for something new");
    let before = everything(&store).await;
    store.close().await;
    assert_eq!(everything(&open_in(dir.path())).await, before);
}

#[tokio::test]
async fn a_failed_write_of_unknown_outcome_ends_the_engine_and_says_so() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    let lock = Lock::take(&path).unwrap();
    let mut connection = connect(&path).unwrap();
    schema::prepare(&mut connection, &path).unwrap();
    let (core, recent) = schema::load(&connection, &path, 40).unwrap();
    // A commit that SQLite reports as failed although it happened.
    let mut journal = SqliteJournal::new(connection, recent, lock, Box::new(crate::open::Unobserved)).unwrap();
    journal.fail_after_commit();
    let (sender, broken) = mpsc::channel();
    let store = start(core, journal, move |reason| sender.send(reason).unwrap()).unwrap();
    let unknown = store.commit(create("a", vec![])).await;
    assert!(matches!(unknown, Err(CommitError::Unknown { .. })), "{unknown:?}");
    broken.recv_timeout(std::time::Duration::from_secs(20)).expect("the owner is told");
    store.get(&Key::from("a")).await.expect_err("nobody knows whether it is there");
    let store = open_in(dir.path());
    assert!(store.get(&Key::from("a")).await.unwrap().is_some(), "opening again tells");
}

#[tokio::test]
async fn the_log_is_copied_into_the_file_and_stays_short() {
    let dir = TempDir::new().unwrap();
    let store = open_in(dir.path());
    let (mut last, mut bytes) = (Revision::ZERO, 0);
    for number in 0..120_u64 {
        let mut txn = create(&format!("once/{number}"), vec![]);
        // The same two keys again and again: the state stays small, what is written does not.
        txn.put(Key::from("large/1"), vec![1; 250 * 1024]).put(Key::from("large/2"), vec![2; 250 * 1024]);
        bytes += 500 * 1024;
        last = store.commit(txn).await.unwrap();
    }
    let log = std::fs::metadata(dir.path().join("store.db-wal")).unwrap().len();
    assert!(log < bytes / 2, "{log} bytes of log after {bytes} bytes of values");
    store.close().await;
    assert_eq!(open_in(dir.path()).head().await, Ok(last));
}
