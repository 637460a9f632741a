//! Ways between networks, and from the host.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use driver::{Direction, Protocol};

use super::frames::{ethernet, mac, udp4};
use super::lab::{Lab, PATIENCE, SILENCE, await_that, connect, echoes};
use super::samples::{self, join, rule};

#[test]
fn networks_with_the_same_range_live_side_by_side() {
    let lab = Lab::new("tw");
    let one = samples::network(30);
    let mut two = one.clone();
    samples::spec(&mut two).id = samples::network(31).spec.id;
    samples::spec(&mut two).name = "twin".into();
    for port in &mut two.ports {
        let port = std::sync::Arc::make_mut(port);
        port.id = samples::port(31, port.mac.as_bytes()[16]).id;
        port.metadata = [("openstack/latest/meta_data.json", "twin")].into_iter().collect();
    }
    lab.net.ensure(&one).unwrap();
    lab.net.ensure(&two).unwrap();
    let (a, b) = (lab.guest(&one, &one.ports[0]), lab.guest(&one, &one.ports[1]));
    let (c, d) = (lab.guest(&two, &two.ports[0]), lab.guest(&two, &two.ports[1]));
    assert_eq!((a.v4(), b.v4()), (c.v4(), d.v4()));
    b.echo(1001);
    d.echo(1002);
    assert!(echoes(&mut a.connect(b.v4(), 1001).unwrap()) && echoes(&mut c.connect(d.v4(), 1002).unwrap()));
    assert!(a.cannot_connect(d.v4(), 1002) && c.cannot_connect(b.v4(), 1001));
    let path = "/openstack/latest/meta_data.json";
    assert_eq!(a.metadata(path).unwrap().1, "{\"port\":5}");
    assert_eq!(c.metadata(path).unwrap().1, "twin");
}

#[test]
fn a_router_joins_networks_and_goes_with_its_last_leg() {
    let lab = Lab::new("rt");
    let router = "0b5c3a52-0000-4000-8000-000000000001";
    let (mut one, mut two) = (samples::network(32), samples::network(33));
    lab.net.ensure(&one).unwrap();
    let a = lab.guest(&one, &one.ports[0]);
    assert_eq!(a.metadata("/").unwrap().0, 200, "the gateway is on the bridge");
    join(&mut one, 32, router);
    join(&mut two, 33, router);
    lab.net.ensure(&two).unwrap();
    let b = lab.guest(&two, &two.ports[0]);
    b.echo(7);
    lab.net.ensure(&one).unwrap();
    // a knows the gateway under the bridge's hardware address until the router has told it otherwise.
    await_that("a reaches b through the router", || {
        a.run(|| connect(SocketAddr::new(b.v4(), 7), SILENCE)).is_ok_and(|mut stream| echoes(&mut stream))
    });
    assert_eq!(a.metadata("/").unwrap().0, 200, "the gateway is on the router");
    a.await_v6();
    b.await_v6();
    assert!(echoes(&mut a.connect(b.v6(), 7).unwrap()), "over IPv6 too");
    assert!(a.cannot_connect("10.213.33.1".parse::<IpAddr>().unwrap(), 80), "the router itself answers nothing");

    samples::spec(&mut one).routers.clone_from(&Vec::new());
    one.version += 1;
    lab.net.ensure(&one).unwrap();
    assert!(a.cannot_connect(b.v4(), 7));
    assert!(lab.traces().iter().any(|name| name.starts_with("msr-")), "the router still has a leg");
    lab.net.remove(two.spec.id).unwrap();
    assert!(!lab.traces().iter().any(|name| name.starts_with("msr-")), "{:?}", lab.traces());
}

