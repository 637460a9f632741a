//! Resolvers of the system's own kind: `dig`, and what programs call (`getaddrinfo`), in a network namespace whose
//! resolv.conf names this server.
//!
//! The test starts itself again inside the namespace, where port 53 is free and the machine's resolver is far away.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use names::Directory;
use world::World;
use world::os::OsHost;

use super::*;
use crate::Listener;

const SERVER: &str = "10.53.0.1";
const INSIDE: &str = "MAINSTAY_DNS_TEST_INSIDE";
const TEST: &str = "tests::system::the_systems_own_resolvers_find_everybody";

/// A namespace, and the resolv.conf that `ip netns exec` shows in it.
struct Lab {
    name: String,
}

impl Lab {
    fn new() -> Lab {
        let lab = Lab { name: format!("msdns-{}", std::process::id()) };
        run("ip", &["netns", "add", &lab.name]);
        std::fs::create_dir_all(lab.etc()).unwrap();
        let resolver = format!("nameserver {SERVER}\noptions timeout:2 attempts:2\n");
        std::fs::write(lab.etc().join("resolv.conf"), resolver).unwrap();
        std::fs::write(lab.etc().join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        lab.ip(&["link", "set", "lo", "up"]);
        lab.ip(&["address", "add", &format!("{SERVER}/32"), "dev", "lo"]);
        lab
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    fn ip(&self, arguments: &[&str]) {
        run("ip", &[&["-n", &self.name], arguments].concat());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever is left of them; the test's own failure is what is worth telling.
        let _done = Command::new("ip").args(["netns", "delete", &self.name]).status();
        let _done = std::fs::remove_dir_all(self.etc());
    }
}

/// What a command prints. One that is missing fails the test.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed and cannot be run: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{out}{err}", output.status);
    out.trim().to_owned()
}

#[test]
fn the_systems_own_resolvers_find_everybody() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let lab = Lab::new();
    let myself = std::env::current_exe().unwrap();
    let (inside, myself) = (format!("{INSIDE}=1"), myself.to_str().unwrap());
    let command = ["netns", "exec", &lab.name, "env", &inside, myself, "--exact", TEST, "--nocapture"];
    let said = run("ip", &command);
    assert!(said.contains("1 passed"), "{said}");
}

fn inside() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = OsHost::world(runtime.handle().clone(), Path::new("/nonexistent"));
    let directory = Directory::new();
    runtime.block_on(serve(&world, &directory));
    let at = |number| Version { instance: 1, number };
    let main = || with_https(control("main", "10.1.0.1:7000"), "192.0.2.1:443");
    let listed = [main(), control("six", "[fd00::6]:7006"), agent("n1", "10.1.0.9:7100")];
    directory.replace(at(10), listed.map(Arc::new));
    runtime.block_on(world.sleep(TTL));

    dig();
    getaddrinfo();

    // It moves: who asks again when the answer has lost its validity is told so.
    let moved = control("main", "10.1.0.77:7000");
    directory.apply(10, at(11), [names::Change::Put(Arc::new(moved))]).unwrap();
    runtime.block_on(world.sleep(TTL));
    assert_eq!(addresses("main.control"), "10.1.0.77");
    assert!(short(&[CELL, "SOA"]).contains(" 11 3600 "));

    // Too many for a datagram: both go on over TCP by themselves.
    let many = (0..150).map(|i| Arc::new(control(&format!("c{i}"), &format!("10.2.0.{}:7000", i + 1))));
    directory.replace(at(12), many);
    runtime.block_on(world.sleep(TTL));
    assert_eq!(short(&["+noedns", &format!("_store._tcp.{CELL}"), "SRV"]).lines().count(), 150);
    assert_eq!(addresses("store").split(' ').count(), 150);
    let cut = run("dig", &["+ignore", "+noedns", &format!("_store._tcp.{CELL}"), "SRV"]);
    assert!(cut.contains("flags: qr aa tc rd;"), "{cut}");
}

