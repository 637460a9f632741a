//! Several agents of a cell on one machine: each has its part of a network, and nothing of the others'.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use driver::NetworkState;

use super::lab::{Lab, SILENCE, await_that, connect, echoes};
use super::samples::{self, join};

/// The network as two nodes are told of it: the first port is on one of them, the second on the other.
fn parts(number: u16) -> [NetworkState; 2] {
    let mut whole = samples::network(number);
    samples::spec(&mut whole).host_access = true;
    join(&mut whole, number, "r");
    [0, 1].map(|node| NetworkState { ports: vec![Arc::clone(&whole.ports[node])], ..whole.clone() })
}

fn host_reaches(guest: IpAddr) -> bool {
    connect(SocketAddr::new(guest, 7), SILENCE).is_ok_and(|mut stream| echoes(&mut stream))
}

#[test]
fn agents_of_one_machine_share_nothing_of_a_network() {
    let one = Lab::new("bs");
    let other = one.beside("node-2");
    let [here, there] = parts(60);
    // Whoever comes first: neither takes the host's way into the network for a stranger's.
    other.net.ensure(&there).unwrap();
    one.net.ensure(&here).unwrap();
    other.net.ensure(&there).unwrap();
    let (a, b) = (one.guest(&here, &here.ports[0]), other.guest(&there, &there.ports[0]));
    for (lab, state) in [(&one, &here), (&other, &there)] {
        let found = lab.net.found().unwrap();
        assert_eq!((found.len(), found[0].id), (1, state.spec.id));
        assert_eq!(found[0].taps, [state.ports[0].id], "its own guests' and no others");
        assert_eq!(lab.traces().len(), 3, "a network, a router, a link: {:?}", lab.traces());
    }
    assert!(one.traces().iter().all(|name| !other.traces().contains(name)));
    // The host reaches each guest where it is.
    a.echo(7);
    b.echo(7);
    for guest in [&a, &b] {
        for address in [guest.v4(), guest.v6()] {
            if address.is_ipv6() {
                guest.await_v6();
            }
            await_that("the host reaches the guest", || host_reaches(address));
        }
        assert_eq!(guest.metadata("/").unwrap().0, 200);
    }

    // One is started again, sweeps and goes away: the other does not notice.
    let mut one = one;
    one.restart();
    let kept = (other.traces(), other.net.found().unwrap());
    for found in one.net.found().unwrap() {
        one.net.remove(found.id).unwrap();
    }
    assert_eq!(one.traces(), Vec::<String>::new());
    assert_eq!((other.traces(), other.net.found().unwrap()), kept);
    assert_eq!(b.metadata("/").unwrap().0, 200);
    assert!(host_reaches(b.v4()));

    // And the reverse, with the first one back.
    one.net.ensure(&here).unwrap();
    other.net.remove(there.spec.id).unwrap();
    assert_eq!((one.traces().len(), other.traces().len()), (3, 0));

    // Taking the cell down takes all of it.
    other.net.ensure(&there).unwrap();
    crate::destroy_all("bs").unwrap();
    assert_eq!((one.traces(), other.traces()), (Vec::new(), Vec::new()));
}
