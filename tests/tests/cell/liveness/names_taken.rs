//! Names that are somebody's, and certificates that are somebody else's.

use std::path::PathBuf;
use std::time::Duration;

use cell_tests::{Cell, Crew, Watcher, issue, pause, until};

use super::{all_alive, becomes, doubts, node};

/// Longer than a process may need to say whether it is there.
const LOOKED_AT: Duration = Duration::from_secs(4);

/// A home on another machine: what an agent is given, and not the key of the authority.
fn another_home(cell: &Cell, name: &str) -> PathBuf {
    let home = cell.dir().join(name);
    std::fs::create_dir_all(home.join("pki")).expect("a directory");
    for file in ["cell.json", "pki/authority.crt", "pki/agent-node-1.crt", "pki/agent-node-1.key"] {
        std::fs::copy(cell.home().join(file), home.join(file)).expect("a file of the home");
    }
    std::fs::create_dir_all(home.join("agents")).expect("a directory");
    std::fs::create_dir_all(home.join("run")).expect("a directory");
    home
}

#[test]
fn a_living_process_keeps_its_name() {
    let (cell, mut crew) = Crew::muster();
    let main = Crew::address();
    crew.serve("main", "control", &main, &[]);
    crew.finds(&[&main]);
    crew.agent("a", &["node-1"], None, &[]);
    let before = becomes(&cell, "node-1", "alive");
    let watcher = Watcher::new(&cell.home(), &main);
    all_alive(&watcher, &["agent/node-1"]);
    let first = watcher.now().remove("agent/node-1").map(|event| event.session);

    let home = another_home(&cell, "elsewhere").display().to_string();
    crew.agent("thief", &["node-1"], None, &["--home", &home]);
    pause(LOOKED_AT);
    let admin = cell.admin();
    let server = admin.create("on-the-first");
    admin.reaches(&server, "ACTIVE");
    assert!(cell.guests().contains_key(&server), "the first is still who is called");
    assert_eq!(node(&cell, "node-1")["endpoint"], before["endpoint"]);
    let doubted = doubts(&watcher, &[]);
    assert!(doubted.is_empty(), "{doubted:?}");
    assert_eq!(watcher.now().remove("agent/node-1").map(|event| event.session), first);
    assert!(crew.log("thief").contains("the name is that of a process that is alive"), "{}", crew.log("thief"));

    // Who waits gets the name when it is free.
    crew.kill("a");
    until("the next has the name", super::WITHIN, || {
        let now = watcher.now().remove("agent/node-1");
        match now.filter(|now| now.status == "alive" && Some(now.session) > first) {
            Some(_) => Ok(()),
            None => Err(format!("{:?}", watcher.events_of("agent/node-1"))),
        }
    });
}

#[test]
fn a_certificate_for_another_role_or_that_has_ended_is_of_no_use() {
    let (cell, mut crew) = Crew::muster();
    let main = Crew::address();
    crew.serve("main", "control", &main, &[]);
    crew.finds(&[&main]);
    let watcher = Watcher::new(&cell.home(), &main);

    // An agent with a scheduler's certificate.
    let wrong = another_home(&cell, "wrong");
    let put = |home: &PathBuf, (certificate, key): (String, String)| {
        std::fs::write(home.join("pki/agent-node-1.crt"), certificate).expect("a file");
        std::fs::write(home.join("pki/agent-node-1.key"), key).expect("a file");
    };
    put(&wrong, issue(&cell.home(), "scheduler/node-1", Duration::from_secs(3600)));
    crew.agent("wrong", &["node-1"], None, &["--home", &wrong.display().to_string()]);
    until("it says why it is refused", super::WITHIN, || match crew.log("wrong") {
        log if log.contains("scheduler/node-1 may not play agent: its certificate is for another role") => Ok(()),
        log => Err(log),
    });
    assert_eq!((watcher.status("agent/node-1"), watcher.status("scheduler/node-1")), ("", ""));

    // One that is good for some seconds, and that nobody renews.
    let short = another_home(&cell, "short");
    put(&short, issue(&cell.home(), "agent/node-1", Duration::from_secs(6)));
    crew.agent("short", &["node-1"], None, &["--home", &short.display().to_string()]);
    all_alive(&watcher, &["agent/node-1"]);
    let shown = until("its session has ended", super::WITHIN, || match node(&cell, "node-1") {
        found if found["up"] == false => Ok(found),
        found => Err(found.to_string()),
    });
    assert_ne!(shown["status"], "dead", "nobody saw it die: {shown}");
}
