//! The whole text for one network that uses everything.

use std::collections::BTreeMap;

use driver::{Direction, Protocol, Rule};

use super::*;
use crate::tests::samples;

#[test]
fn the_whole_ruleset() {
    let mut state = samples::network(1);
    samples::join(&mut state, 1, "r");
    state.routers.pop();
    state.host_access = true;
    state.ports[0].allowed_pairs = vec!["10.213.1.4/31".parse().unwrap(), "fd00:9::/48".parse().unwrap()];
    let rule = samples::rule;
    state.ports[0].rules = vec![
        rule(Direction::Egress, false, Protocol::Any),
        rule(Direction::Egress, true, Protocol::Icmp(Some(128), Some(0))),
        Rule {
            remotes: vec!["10.0.0.0/8".parse().unwrap(), "10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            remote_any: false,
            ..rule(Direction::Ingress, false, Protocol::Tcp(22, 22))
        },
        Rule { remote_any: false, ..rule(Direction::Ingress, false, Protocol::Any) },
        rule(Direction::Ingress, true, Protocol::Udp(100, 200)),
        rule(Direction::Ingress, false, Protocol::Number(132)),
    ];
    state.ports[1].secured = false;
    let numbers = state.ports.iter().map(|port| port.id).zip([2, 3]).collect::<BTreeMap<_, _>>();
    let plan = Plan::of(&state, &numbers).unwrap();
    let text = network_ruleset(&plan).replace(&plan.ports[0].tap, "TAP_A").replace(&plan.ports[1].tap, "TAP_B");
    let text = text.replace(&plan.legs[0].outside, "LEG");
    let golden = include_str!("golden.nft");
    assert!(text == golden, "the rules differ from golden.nft; they are now:\n{text}");
}

#[test]
fn marks() {
    assert_eq!(index_of(mark_of(7)), Some(7));
    assert_eq!(index_of(mark_of(crate::plan::LEGS)), None);
    assert_eq!(index_of(0x0000_0007), None);
}
