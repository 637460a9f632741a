//! Nonsense, and silence, at every port of a cell: it goes on, and keeps nothing of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use cell_tests::{Crew, Dice, Watcher, until};

use super::{all_alive, doubts};

/// Connections of each kind at each port.
const MANY: usize = 70;
const LEFT_WITHIN: Duration = Duration::from_secs(60);

/// Descriptors that a process has open.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or_default()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("somebody listens");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a socket has timeouts");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket has timeouts");
    stream
}

#[test]
fn nonsense_and_silence_at_every_port_harm_nobody() {
    let (cell, mut crew) = Crew::muster();
    let (main, metrics, dns) = (Crew::address(), Crew::address(), Crew::address());
    let node = Crew::address();
    crew.serve("main", "control", &main, &["--metrics-listen", &metrics, "--dns-listen", &dns]);
    crew.finds(&[&main]);
    crew.agent("a", &["node-1"], None, &["--rpc-listen", &node]);
    let watcher = Watcher::new(&cell.home(), &main);
    all_alive(&watcher, &["agent/node-1"]);
    let admin = cell.admin();
    let warm = admin.create("warm");
    admin.reaches(&warm, "ACTIVE");
    let processes = [crew.pid("main"), crew.pid("a")];
    let before = processes.map(descriptors);

    let api = cell.url().replace("https://", "");
    let ports: Vec<SocketAddr> =
        [main, api, metrics.clone(), dns.clone(), node].iter().map(|at| at.parse().expect("an address")).collect();
    let mut dice = Dice::new(7);
    let mut held = Vec::new();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for port in &ports {
        for number in 0..MANY {
            // One says nothing, one says nonsense, one begins like TLS and like HTTP and goes no further.
            held.push(connect(*port));
            let mut nonsense = connect(*port);
            let bytes: Vec<u8> = (0..300).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect();
            let _refused = nonsense.write_all(&bytes);
            held.push(nonsense);
            let mut slow = connect(*port);
            let begun: &[u8] = if number % 2 == 0 { b"\x16\x03\x01\x02\x00\x01\x00" } else { b"GET / HTTP/1.1\r\nx: " };
            let _refused = slow.write_all(begun);
            held.push(slow);
            let _sent = udp.send_to(&bytes[..number * 4], dns.parse::<SocketAddr>().expect("an address"));
        }
    }

    // In the midst of it everybody is answered: those who have connections, and those who come now.
    let server = admin.create("meanwhile");
    admin.reaches(&server, "ACTIVE");
    for _ in 0..3 {
        cell.operator(&["status"]);
    }
    until("metrics are read", super::WITHIN, || {
        let mut stream = connect(metrics.parse().expect("an address"));
        stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket has timeouts");
        let _asked = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
        let mut text = String::new();
        let _as_far_as_it_goes = stream.read_to_string(&mut text);
        if text.contains("mainstay_") { Ok(()) } else { Err(text) }
    });
    for word in ["+notcp", "+tcp"] {
        let (host, port) = dns.split_once(':').expect("an address");
        let zone = std::fs::read(cell.home().join("cell.json")).expect("a cell");
        let zone: serde_json::Value = serde_json::from_slice(&zone).expect("a cell");
        let name = format!("node-1.node.{}", zone["name"].as_str().expect("a name"));
        let words = ["+short", "+time=3", "+tries=3", word, &format!("@{host}"), "-p", port, &name, "A"];
        let output = std::process::Command::new("dig").args(words).output().expect("dig is installed");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "127.0.0.1", "{output:?}");
    }
    let doubted = doubts(&watcher, &[]);
    assert!(doubted.is_empty() && watcher.ended().is_none(), "{doubted:?}");

    // They are left, each in its time, by the cell and not by those who hold them.
    until("the cell keeps nothing of it", LEFT_WITHIN, || {
        let now = processes.map(descriptors);
        let few = now.iter().zip(before).all(|(now, before)| *now < before + 20);
        if few { Ok(()) } else { Err(format!("{before:?} and then {now:?}")) }
    });
    drop(held);
    assert!(doubts(&watcher, &[]).is_empty());
}
