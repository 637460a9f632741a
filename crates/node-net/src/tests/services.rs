//! DHCP, router advertisements and metadata, and that they know guests by their taps.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};

use driver::NetworkState;

use super::frames::{self, dhcp_option};
use super::lab::{Guest, Lab, PATIENCE, SILENCE, http};
use super::samples;
use crate::names::METADATA;

/// A client's socket, which needs no address.
fn client(guest: &Guest) -> UdpSocket {
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(UdpSocket::from(socket))
    };
    guest.run(open).unwrap()
}

fn ask(client: &UdpSocket, message: &[u8]) -> io::Result<Vec<u8>> {
    client.send_to(message, (Ipv4Addr::BROADCAST, 67))?;
    let mut buffer = [0u8; 1500];
    let (length, _) = client.recv_from(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

fn kind(answer: &[u8]) -> u8 {
    dhcp_option(answer, 53).unwrap()[0]
}

#[test]
fn dhcp_gives_each_port_its_own_address_and_nothing_else() {
    let lab = Lab::new("dh");
    let network = samples::network(10);
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.bare_guest(&network, &network.ports[0]), lab.bare_guest(&network, &network.ports[1]));
    let (on_a, on_b) = (client(&a), client(&b));
    let none = Ipv4Addr::UNSPECIFIED;
    let watcher = b.card();

    let offer = ask(&on_a, &frames::dhcp(1, frames::mac(&a.mac), none, &[])).unwrap();
    assert_eq!((kind(&offer), &offer[16..20]), (2, &[10, 213, 10, 5][..]));
    let wanted = [(50, &[10, 213, 10, 5][..]), (54, &METADATA.octets()[..])];
    let ack = ask(&on_a, &frames::dhcp(3, frames::mac(&a.mac), none, &wanted)).unwrap();
    assert_eq!((kind(&ack), &ack[16..20]), (5, &[10, 213, 10, 5][..]));
    assert_eq!(dhcp_option(&ack, 1).unwrap(), [255, 255, 255, 0]);
    assert_eq!(dhcp_option(&ack, 3).unwrap(), [10, 213, 10, 1]);
    assert_eq!(dhcp_option(&ack, 12).unwrap(), b"guest5");
    assert_eq!(dhcp_option(&ack, 26).unwrap(), 1450u16.to_be_bytes());

    let of_b = [(50, &[10, 213, 10, 6][..])];
    let refusal = ask(&on_a, &frames::dhcp(3, frames::mac(&a.mac), none, &of_b)).unwrap();
    assert_eq!(kind(&refusal), 6, "another's address is refused");
    on_a.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(ask(&on_a, &frames::dhcp(1, frames::mac(&b.mac), none, &[])).is_err(), "b's hardware address on a's tap");

    let own = ask(&on_b, &frames::dhcp(1, frames::mac(&b.mac), none, &[])).unwrap();
    assert_eq!(&own[16..20], [10, 213, 10, 6]);
    let seen = watcher.until(|frame| frames::holds(frame, b"guest6"));
    assert!(!seen.iter().any(|frame| frames::holds(frame, b"guest5")), "b saw an answer to a");
}

#[test]
fn a_guest_forms_its_address_from_advertisements_and_reaches_others_with_it() {
    let lab = Lab::new("ra");
    let network = samples::network(11);
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.bare_guest(&network, &network.ports[0]), lab.bare_guest(&network, &network.ports[1]));
    a.await_v6();
    b.await_v6();
    assert!(a.ip(&["-6", "route", "show", "default"]).contains("via fe80::"), "a knows a way out");
    b.echo(7);
    assert!(super::lab::echoes(&mut a.connect(b.v6(), 7).unwrap()));
}

#[test]
fn renewing_and_flooding() {
    let lab = Lab::new("rn");
    let network = samples::network(15);
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.guest(&network, &network.ports[0]), lab.bare_guest(&network, &network.ports[1]));
    let IpAddr::V4(own) = a.v4() else { panic!() };
    let on_a = client(&a);
    // A guest that has its address asks the server directly.
    on_a.send_to(&frames::dhcp(3, frames::mac(&a.mac), own, &[]), (METADATA, 67)).unwrap();
    let mut buffer = [0u8; 1500];
    let (length, server) = on_a.recv_from(&mut buffer).unwrap();
    assert_eq!((kind(&buffer[..length]), server.ip()), (5, METADATA.into()));

    for _ in 0..1000 {
        on_a.send_to(&frames::dhcp(1, frames::mac(&a.mac), own, &[]), (Ipv4Addr::BROADCAST, 67)).unwrap();
    }
    assert_eq!(kind(&ask(&client(&b), &frames::dhcp(1, frames::mac(&b.mac), own, &[])).unwrap()), 2);
    on_a.set_read_timeout(Some(SILENCE)).unwrap();
    let answers = std::iter::from_fn(|| on_a.recv(&mut buffer).ok()).count();
    assert!((1..100).contains(&answers), "{answers} answers");
}

