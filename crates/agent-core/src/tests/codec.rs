//! Every kind of entry survives its bytes; every kind of network too.

use std::sync::Arc;
use std::time::Duration;

use driver::network::RouterLeg;
use driver::{Direction, GroupId, GroupState, NetworkSpec, PortState, Protocol, Remote, Rule, Run, Subnet};
use ids::uuid::Uuid;

use super::model::{guest, network, network_at, port_at, spec};
use crate::{Act, Begun, Entry, Epoch, ImageId, Life, Outcome, Reached, Step, Told, WorkId};

fn full_network() -> Told<NetworkSpec> {
    let what = NetworkSpec {
        subnets: vec![Subnet {
            cidr: "fd00::/64".parse().unwrap(),
            gateway: Some("fd00::1".parse().unwrap()),
            dhcp: true,
            dns: vec!["1.1.1.1".parse().unwrap()],
            routes: vec![("10.1.0.0/16".parse().unwrap(), "10.0.0.9".parse().unwrap())],
        }],
        routers: vec![RouterLeg { router: "r".into(), address: "10.0.0.1/24".parse().unwrap(), mac: "aa".into() }],
        host_access: true,
        host_address: Some("10.0.0.2".parse().unwrap()),
        ..(*network_at(1, 7).what).clone()
    };
    Told { revision: 7, what: Arc::new(what) }
}

fn group(number: u128) -> GroupId {
    GroupId::from_uuid(Uuid::from_u128(number))
}

fn full_port() -> Told<PortState> {
    let protocols = [
        Protocol::Any,
        Protocol::Tcp(22, 65535),
        Protocol::Udp(1, 2),
        Protocol::Icmp(Some(0), None),
        Protocol::Icmp(None, Some(255)),
        Protocol::Number(47),
    ];
    let remotes = [Remote::Any, Remote::Prefix("10.0.0.0/8".parse().unwrap()), Remote::Group(group(4))];
    let rules = protocols.into_iter().zip(remotes.into_iter().cycle()).enumerate();
    let rules = rules.map(|(at, (protocol, remote))| Rule {
        direction: if at % 2 == 0 { Direction::Ingress } else { Direction::Egress },
        ipv6: at % 3 == 0,
        protocol,
        remote,
    });
    let what = PortState {
        addresses: vec!["10.0.0.5/24".parse().unwrap()],
        allowed_pairs: vec!["10.0.0.6/32".parse().unwrap()],
        rules: rules.collect(),
        metadata: [("latest/x", &[0, 255][..]), ("latest/empty", &[])].into_iter().collect(),
        ..(*port_at(11, 8, "g").what).clone()
    };
    Told { revision: 8, what: Arc::new(what) }
}

fn full_group() -> Told<GroupState> {
    let members = ["10.0.0.5/32", "10.1.0.0/16", "10.2.0.9/32", "fd00::/64", "fd00::1/128"];
    let members = members.into_iter().map(|member| member.parse().unwrap()).collect();
    Told { revision: 9, what: Arc::new(GroupState { id: group(4), members }) }
}

#[test]
fn every_entry_survives_its_bytes() {
    let work = WorkId::from_uuid(Uuid::from_u128(9));
    let image = ImageId::from_uuid(Uuid::from_u128(8));
    let (run, cause) = (Run(3), "why".to_owned());
    let outcomes = [
        Outcome::Done(Reached { life: Life::Running, run }),
        Outcome::Done(Reached { life: Life::Absent, run: Run(0) }),
        Outcome::Refused { reason: "r".into(), left: Life::Stopped },
        Outcome::Abandoned { reason: "a".into() },
    ];
    let acts = [
        Act::Build(spec(11)),
        Act::Destroy(vec![network(1), network(2)]),
        Act::Start,
        Act::Stop(None),
        Act::Stop(Some(Duration::from_millis(5))),
        Act::Reboot(None),
        Act::Reboot(Some(Duration::from_secs(60))),
        Act::Pause,
        Act::Unpause,
        Act::Snapshot(image),
    ];
    let mut entries = vec![
        Entry::Boot("b".into()),
        Entry::Counters { floor: 4, run },
        Entry::Network(full_network()),
        Entry::Port(full_port()),
        Entry::Group(full_group()),
        Entry::GroupGone(group(4)),
        Entry::Seen { work, epoch: Epoch(2), created: 1, floor: 1 },
        Entry::RunRaised { guest: guest(1), run },
        Entry::Undoing { guest: guest(1), reason: "r".into() },
        Entry::RunEnded { guest: guest(1), run, cause: cause.clone() },
        Entry::Reported { guest: guest(1), run },
        Entry::Guest { spec: spec(11), run, life: Life::Paused, news: Some((run, cause)) },
        Entry::Guest { spec: spec(11), run, life: Life::Stopped, news: None },
    ];
    entries.extend(outcomes.iter().map(|outcome| Entry::Ended {
        work,
        step: Step(1),
        guest: guest(1),
        outcome: outcome.clone(),
        networks_gone: vec![network(1)],
    }));
    let ended = outcomes.iter().cloned().enumerate().map(|(at, outcome)| (Step(u32::try_from(at).unwrap()), outcome));
    entries.push(Entry::Work { work, created: 1, epoch: Epoch(2), step: Step(3), ended: ended.collect() });
    entries.extend(acts.into_iter().map(|act| {
        Entry::Begun(Begun {
            work,
            epoch: Epoch(1),
            step: Step(2),
            created: 3,
            floor: 4,
            guest: guest(5),
            act,
            run,
            networks: vec![full_network()],
            ports: vec![full_port()],
        })
    }));
    for entry in entries {
        assert_eq!(crate::decode(crate::encode("node-1", &entry)), Ok(("node-1".to_owned(), entry)));
    }
}

#[test]
fn what_is_no_record_is_refused_and_not_skipped() {
    for bytes in [&b""[..], b"\x0a\x01n", b"\xff\xff", b"\x0a\x01n\x3a\x01"] {
        assert!(crate::decode(bytes::Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_log_is_rewritten_when_it_has_doubled_and_is_worth_it() {
    let mib = 1024 * 1024;
    assert!(!crate::rewrite_due(mib, 0));
    assert!(crate::rewrite_due(mib + 1, 0));
    assert!(!crate::rewrite_due(20 * mib, 10 * mib));
    assert!(crate::rewrite_due(20 * mib + 1, 10 * mib));
}
