//! Liveness instances that are killed, moved and stopped: nobody else is doubted for it.

use std::time::Duration;

use cell_tests::{Cell, Crew, Watcher, unchanged, until};

use super::{all_alive, doubts};

/// Longer than a lost session may take to be resumed before it is judged.
const JUDGED: Duration = Duration::from_secs(5);
const NODES: [&str; 6] = ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6"];

fn members() -> Vec<String> {
    let nodes = NODES.iter().map(|node| format!("agent/{node}"));
    nodes.chain(["control/main".to_owned()]).collect()
}

/// Nobody but `gone` was ever doubted by the instance that `watcher` watches, and nobody is for as long as it takes.
fn nobody_is_doubted(watcher: &Watcher, gone: &[&str]) {
    unchanged("what is said of the others", JUDGED, JUDGED * 3, || doubts(watcher, gone));
    let doubted = doubts(watcher, gone);
    assert!(doubted.is_empty(), "{doubted:?}");
    let members = members();
    all_alive(watcher, &members.iter().map(String::as_str).collect::<Vec<_>>());
}

fn boots(cell: &Cell, name: &str) {
    let admin = cell.admin();
    let server = admin.create(name);
    admin.reaches(&server, "ACTIVE");
}

#[test]
fn a_killed_instance_takes_nobody_with_it() {
    let (cell, mut crew) = Crew::muster();
    let (one, two, moved) = (Crew::address(), Crew::address(), Crew::address());
    crew.finds(&[&one, &two]);
    crew.serve("one", "liveness", &one, &[]);
    crew.serve("two", "liveness", &two, &[]);
    crew.serve("main", "store,api,coordinator,scheduler", "127.0.0.1:0", &[]);
    crew.agent("agents", &NODES, None, &[]);
    let members = members();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let (at_one, at_two) = (Watcher::new(&cell.home(), &one), Watcher::new(&cell.home(), &two));
    all_alive(&at_one, &members);
    all_alive(&at_two, &[&members[..], &["liveness/one", "liveness/two"]].concat());
    drop(at_one);

    crew.kill("one");
    nobody_is_doubted(&at_two, &["liveness/one"]);
    until("the dead instance is", super::WITHIN, || match at_two.status("liveness/one") {
        "dead" => Ok(()),
        other => Err(other.to_owned()),
    });
    boots(&cell, "with-two");

    // It comes back elsewhere, and only the other knows where; then the other goes.
    crew.serve("one", "liveness", &moved, &[]);
    let at_one = Watcher::new(&cell.home(), &moved);
    all_alive(&at_one, &[&members[..], &["liveness/one", "liveness/two"]].concat());
    all_alive(&at_two, &["liveness/one"]);
    crew.kill("two");
    // It also knows of its own earlier life.
    nobody_is_doubted(&at_one, &["liveness/one", "liveness/two"]);
    boots(&cell, "with-one");
    let sessions = |watcher: &Watcher| {
        let now = watcher.now();
        members.iter().filter_map(|who| now.get(*who)).map(|event| event.session).collect::<Vec<_>>()
    };
    assert_eq!(sessions(&at_one), sessions(&at_two), "sessions were resumed, none was begun anew");
}