/// Two guests, of which b is not held to its own addresses.
fn with_open_b(number: u16) -> NetworkState {
    let mut network = samples::network(number);
    samples::edit(&mut network, 1).secured = false;
    network
}

#[test]
fn metadata_is_told_by_tap_and_not_by_address() {
    let lab = Lab::new("md");
    let network = with_open_b(12);
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.guest(&network, &network.ports[0]), lab.guest(&network, &network.ports[1]));
    let path = "/openstack/latest/meta_data.json";
    assert_eq!(a.metadata(path).unwrap(), (200, "{\"port\":5}".to_string()));
    assert_eq!(b.metadata(path).unwrap(), (200, "{\"port\":6}".to_string()));
    assert_eq!(a.metadata("/openstack/latest").unwrap(), (200, "meta_data.json".to_string()));
    assert_eq!(a.metadata("/openstack/latest/user_data").unwrap().0, 404);
    let post = http(a.connect(METADATA, 80).unwrap(), "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(post.unwrap().0, 405);

    // b takes a's address, and tells everyone so. It may get its own documents or nothing.
    b.ip(&["address", "flush", "dev", "eth0"]);
    b.ip(&["address", "add", &a.addresses[0].to_string(), "dev", "eth0"]);
    b.ip(&["route", "add", "default", "via", "10.213.12.1"]);
    let claim = frames::arp(2, frames::mac(&b.mac), "10.213.12.5".parse().unwrap(), METADATA);
    let card = b.card();
    for _ in 0..3 {
        card.send(&frames::ethernet([0xff; 6], frames::mac(&b.mac), 0x0806, &claim));
        if let Ok((_, body)) = b.metadata(path) {
            assert!(!body.contains("\"port\":5"), "b read a's documents");
        }
    }
    // Nor are answers to a sent to b: a's question ends with a's own answer, or with none while the bridge is lied to.
    let card = b.card();
    card.send(&frames::ethernet([0xff; 6], frames::mac(&b.mac), 0x0806, &claim));
    let told = a.run(|| super::lab::connect((METADATA, 80).into(), SILENCE));
    let told = told.and_then(|stream| http(stream, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")));
    if let Ok((_, body)) = told {
        assert!(body.contains("\"port\":5"), "{body}");
    }
    let end = frames::udp4((a.v4(), 9), (b.v4(), 9), b"good");
    a.card().send(&frames::ethernet(frames::mac(&b.mac), frames::mac(&a.mac), 0x0800, &end));
    let seen = card.until(|frame| frames::holds(frame, b"good"));
    let leaked = |frame: &&Vec<u8>| frames::holds(frame, b"\"port\":5") || frames::holds(frame, b"HTTP/1.1 200");
    assert_eq!(seen.iter().find(leaked), None, "b saw what a was told");
}

#[test]
fn the_node_answers_nothing_else() {
    let lab = Lab::new("na");
    let network = samples::network(13);
    lab.net.ensure(&network).unwrap();
    let a = lab.guest(&network, &network.ports[0]);
    let gateway: Ipv4Addr = "10.213.13.1".parse().unwrap();
    for (address, port) in [(gateway, 22), (gateway, 80), (METADATA, 22), (METADATA, 8080)] {
        assert!(a.cannot_connect(address, port), "{address}:{port} answered");
    }
    assert_eq!(a.metadata("/").unwrap().0, 200, "while metadata is answered");
}

#[test]
fn a_slow_guest_harms_only_itself() {
    let lab = Lab::new("sl");
    let network = samples::network(14);
    lab.net.ensure(&network).unwrap();
    let (a, b) = (lab.guest(&network, &network.ports[0]), lab.guest(&network, &network.ports[1]));
    let idle: Vec<_> = (0..8).map(|_| a.connect(METADATA, 80).unwrap()).collect();
    // One beyond the limit is closed without an answer.
    assert!(!matches!(a.metadata("/"), Ok((200, _))));
    assert_eq!(b.metadata("/").unwrap().0, 200);
    drop(idle);
    super::lab::await_that("a is served again", || matches!(a.metadata("/"), Ok((200, _))));
}
