//! Addresses to begin with: one good one is enough, and without one the error tells of each.

use cell_tests::{Crew, free_port};

use super::becomes;

#[test]
fn one_good_address_is_enough() {
    let (cell, mut crew) = Crew::muster();
    let main = Crew::address();
    crew.serve("main", "control", &main, &[]);
    // Nobody is there, or somebody who knows nothing of this: both are passed over.
    let nobody = Crew::address();
    let bootstrap = serde_json::json!({ "liveness": [Crew::address(), cell.url().replace("https://", ""), main] });
    std::fs::write(cell.home().join("bootstrap.json"), bootstrap.to_string()).expect("the home is ours");
    std::fs::remove_file(cell.home().join("run/control-main.json")).expect("what a process notes on its machine");
    crew.finds(&[&nobody]);
    crew.agent("a", &["node-1"], None, &[]);
    crew.serve("second", "scheduler", "127.0.0.1:0", &[]);
    // Where operators look.
    crew.serve("third", "coordinator", "127.0.0.1:0", &[]);
    becomes(&cell, "node-1", "alive");
}

#[test]
fn without_a_good_one_the_error_tells_of_each() {
    let (cell, mut crew) = Crew::muster();
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf = deaf.local_addr().expect("its address").to_string();
    let (noted, given) = (Crew::address(), format!("127.0.0.1:{}", free_port()));
    let bootstrap = serde_json::json!({ "liveness": [noted, deaf] });
    std::fs::write(cell.home().join("bootstrap.json"), bootstrap.to_string()).expect("the home is ours");
    crew.finds(&[&given]);
    let (succeeded, said) = crew.ends("lost", "scheduler");
    assert!(!succeeded && said.contains("no liveness instance could be reached"), "{said}");
    for address in [noted, deaf, given] {
        assert!(said.contains(&format!("{address}: ")), "{address} is not told of: {said}");
    }
    assert!(said.contains("--bootstrap"), "it does not tell what to do: {said}");
}
