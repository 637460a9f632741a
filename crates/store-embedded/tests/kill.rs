//! Real processes, real kills: whatever was acknowledged is there, and nothing is there by half.
//!
//! The parent starts this same test binary as its child; a child commits in a loop from several tasks and prints what was
//! acknowledged. It is killed with SIGKILL at some moment, and the store is opened again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use store::{CommitError, Key, KeyRange, Revision, Store, Txn};
use store_embedded::{Settings, Unobserved, open, open_with};

/// Names the store's directory to a child; without it, the child's test has nothing to do.
const CHILD_DIR: &str = "MAINSTAY_TEST_STORE_DIR";
/// Where the child's names begin, so that those of two children differ.
const CHILD_FIRST: &str = "MAINSTAY_TEST_STORE_FIRST";
const KILLS: u64 = 25;
const WRITERS: u64 = 16;
/// What each commit of the killed child writes besides: about 270 commits then fill SQLite's log, so that kills also meet
/// the copying of a long log into the file.
const BULK_BYTES: usize = 60_000;

fn record(number: u64) -> Key {
    Key::from(format!("record/{number:08}"))
}

/// A record and the counter that counts all records, moved at once; every third one takes the record before away.
fn commit_number(number: u64) -> Txn {
    let mut txn = Txn::new();
    txn.create(record(number), vec![7; 300]);
    if number % 3 == 2 {
        txn.exists(record(number - 1)).delete(record(number - 1));
    } else {
        txn.add(Key::from("count"), 1, None);
    }
    txn
}

fn start(test: &str, dir: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

/// The child: commits until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_commits() {
    let Some(dir) = child_dir() else { return };
    let first: u64 = std::env::var(CHILD_FIRST).unwrap().parse().unwrap();
    // Small, so that kills also meet the folding of recent rows.
    let settings = Settings { recent_rows_max: 100 };
    let broken = |reason| panic!("broken: {reason}");
    let store = Arc::new(open_with(&dir.join("store.db"), broken, Unobserved, settings).unwrap());
    let writer = |writer: u64| {
        let store = Arc::clone(&store);
        async move {
            for round in 0.. {
                let start = first + (round * WRITERS + writer) * 3;
                for number in start..start + 3 {
                    let mut txn = commit_number(number);
                    txn.put(Key::from(format!("bulk/{}", number % 64)), vec![7; BULK_BYTES]);
                    let revision = store.commit(txn).await.unwrap();
                    // One write a line: the kill may cut the last line only.
                    std::io::stdout().write_all(format!("acked {number} {revision}\n").as_bytes()).unwrap();
                }
            }
        }
    };
    futures_util::future::join_all((0..WRITERS).map(writer)).await;
}

async fn check(dir: &Path, acked: &BTreeSet<(u64, u64)>) -> u64 {
    let store = open(&dir.join("store.db"), |reason| panic!("broken: {reason}")).unwrap();
    let page = store.range(&KeyRange::prefix(b"record/"), usize::MAX).await.unwrap();
    let count = store.get(&Key::from("count")).await.unwrap().map_or(0, |entry| entry.counter());
    assert_eq!(count, page.entries.len() as u64, "the counter is not the sum of the records");
    let found: BTreeSet<Key> = page.entries.into_iter().map(|(key, _)| key).collect();
    for (number, revision) in acked {
        assert!(Revision::from_u64(*revision) <= page.revision, "revision {revision} was acknowledged");
        let taken_away = number % 3 == 1 && !found.contains(&record(*number));
        assert!(
            found.contains(&record(*number)) || (taken_away && found.contains(&record(number + 1))),
            "record {number}, acknowledged at revision {revision}, is gone"
        );
        if number % 3 == 2 {
            assert!(!found.contains(&record(number - 1)), "an acknowledged deletion of {} is undone", number - 1);
        }
    }
    store.close().await;
    count
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    if child_dir().is_some() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let mut acked = BTreeSet::new();
    let mut records = 0;
    for kill in 0..KILLS {
        let before = acked.len();
        let mut child = start("child_that_commits", dir.path(), kill * 3_000_000);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // At a moment that differs from kill to kill, and never before the first reply. What the child wrote until it
        // died stays in the pipe and counts as acknowledged too.
        while (acked.len() - before) as u64 <= (kill * 37) % 400 {
            parse(&lines.next().expect("the child goes on until it is killed").unwrap(), &mut acked);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(|line| parse(&line, &mut acked));
        records = check(dir.path(), &acked).await;
    }
    println!("{KILLS} kills, {} acknowledged transactions, {records} records", acked.len());
}

/// Adds an acknowledgement; other lines are the test runner's, and a last one may be cut.
fn parse(line: &str, acked: &mut BTreeSet<(u64, u64)>) {
    if let Some(numbers) = line.split("acked ").nth(1)
        && let Some((number, revision)) = numbers.split_once(' ')
        && let (Ok(number), Ok(revision)) = (number.parse(), revision.parse())
    {
        acked.insert((number, revision));
    }
}

/// The child: fills its disk, says so, frees space when it is told to, and goes on.
#[tokio::test]
async fn child_on_a_small_disk() {
    let Some(dir) = child_dir() else { return };
    // This process is in a mount namespace of its own, so nobody else sees the small disk and it ends with us.
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&dir).status().unwrap();
    assert!(mounted.success(), "no small disk could be made");
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let store = open(&dir.join("store.db"), |reason| panic!("broken: {reason}")).unwrap();
    let mut number = 0;
    let refused = loop {
        match store.commit(commit_number(number)).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CommitError::NotNow { .. }), "{refused:?}");
    let full_at = number;
    assert!(full_at > 50, "it was full after {full_at} commits already");
    for _ in 0..3 {
        assert!(matches!(store.commit(commit_number(number)).await, Err(CommitError::NotNow { .. })), "still full");
    }
    assert!(store.get(&record(number - 1)).await.unwrap().is_some(), "reads go on");
    std::fs::remove_file(&ballast).unwrap();
    while number < full_at + 30 {
        store.commit(commit_number(number)).await.expect("there is space again");
        number += 1;
    }
    store.close().await;
    let acked = (0..number).map(|number| (number, number + 1)).collect();
    check(&dir, &acked).await;
    println!("went on: full after {full_at} commits, {number} in the end");
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    if child_dir().is_some() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let may = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        // `without_space_commits_are_refused_until_there_is_some` covers the engine's part everywhere.
        println!("this machine lets us have no mount namespace: skipped");
        return;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["child_on_a_small_disk", "--exact", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("went on"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
