//! What may pass between guests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use driver::{Direction, Protocol};

use super::frames::{self, arp, ethernet, icmp6, mac, udp4};
use super::lab::{Lab, echoes};
use super::samples::{self, rule};
use crate::names::Mac;

#[test]
fn a_guest_cannot_pretend_to_be_another_or_the_node() {
    let lab = Lab::new("sp");
    let mut network = samples::network(20);
    samples::edit(&mut network, 0).allowed_pairs = vec!["10.213.20.64/27".parse().unwrap()];
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.guest(&network, &network.ports[0]), lab.guest(&network, &network.ports[1]));
    let (own, other, gateway) = (mac(&a.mac), mac("fa:16:3e:77:77:77"), Ipv4Addr::new(10, 213, 20, 1));
    let to = mac(&b.mac);
    let foreign: IpAddr = "10.213.20.9".parse().unwrap();
    let (link_local, all_nodes) = (Mac(own).link_local(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    let broadcast = IpAddr::V4(Ipv4Addr::BROADCAST);
    let target6: Ipv6Addr = "fd00:213:14::1".parse().unwrap();
    let advertisement = |target: Ipv6Addr| {
        [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), b"\x02\x03evil-advert-pad-trailer-"].concat()
    };
    let tagged = [&[0, 5, 8, 0][..], &udp4((a.v4(), 9), (b.v4(), 9), b"evil")].concat();
    let router = b"\x86\0\0\0\x40\0\x07\x08\0\0\0\0\0\0\0\0evilevil";
    let wrong = [
        ("another hardware address", ethernet(to, other, 0x0800, &udp4((a.v4(), 9), (b.v4(), 9), b"evil"))),
        ("another IPv4 source", ethernet(to, own, 0x0800, &udp4((foreign, 9), (b.v4(), 9), b"evil"))),
        ("DHCP server", ethernet([0xff; 6], own, 0x0800, &udp4((a.v4(), 67), (broadcast, 68), b"evil"))),
        (
            "ARP for the gateway",
            ethernet([0xff; 6], own, 0x0806, &[arp(2, own, gateway, gateway), b"evil".to_vec()].concat()),
        ),
        (
            "ARP with another hardware address",
            ethernet(
                [0xff; 6],
                own,
                0x0806,
                &[arp(2, other, Ipv4Addr::new(10, 213, 20, 5), gateway), b"evil".to_vec()].concat(),
            ),
        ),
        (
            "router advertisement",
            ethernet([0x33, 0x33, 0, 0, 0, 1], own, 0x86dd, &icmp6(link_local, all_nodes, router)),
        ),
        ("another IPv6 source", ethernet(to, own, 0x86dd, &icmp6(target6, all_nodes, b"\x80\0\0\0evil"))),
        (
            "advertising the gateway's IPv6 address",
            ethernet([0x33, 0x33, 0, 0, 0, 1], own, 0x86dd, &icmp6(link_local, all_nodes, &advertisement(target6))),
        ),
        ("a VLAN tag", ethernet(to, own, 0x8100, &tagged)),
        ("another protocol", ethernet(to, own, 0x88b5, b"evil")),
    ];
    let right = [
        ethernet(
            [0xff; 6],
            own,
            0x0806,
            &[arp(2, own, Ipv4Addr::new(10, 213, 20, 5), gateway), b"good-arp".to_vec()].concat(),
        ),
        ethernet(
            [0x33, 0x33, 0, 0, 0, 1],
            own,
            0x86dd,
            &icmp6(
                link_local,
                all_nodes,
                &[&advertisement(link_local)[..24], b"\x02\x03good-advert-pad-trailer"].concat(),
            ),
        ),
    ];
    let (from, at) = (a.card(), b.card());
    for (number, (what, frame)) in wrong.iter().enumerate() {
        from.send(frame);
        // Another text each time, because b itself sends back what it did not expect.
        let text = format!("honest {number}.");
        from.send(&ethernet(to, own, 0x0800, &udp4((a.v4(), 9), (b.v4(), 9), text.as_bytes())));
        let seen = at.until(|frame| frames::holds(frame, text.as_bytes()));
        assert!(!seen.iter().any(|frame| frames::holds(frame, b"evil")), "passed: {what}");
    }
    let pair: IpAddr = "10.213.20.70".parse().unwrap();
    from.send(&ethernet(to, own, 0x0800, &udp4((pair, 9), (b.v4(), 9), b"good-pair")));
    at.until(|frame| frames::holds(frame, b"good-pair"));
    for frame in &right {
        from.send(frame);
    }
    at.until(|frame| frames::holds(frame, b"good-arp"));
    at.until(|frame| frames::holds(frame, b"good-advert"));
}

