//! A host whose link is cut: nobody saw it die, and some could not reach it.

use cell_tests::{Crew, Cut, Island, Watcher, until};

use super::{all_alive, becomes};

#[test]
fn a_host_that_nobody_reaches_is_unreachable_and_comes_back_as_it_was() {
    let island = Island::new();
    let (cell, mut crew) = Crew::muster();
    let main = Crew::address().replace("127.0.0.1", &island.near());
    crew.serve("main", "control", &main, &[]);
    crew.finds(&[&main]);
    crew.agent("near", &["node-2", "node-3"], None, &["--rpc-listen", &format!("{}:0", island.near())]);
    crew.agent("far", &["node-1"], Some(&island), &["--rpc-listen", &format!("{}:0", island.far())]);
    let watcher = Watcher::new(&cell.home(), &main);
    all_alive(&watcher, &["agent/node-1", "agent/node-2", "agent/node-3"]);
    let admin = cell.admin();

    for cut in [Cut::Both, Cut::Out, Cut::In] {
        island.cut(cut);
        let shown = becomes(&cell, "node-1", "unreachable");
        let evidence = shown["evidence"].as_str().unwrap_or_default().to_owned();
        assert!(evidence.starts_with("not reached by ") && evidence.contains("control/main"), "{cut:?}: {evidence}");
        let server = admin.create("meanwhile");
        assert_ne!(admin.reaches(&server, "ACTIVE")["OS-EXT-SRV-ATTR:host"], "node-1");
        // Those who were asked from elsewhere have said the same.
        until("another observer is named", super::WITHIN, || {
            let by = watcher.now().remove("agent/node-1").map(|event| event.by).unwrap_or_default();
            if by.iter().any(|by| by.starts_with("agent/")) { Ok(()) } else { Err(format!("{by:?}")) }
        });
        island.heal();
        becomes(&cell, "node-1", "alive");
    }
    let events = watcher.events_of("agent/node-1");
    assert!(events.iter().all(|event| event.session == events[0].session), "it is the same session: {events:?}");
    assert!(events.iter().all(|event| event.status != "dead"), "{events:?}");
    for near in ["agent/node-2", "agent/node-3"] {
        let events = watcher.events_of(near);
        assert!(events.iter().all(|event| event.status == "alive"), "{events:?}");
    }
}