#[test]
fn the_host_reaches_guests_and_not_the_other_way() {
    let lab = Lab::new("ho");
    let mut network = samples::network(34);
    samples::spec(&mut network).host_access = true;
    samples::edit(&mut network, 0).rules = vec![
        rule(Direction::Ingress, false, Protocol::Tcp(22, 22)),
        rule(Direction::Ingress, true, Protocol::Tcp(22, 22)),
        rule(Direction::Egress, false, Protocol::Any),
    ];
    lab.net.ensure(&network).unwrap();
    let a = lab.guest(&network, &network.ports[0]);
    a.await_v6();
    a.echo(22);
    a.echo(23);
    for address in [a.v4(), a.v6()] {
        assert!(echoes(&mut connect(SocketAddr::new(address, 22), PATIENCE).unwrap()), "{address}");
        assert!(connect(SocketAddr::new(address, 23), SILENCE).is_err(), "{address}: no rule");
    }
    assert_eq!(a.metadata("/").unwrap().0, 200);
    let listener = TcpListener::bind((crate::names::HOST_V4, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(a.cannot_connect(crate::names::HOST_V4, port), "a guest reached the host");

    // Seen under an address of its own choice, and with the gateway on a router.
    samples::spec(&mut network).host_address = Some("10.213.34.2".parse().unwrap());
    samples::edit(&mut network, 0).rules.push(rule(Direction::Ingress, false, Protocol::Udp(9, 9)));
    network.version += 1;
    join(&mut network, 34, "r34");
    lab.net.ensure(&network).unwrap();
    lab.net.ensure(&network).unwrap();
    for address in [a.v4(), a.v6()] {
        await_that("the host reaches the guest", || {
            connect(SocketAddr::new(address, 22), SILENCE).is_ok_and(|mut stream| echoes(&mut stream))
        });
    }
    let (at_guest, mut buffer) = (a.run(|| UdpSocket::bind("0.0.0.0:9")).unwrap(), [0u8; 8]);
    at_guest.set_read_timeout(Some(PATIENCE)).unwrap();
    for (given, seen) in [("10.213.34.2", "10.213.34.2"), ("10.213.34.1", "169.254.169.254")] {
        samples::spec(&mut network).host_address = Some(given.parse().unwrap());
        network.version += 1;
        lab.net.ensure(&network).unwrap();
        // From a new port each time: a connection keeps the address under which it began.
        let at_host = UdpSocket::bind((crate::names::HOST_V4, 0)).unwrap();
        at_host.send_to(b"?", (a.v4(), 9)).unwrap();
        let (_, host) = at_guest.recv_from(&mut buffer).unwrap();
        assert_eq!(host.ip().to_string(), seen, "given {given}, while the router has .1");
        at_guest.send_to(b"!", host).unwrap();
        at_host.set_read_timeout(Some(PATIENCE)).unwrap();
        at_host.recv(&mut buffer).unwrap();
    }
    samples::spec(&mut network).host_access = false;
    network.version += 1;
    lab.net.ensure(&network).unwrap();
    assert!(!lab.traces().iter().any(|name| name.starts_with("msh")), "{:?}", lab.traces());
}

#[test]
fn nothing_is_smuggled_into_the_hosts_connections() {
    let lab = Lab::new("sm");
    let mut network = samples::network(37);
    samples::spec(&mut network).host_access = true;
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.guest(&network, &network.ports[0]), lab.guest(&network, &network.ports[1]));
    let at_b = b.run(|| UdpSocket::bind("0.0.0.0:9")).unwrap();
    let at_host = UdpSocket::bind((crate::names::HOST_V4, 0)).unwrap();
    for socket in [&at_b, &at_host] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    at_host.send_to(b"question", (b.v4(), 9)).unwrap();
    let mut buffer = [0u8; 64];
    let (_, host) = at_b.recv_from(&mut buffer).unwrap();
    assert_eq!(host.ip(), network.spec.subnets[0].gateway.unwrap(), "what guests see the host as");
    // As if b answered; in a frame that bridges hand on unseen, and in an ordinary one.
    let forged = udp4((b.v4(), 9), (host.ip(), host.port()), b"evil");
    let bridge = crate::names::bridge_mac(network.spec.id).0;
    for to in [[1, 0x80, 0xc2, 0, 0, 0x0e], bridge] {
        a.card().send(&ethernet(to, mac(&a.mac), 0x0800, &forged));
    }
    at_b.send_to(b"good", host).unwrap();
    let (length, _) = at_host.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"good");
}

#[test]
fn a_range_of_the_hosts_own_is_refused() {
    let lab = Lab::new("hr");
    let mut network = samples::network(35);
    samples::spec(&mut network).host_access = true;
    lab.net.ensure(&network).unwrap();
    let mut other = samples::network(36);
    samples::spec(&mut other).host_access = true;
    samples::spec(&mut other).subnets[0].cidr = "10.213.35.128/25".parse().unwrap();
    let error = lab.net.ensure(&other).unwrap_err().to_string();
    assert!(error.contains("overlaps the host's own route to 10.213.35.0/24 on mshhr"), "{error}");
    assert_eq!(lab.net.found().unwrap().len(), 1, "nothing was made of it");
}
