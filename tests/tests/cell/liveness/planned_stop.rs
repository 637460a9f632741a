//! Processes that are told to end leave; that is told apart from death, and no call fails for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cell_tests::{Crew, Watcher, pause, until};

use super::all_alive;

#[test]
fn who_is_told_to_end_leaves_and_creates_go_on() {
    let (cell, mut crew) = Crew::muster();
    let live = Crew::address();
    crew.finds(&[&live]);
    crew.serve("live", "liveness", &live, &[]);
    crew.serve("store", "store", "127.0.0.1:0", &[]);
    crew.serve("first", "scheduler", "127.0.0.1:0", &[]);
    crew.serve("second", "scheduler", "127.0.0.1:0", &[]);
    crew.serve("one", "coordinator", "127.0.0.1:0", &[]);
    crew.serve("api", "api", "127.0.0.1:0", &[]);
    let other = Crew::address();
    crew.serve("spare", "api", "127.0.0.1:0", &["--listen", &other]);
    crew.agent("agents", &["node-1", "node-2"], None, &[]);
    let watcher = Watcher::new(&cell.home(), &live);
    all_alive(
        &watcher,
        &["scheduler/first", "scheduler/second", "api/api", "api/spare", "agent/node-1", "agent/node-2"],
    );
    let admin = cell.admin();

    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let creates = scope.spawn(|| {
            let mut servers = Vec::new();
            while !ended.load(Ordering::Relaxed) && servers.len() < 9 {
                servers.push(admin.create(&format!("meanwhile-{}", servers.len())));
                admin.get("/compute/v2.1/servers").is(200);
                pause(Duration::from_millis(150));
            }
            servers
        });
        pause(Duration::from_millis(300));
        crew.terminate("first");
        crew.terminate("spare");
        ended.store(true, Ordering::Relaxed);
        let servers = creates.join().expect("no call failed");
        assert!(servers.len() > 1, "{servers:?}");
        for server in &servers {
            admin.reaches(server, "ACTIVE");
        }
    });
    for who in ["scheduler/first", "api/spare"] {
        until("it has left", super::WITHIN, || match watcher.status(who) {
            "left" => Ok(()),
            other => Err(other.to_owned()),
        });
        let said: Vec<&str> = watcher.events_of(who).iter().map(|event| event.status).collect();
        assert!(said.iter().all(|status| ["alive", "left"].contains(status)), "{who}: {said:?}");
    }
    let status = cell.operator(&["status"]);
    let first = status["processes"].as_array().into_iter().flatten().find(|one| one["identity"] == "scheduler/first");
    assert_eq!(first.map(|first| &first["evidence"]), Some(&"it said that it was leaving".into()), "{status}");
    crew.serve("first", "scheduler", "127.0.0.1:0", &[]);
    all_alive(&watcher, &["scheduler/first"]);
}