async fn serve(world: &World, directory: &Arc<Directory>) {
    let address: SocketAddr = format!("{SERVER}:53").parse().unwrap();
    let listener = Listener::bind(address).await.unwrap();
    listener.serve(world, CELL, Arc::clone(directory), || TTL).unwrap();
}

fn dig() {
    for over in ["+notcp", "+tcp"] {
        let check = |name: &str, kind: &str, expected: &str| {
            let full = if name.is_empty() { CELL.to_owned() } else { format!("{name}.{CELL}") };
            let mut said: Vec<String> = short(&[over, &full, kind]).lines().map(str::to_owned).collect();
            said.sort();
            assert_eq!(said.join(" | "), expected, "{over} {name} {kind}");
        };
        check("", "SOA", &format!("names.{CELL}. hostmaster.{CELL}. 10 3600 600 86400 1"));
        check("", "NS", &format!("names.{CELL}."));
        check("_store._tcp", "SRV", &format!("0 1000 7000 main.control.{CELL}. | 0 1000 7006 six.control.{CELL}."));
        check("_openstack._tcp", "SRV", &format!("0 1000 443 main.control.openstack.{CELL}."));
        check("main.control", "A", "10.1.0.1");
        check("six.control", "AAAA", "fd00::6");
        check("MAIN.Control", "A", "10.1.0.1");
        check("api", "A", "10.1.0.1");
        check("n1.node", "A", "10.1.0.9");
        check("host-of-n1.machine", "A", "10.1.0.9");
        check("nobody.control", "A", "");
    }
    let full = |arguments: &[&str]| run("dig", arguments);
    let srv = full(&[&format!("_store._tcp.{CELL}"), "SRV"]);
    assert!(srv.contains("ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 3"), "{srv}");
    assert!(srv.contains("flags: qr aa rd;") && srv.contains("udp: 1232"), "{srv}");
    let absent = full(&[&format!("nobody.control.{CELL}")]);
    assert!(absent.contains("status: NXDOMAIN") && absent.contains("AUTHORITY: 1"), "{absent}");
    let empty = full(&[&format!("main.control.{CELL}"), "AAAA"]);
    assert!(empty.contains("status: NOERROR") && empty.contains("ANSWER: 0, AUTHORITY: 1"), "{empty}");
    assert!(full(&["example.org"]).contains("status: REFUSED"));
    assert!(full(&["+edns=1", "+noednsnegotiation", CELL, "SOA"]).contains("status: BADVERS"));
    assert!(full(&["+opcode=NOTIFY", CELL, "SOA"]).contains("status: NOTIMP"));
    let transfer = Command::new("dig").args([CELL, "AXFR"]).output().unwrap();
    assert!(String::from_utf8_lossy(&transfer.stdout).contains("Transfer failed"));
}

fn short(arguments: &[&str]) -> String {
    run("dig", &[&["+short"], arguments].concat())
}

fn getaddrinfo() {
    assert_eq!(addresses("main.control"), "10.1.0.1");
    assert_eq!(addresses("six.control"), "fd00::6");
    assert_eq!(addresses("store"), "10.1.0.1 fd00::6");
    assert_eq!(addresses("n1.node"), "10.1.0.9");
    assert_eq!(addresses("nobody.control"), "none");
}

/// What a program that knows nothing of DNS is told.
fn addresses(name: &str) -> String {
    let program = format!(
        "import socket\n\
         try:\n    found = socket.getaddrinfo('{name}.{CELL}', None, type=socket.SOCK_STREAM)\n\
         except socket.gaierror as error:\n    assert error.errno in (socket.EAI_NONAME, socket.EAI_NODATA), error\n    \
         found = []\n\
         print(' '.join(sorted({{one[4][0] for one in found}})) or 'none')\n"
    );
    run("python3", &["-c", &program])
}
