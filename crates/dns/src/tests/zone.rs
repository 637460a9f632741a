//! Who is listed under which name.

use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use names::{Cause, Dying, Listing, Status};
use pki::Role;
use world::Wall;

use super::*;

const SINCE: Wall = Wall::from_micros(1);

fn is(listing: Listing, status: Status) -> Listing {
    Listing { status, ..listing }
}

fn suspected() -> Status {
    Status::Suspected { since: SINCE, cause: Cause::Broken }
}

fn unreachable() -> Status {
    Status::Unreachable { since: SINCE, by: ["liveness/l".to_owned()].into() }
}

fn gone() -> [Status; 2] {
    [Status::Dead { since: SINCE, seen: Dying::Refused, by: "liveness/l".into() }, Status::Left { since: SINCE }]
}

/// Asks for `NAME TYPE`, below the cell, and compares.
fn check(zone: &Zone, asked: &str, expected: &str) {
    let (text, kind) = asked.split_once(' ').unwrap();
    let full = if text == "@" { CELL.to_owned() } else { format!("{text}.{CELL}") };
    assert_eq!(short(&ask(zone, &full, kind.parse().unwrap())), expected, "{asked}");
}

#[test]
fn every_name_has_its_records() {
    let busy = Listing { load: 800, ..control("main", "10.0.0.1:7000") };
    let api = with_https(listing(Role::Api, "web", &[Role::Api], "[fd00::2]:7001"), "192.0.2.9:443");
    let zone = zone([busy, api, agent("n1", "10.0.0.3:7002")]);
    check(&zone, "_scheduler._tcp SRV", "0 200 7000 main.control.ab12.mainstay.internal.");
    check(
        &zone,
        "_api._tcp SRV",
        "0 1000 7001 web.api.ab12.mainstay.internal. | 0 200 7000 main.control.ab12.mainstay.internal.",
    );
    check(&zone, "_openstack._tcp SRV", "0 1000 443 web.api.openstack.ab12.mainstay.internal.");
    check(&zone, "_agent._tcp SRV", "0 1000 7002 n1.agent.ab12.mainstay.internal.");
    check(&zone, "main.control A", "10.0.0.1");
    check(&zone, "web.api AAAA", "fd00::2");
    check(&zone, "web.api.openstack A", "192.0.2.9");
    check(&zone, "openstack A", "192.0.2.9");
    check(&zone, "api A", "10.0.0.1");
    check(&zone, "api AAAA", "fd00::2");
    check(&zone, "n1.agent A", "10.0.0.3");
    check(&zone, "n1.node A", "10.0.0.3");
    check(&zone, "host-of-n1.machine A", "10.0.0.3");
    check(&zone, "@ NS", "names.ab12.mainstay.internal.");
    check(&zone, "@ SOA", "names.ab12.mainstay.internal. hostmaster.ab12.mainstay.internal. 42 3600 600 86400 1");
    check(&zone, "api ANY", "10.0.0.1 | fd00::2");

    let srv = ask(&zone, &format!("_api._tcp.{CELL}"), RecordType::SRV);
    let next: Vec<String> = srv.additionals.iter().map(|record| format!("{} {}", record.name, record.data)).collect();
    assert_eq!(next, ["web.api.ab12.mainstay.internal. fd00::2", "main.control.ab12.mainstay.internal. 10.0.0.1"]);
}

#[test]
fn what_is_not_there_is_told_from_what_has_no_such_records() {
    let zone = zone([control("main", "10.0.0.1:7000"), agent("n1", "10.0.0.3:7002")]);
    for (asked, expected) in [
        ("main.control AAAA", "NoData"),
        ("main.control SRV", "NoData"),
        ("@ A", "NoData"),
        ("_tcp SRV", "NoData"),
        ("node A", "NoData"),
        ("other.control A", "NXDomain"),
        ("main.scheduler A", "NXDomain"),
        ("x.main.control A", "NXDomain"),
        ("_openstack._tcp SRV", "NXDomain"),
        ("mai A", "NXDomain"),
        ("* A", "NXDomain"),
        (r"main\.control A", "NXDomain"),
    ] {
        check(&zone, asked, expected);
    }
    for transfer in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(ask(&zone, CELL, transfer).code, ResponseCode::Refused);
    }
    for outside in ["mainstay.internal", "example.org", ".", "xab12.mainstay.internal"] {
        let reply = ask(&zone, outside, RecordType::A);
        assert_eq!((reply.code, reply.authorities.len()), (ResponseCode::Refused, 0), "{outside}");
    }
    let mut chaos = Query::query(name(CELL), RecordType::SOA);
    chaos.set_query_class(DNSClass::CH);
    assert_eq!(zone.answer(&chaos, TTL).code, ResponseCode::Refused);

    let absent = ask(&zone, &format!("nobody.{CELL}"), RecordType::A);
    assert_eq!(absent.authorities[0].data.record_type(), RecordType::SOA);
    assert_eq!((absent.authorities[0].name.clone(), absent.authorities[0].ttl), (name(CELL), 1));
}

