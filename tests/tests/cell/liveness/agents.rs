//! Agents that are killed or held.

use std::time::Duration;

use cell_tests::{Cell, Client, Crew, Signal, Watcher, pause, until};

use super::{all_alive, becomes, doubts, node};

/// `main` and two agents, each a process of its own; where `main` answers.
fn two_agents() -> (Cell, Crew, String) {
    let (cell, mut crew) = Crew::muster();
    let main = Crew::address();
    crew.serve("main", "control", &main, &[]);
    crew.finds(&[&main]);
    crew.agent("a", &["node-1"], None, &[]);
    crew.agent("b", &["node-2"], None, &[]);
    for name in ["node-1", "node-2"] {
        becomes(&cell, name, "alive");
    }
    (cell, crew, main)
}

/// What Nova calls the state of the agent of `host`.
fn state(admin: &Client, host: &str) -> String {
    let services = admin.get(&format!("/compute/v2.1/os-services?host={host}")).is(200);
    services.text("/services/0/state")
}

fn host(admin: &Client, server: &str) -> String {
    admin.reaches(server, "ACTIVE")["OS-EXT-SRV-ATTR:host"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_killed_agent_is_dead_and_gets_no_work_and_its_guests_run_on() {
    let (cell, mut crew, _) = two_agents();
    let admin = cell.admin();
    let servers: Vec<String> = (0..4).map(|number| admin.create(&format!("before-{number}"))).collect();
    let hosts: Vec<String> = servers.iter().map(|server| host(&admin, server)).collect();
    assert!(hosts.contains(&"node-1".to_owned()), "{hosts:?}");
    let guests = cell.guests();
    assert_eq!((state(&admin, "node-1"), node(&cell, "node-1")["since_us"].as_u64()), ("up".into(), Some(0)));

    crew.kill("a");
    let shown = becomes(&cell, "node-1", "dead");
    assert!(shown["evidence"].as_str().is_some_and(|text| text.contains("nobody listens at its address")), "{shown}");
    assert!(shown["since_us"].as_u64().is_some_and(|since| since > 0) && shown["up"] == false, "{shown}");
    assert_eq!((state(&admin, "node-1"), state(&admin, "node-2")), ("down".into(), "up".into()));
    let elsewhere = admin.create("elsewhere");
    assert_eq!(host(&admin, &elsewhere), "node-2");
    assert_eq!(cell.guests(), guests, "the guests of a dead agent are nobody's to touch");

    // Its servers are as they were: the death of an agent says nothing of its guests.
    for server in &servers {
        assert_eq!(admin.show(server).text("/server/status"), "ACTIVE");
    }
    crew.agent("a", &["node-1"], None, &[]);
    becomes(&cell, "node-1", "alive");
    assert_eq!((state(&admin, "node-1"), cell.guests()), ("up".into(), guests));

    crew.kill("b");
    becomes(&cell, "node-2", "dead");
    let back = admin.create("back");
    assert_eq!(host(&admin, &back), "node-1");
}

#[test]
fn a_held_agent_is_alive_for_a_while_and_then_suspected_until_it_goes_on() {
    let (cell, crew, main) = two_agents();
    let watcher = Watcher::new(&cell.home(), &main);
    all_alive(&watcher, &["agent/node-1", "agent/node-2"]);

    for _ in 0..3 {
        crew.signal("a", Signal::STOP);
        pause(Duration::from_millis(700));
        crew.signal("a", Signal::CONT);
        pause(Duration::from_millis(300));
    }
    let doubted = doubts(&watcher, &[]);
    assert!(doubted.is_empty(), "{doubted:?}");

    // Its host answers and it does not: it is asked after a while.
    crew.signal("a", Signal::STOP);
    until("it is suspected for its silence", super::WITHIN, || match node(&cell, "node-1") {
        found if found["evidence"] == "its host answers, the process does not" => Ok(()),
        found => Err(found.to_string()),
    });
    crew.signal("a", Signal::CONT);
    becomes(&cell, "node-1", "alive");
    let doubted = doubts(&watcher, &["agent/node-1"]);
    assert!(doubted.is_empty(), "{doubted:?}");
    let events = watcher.events_of("agent/node-1");
    assert!(events.iter().all(|event| event.session == events[0].session), "it is the same session: {events:?}");
    until("the watcher has it alive", super::WITHIN, || match watcher.status("agent/node-1") {
        "alive" => Ok(()),
        other => Err(other.to_owned()),
    });
}