#[test]
fn the_bridge_learns_nothing_false() {
    let lab = Lab::new("lf");
    let network = samples::network(23);
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.guest(&network, &network.ports[0]), lab.guest(&network, &network.ports[1]));
    let (from, at) = (a.card(), b.card());
    for last in [0, 2, 0x0e] {
        from.send(&ethernet([1, 0x80, 0xc2, 0, 0, last], mac(&b.mac), 0x88cc, b"I am b"));
    }
    from.send(&ethernet(mac(&b.mac), mac(&a.mac), 0x0800, &udp4((a.v4(), 9), (b.v4(), 9), b"good")));
    let namespace = format!("ms-lf-{}", network.spec.id);
    at.until(|frame| frames::holds(frame, b"good"));
    let shown =
        std::process::Command::new("/usr/sbin/bridge").args(["-n", &namespace, "fdb", "show"]).output().unwrap();
    let (shown, tap) = (String::from_utf8(shown.stdout).unwrap(), crate::names::tap(network.ports[0].id));
    assert!(shown.contains(&format!("{} dev {tap}", a.mac)), "the bridge does learn: {shown}");
    assert!(!shown.contains(&format!("{} dev {tap}", b.mac)), "{shown}");
}

#[test]
fn groups_let_through_what_they_say_and_answers() {
    let lab = Lab::new("sg");
    let mut network = samples::network(21);
    let ssh = |remote: &str| driver::Rule {
        remote: driver::Remote::Prefix(remote.parse().unwrap()),
        ..rule(Direction::Ingress, false, Protocol::Tcp(22, 22))
    };
    let members = samples::group(&mut network, 1, &["10.213.21.5/32", "10.213.21.77/32"]);
    let of_group = driver::Rule { remote: members, ..ssh("10.213.21.5/32") };
    samples::edit(&mut network, 1).rules = vec![of_group];
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.guest(&network, &network.ports[0]), lab.guest(&network, &network.ports[1]));
    for port in [22, 23] {
        a.echo(port);
        b.echo(port);
    }
    let mut open = a.connect(b.v4(), 22).unwrap();
    assert!(echoes(&mut open), "answers pass though b has no egress rule");
    assert!(a.cannot_connect(b.v4(), 23), "no rule for it");
    assert!(b.cannot_connect(a.v4(), 22), "b has no egress rule");

    // Who leaves the group is shut out, who joins it is let in.
    network.version += 1;
    samples::group(&mut network, 1, &[]);
    lab.net.ensure(&network).unwrap();
    assert!(a.cannot_connect(b.v4(), 22), "nobody is in the group");
    network.version += 1;
    samples::group(&mut network, 1, &["10.213.21.4/31"]);
    lab.net.ensure(&network).unwrap();
    let mut open = a.connect(b.v4(), 22).unwrap();

    // The rule changes its form; what it allows stays, and so does the connection.
    network.version += 1;
    samples::edit(&mut network, 1).rules =
        vec![ssh("10.213.21.0/24"), rule(Direction::Egress, false, Protocol::Tcp(20, 22))];
    lab.net.ensure(&network).unwrap();
    assert!(echoes(&mut open), "what is still allowed goes on");
    assert!(echoes(&mut b.connect(a.v4(), 22).unwrap()), "the new rule holds");

    network.version += 1;
    samples::edit(&mut network, 1).rules = vec![ssh("10.213.21.99/32"), ssh("10.213.21.98/31")];
    lab.net.ensure(&network).unwrap();
    open.set_read_timeout(Some(super::lab::SILENCE)).unwrap();
    assert!(!echoes(&mut open), "what is not allowed any more stops");
    assert!(a.cannot_connect(b.v4(), 22));

    // An older description comes late: it changes nothing.
    network.version -= 1;
    samples::edit(&mut network, 1).rules = samples::all();
    lab.net.ensure(&network).unwrap();
    assert!(a.cannot_connect(b.v4(), 22));
}

#[test]
fn pings_and_other_protocols_by_rule() {
    let lab = Lab::new("pg");
    let mut network = samples::network(22);
    samples::edit(&mut network, 1).rules = vec![
        rule(Direction::Ingress, false, Protocol::Icmp(Some(8), None)),
        rule(Direction::Ingress, true, Protocol::Icmp(Some(128), Some(0))),
        rule(Direction::Ingress, false, Protocol::Number(132)),
        rule(Direction::Ingress, true, Protocol::Udp(1, 65535)),
    ];
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.guest(&network, &network.ports[0]), lab.guest(&network, &network.ports[1]));
    a.await_v6();
    b.await_v6();
    let (from, at) = (a.card(), b.card());
    let send = |text: &[u8], port: u16| {
        from.send(&ethernet(mac(&b.mac), mac(&a.mac), 0x0800, &udp4((a.v4(), port), (b.v4(), port), text)))
    };
    send(b"evil", 9);
    let IpAddr::V6(source) = a.v6() else { panic!() };
    let IpAddr::V6(target) = b.v6() else { panic!() };
    from.send(&ethernet(mac(&b.mac), mac(&a.mac), 0x86dd, &icmp6(source, target, b"\x80\0\0\0\0\x01\0\x01good")));
    let seen = at.until(|frame| frames::holds(frame, b"good"));
    assert!(!seen.iter().any(|frame| frames::holds(frame, b"evil")), "UDP over IPv4 has no rule");
}