#[test]
fn case_is_kept_and_makes_no_difference() {
    let zone = zone([control("Main", "10.0.0.1:7000")]);
    let reply = ask(&zone, "mAIN.cOntrol.AB12.mainstay.INTERNAL", RecordType::A);
    assert_eq!(
        (short(&reply).as_str(), reply.answers[0].name.to_string().as_str()),
        ("10.0.0.1", "mAIN.cOntrol.AB12.mainstay.INTERNAL.")
    );
}

#[test]
fn a_role_is_those_who_take_calls_and_the_suspected_only_if_nobody_does() {
    let (a, b) = (|| control("a", "10.0.0.1:1"), || control("b", "10.0.0.2:1"));
    let both = zone([a(), is(b(), suspected())]);
    check(&both, "store A", "10.0.0.1");
    check(&both, "b.control A", "10.0.0.2");
    check(&zone([is(a(), suspected()), is(b(), suspected())]), "store A", "10.0.0.1 | 10.0.0.2");
    check(&zone([is(a(), suspected()), is(b(), unreachable())]), "store A", "10.0.0.1");
    let nobody = zone([Listing { serving: false, ..a() }, is(b(), unreachable())]);
    check(&nobody, "store A", "NXDomain");
    check(&nobody, "_store._tcp SRV", "NXDomain");
    check(&nobody, "a.control A", "10.0.0.1");
    for status in gone() {
        check(&zone([is(a(), status.clone())]), "store A", "NXDomain");
        check(&zone([is(a(), status)]), "a.control A", "NXDomain");
    }
}

#[test]
fn a_node_is_there_until_its_agent_is_dead_or_has_left() {
    let n1 = || agent("n1", "10.0.0.3:1");
    for status in [Status::Alive, suspected(), unreachable()] {
        let zone = zone([is(n1(), status)]);
        for asked in ["n1.node A", "n1.agent A", "agent A", "host-of-n1.machine A"] {
            check(&zone, asked, "10.0.0.3");
        }
    }
    for status in gone() {
        check(&zone([is(n1(), status)]), "n1.node A", "NXDomain");
    }
    let odd = Listing { machine: "no label".into(), ..n1() };
    check(&zone([odd]), "machine A", "NXDomain");
}

#[test]
fn several_agents_of_a_machine_are_one_machine() {
    let on = |name, rpc| Listing { machine: "big".into(), ..agent(name, rpc) };
    let zone = zone([on("n1", "10.0.0.3:1"), on("n2", "10.0.0.3:2"), on("n3", "10.0.0.4:1")]);
    check(&zone, "big.machine A", "10.0.0.3 | 10.0.0.4");
}

#[test]
fn an_endpoint_that_says_nothing_to_others_is_left_out() {
    let zone = zone([control("a", "0.0.0.0:1"), control("b", "[::]:1"), control("c", ""), control("d", "host:1")]);
    check(&zone, "store A", "NXDomain");
    check(&zone, "a.control A", "NXDomain");
    let mapped = super::zone([with_https(control("a", "[::ffff:10.0.0.1]:1"), "https://10.0.0.2:443/")]);
    check(&mapped, "store A", "10.0.0.1");
    check(&mapped, "_openstack._tcp SRV", "0 1000 443 a.control.openstack.ab12.mainstay.internal.");
}

#[test]
fn what_moves_less_lasts_longer() {
    let zone = zone([control("main", "10.0.0.1:1"), agent("n1", "10.0.0.3:1")]);
    let lasts =
        |text: &str, kind, ttl| zone.answer(&Query::query(name(&format!("{text}.{CELL}")), kind), ttl).answers[0].ttl;
    let secs = Duration::from_secs;
    for (ttl, role, node) in [(secs(1), 1, 5), (secs(60), 60, 300), (Duration::from_millis(300), 0, 1)] {
        assert_eq!(lasts("main.control", RecordType::A, ttl), role);
        assert_eq!(lasts("_store._tcp", RecordType::SRV, ttl), role);
        assert_eq!(lasts("n1.node", RecordType::A, ttl), node);
    }
    assert_eq!(lasts("n1.node", RecordType::A, Duration::MAX), (1 << 31) - 1);
}

#[test]
fn of_very_many_the_least_loaded_are_told() {
    let many = |load: fn(u32) -> u32| {
        (0..1000_u32).map(move |i| Listing {
            load: load(i),
            ..agent(&format!("n{i}"), &format!("10.0.{}.{}:1", i / 250, i % 250 + 1))
        })
    };
    let zone = zone(many(|i| 1000 - i));
    let reply = ask(&zone, &format!("_agent._tcp.{CELL}"), RecordType::SRV);
    assert_eq!(reply.answers.len(), 200);
    assert!(short(&reply).starts_with("0 999 1 n999.agent."), "{}", short(&reply));
    check(&zone, "n0.node A", "10.0.0.1");
}
