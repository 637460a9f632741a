//! The whole text for one network that uses everything.

use std::collections::BTreeMap;

use driver::{Direction, GroupId, Protocol, Remote, Rule};

use super::*;
use crate::tests::samples;

#[test]
fn the_whole_ruleset() {
    let mut state = samples::network(1);
    samples::join(&mut state, 1, "r");
    samples::spec(&mut state).routers.pop();
    samples::spec(&mut state).host_access = true;
    samples::edit(&mut state, 0).allowed_pairs = vec!["10.213.1.4/31".parse().unwrap(), "fd00:9::/48".parse().unwrap()];
    let rule = samples::rule;
    let group = samples::group(&mut state, 1, &["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]);
    let unknown = Remote::Group(GroupId::from_uuid(ids::uuid::Uuid::from_u128(2)));
    let range = Remote::Prefix("192.0.2.7/24".parse().unwrap());
    samples::edit(&mut state, 0).rules = vec![
        rule(Direction::Egress, false, Protocol::Any),
        rule(Direction::Egress, true, Protocol::Icmp(Some(128), Some(0))),
        Rule { remote: group, ..rule(Direction::Ingress, false, Protocol::Tcp(22, 22)) },
        Rule { remote: group, ..rule(Direction::Ingress, true, Protocol::Tcp(22, 22)) },
        Rule { remote: unknown, ..rule(Direction::Ingress, false, Protocol::Any) },
        Rule { remote: range, ..rule(Direction::Ingress, false, Protocol::Any) },
        Rule { remote: range, ..rule(Direction::Ingress, true, Protocol::Any) },
        rule(Direction::Ingress, true, Protocol::Udp(100, 200)),
        rule(Direction::Ingress, false, Protocol::Number(132)),
    ];
    samples::edit(&mut state, 1).secured = false;
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
