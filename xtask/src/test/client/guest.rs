//! A real guest under QEMU, from the key pair to the last deletion, each command as a user gives it. The guest itself is
//! asked whether it has what it was promised. At the end nothing is left on this machine.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::cell::Cell;
use super::openstack::{self, Openstack};
use super::said::{check, row, text};
use crate::clock::wait_for;
use crate::run;
use crate::up::ssh::Login;

/// Emulated, on two busy cores, a guest boots within half a minute.
const BOOTS_WITHIN: Duration = Duration::from_secs(150);
const STATE_WITHIN: Duration = Duration::from_secs(60);
/// How long a connection is tried that must not come about.
const NO_ANSWER: Duration = Duration::from_secs(2);
const SSH: u16 = 22;

struct Walk {
    cell: Cell,
    os: Openstack,
    key: std::path::PathBuf,
    known_hosts: std::path::PathBuf,
}

pub(super) fn walk(programs: &Path) -> anyhow::Result<()> {
    let cell = Cell::start("qemu", 1)?;
    let os = Openstack::program(programs, openstack::admin(&cell.home()));
    let (key, known_hosts) = (cell.dir().join("key"), cell.dir().join("known_hosts"));
    let mut walk = Walk { cell, os, key, known_hosts };
    if let Err(error) = steps(&mut walk) {
        println!("{}", walk.cell.log_end());
        return Err(error);
    }
    println!("a real guest: {} commands", walk.os.ran());
    Ok(())
}

fn steps(walk: &mut Walk) -> anyhow::Result<()> {
    prepare(walk)?;
    first_server(walk)?;
    its_networks(walk)?;
    its_life(walk)?;
    its_snapshot(walk)?;
    end(walk)
}

/// Keys, a group that lets nothing in yet, and two networks that a router joins.
fn prepare(walk: &mut Walk) -> anyhow::Result<()> {
    let os = &mut walk.os;
    os.done(&format!("keypair create --private-key {} key", walk.key.display()))?;
    // The client leaves it readable by all, and ssh takes no such key.
    std::fs::set_permissions(&walk.key, std::fs::Permissions::from_mode(0o600))?;
    os.done("security group create web")?;
    os.done("network create lan")?;
    // The guests have a better way out than these networks, so they are told what lies behind the router.
    let route = "--host-route destination=10.99.2.0/24,gateway=10.99.1.1";
    os.done(&format!("subnet create lan4 --network lan --subnet-range 10.99.1.0/24 {route}"))?;
    let modes = "--ip-version 6 --ipv6-ra-mode slaac --ipv6-address-mode slaac";
    os.done(&format!("subnet create lan6 --network lan --subnet-range fd00:99:1::/64 {modes}"))?;
    os.done("network create far")?;
    let route = "--host-route destination=10.99.1.0/24,gateway=10.99.2.1";
    os.done(&format!("subnet create far4 --network far --subnet-range 10.99.2.0/24 {route}"))?;
    os.done("port create door --network lan --security-group web")?;
    os.done("router create gate")?;
    for subnet in ["lan4", "lan6", "far4"] {
        os.done(&format!("router add subnet gate {subnet}"))?;
    }
    Ok(())
}

fn first_server(walk: &mut Walk) -> anyhow::Result<()> {
    let data = walk.cell.dir().join("user-data");
    std::fs::write(&data, "#!/bin/sh\necho \"$(hostname) was told\" > ~tiny/told\n")?;
    let create = "server create first --image tiny --flavor m1.tiny --key-name key --network private --port door";
    let line = format!("{create} --security-group web --user-data {} --wait", data.display());
    let server = walk.os.json(&line)?;
    check(&server, &json!({ "status": "ACTIVE", "security_groups": [{ "name": "web" }] }))?;
    prompt(walk, "first")?;
    let addresses = addresses(walk, "first", "private")?;
    for address in &addresses {
        let socket = SocketAddr::new(address.parse()?, SSH);
        let got_in = TcpStream::connect_timeout(&socket, NO_ANSWER).is_ok();
        anyhow::ensure!(!got_in, "no rule lets SSH in, and {address} answers");
    }
    walk.os.done("security group rule create web --protocol tcp --dst-port 22")?;
    walk.os.done("security group rule create web --ethertype IPv6 --protocol tcp --dst-port 22")?;
    for address in &addresses {
        let said = login(walk, address).wait_for("cat told")?;
        anyhow::ensure!(said == "first was told", "its user data left `{said}`");
    }
    Ok(())
}

/// The second card is the port that was named second, though it is the older one, and has what its network promised, by
/// DHCP and by the router's advertisement.
fn its_networks(walk: &mut Walk) -> anyhow::Result<()> {
    let promised = addresses(walk, "first", "lan")?;
    let address = first_address(walk, "first")?;
    let login = login(walk, &address);
    let has = login.wait_for("ip addr show dev eth1")?;
    anyhow::ensure!(promised.len() == 2, "it has {promised:?} and not an address of each family");
    for address in promised {
        anyhow::ensure!(has.contains(&format!(" {address}/")), "its second card lacks {address}:\n{has}");
    }
    login.wait_for("ping -c 1 -W 5 10.99.1.1").context("its gateway does not answer it")?;
    Ok(())
}

fn its_life(walk: &mut Walk) -> anyhow::Result<()> {
    let address = first_address(walk, "first")?;
    login(walk, &address).wait_for("echo kept > kept && sync")?;
    walk.os.done("server stop first")?;
    reaches(walk, "first", "SHUTOFF")?;
    walk.os.done("server start first")?;
    reaches(walk, "first", "ACTIVE")?;
    let said = login(walk, &address).wait_for("cat kept; cut -d . -f 1 /proc/uptime")?;
    anyhow::ensure!(said.starts_with("kept"), "after a stop and a start it has `{said}`");
    walk.os.done("server reboot --hard --wait first")?;
    login(walk, &address).wait_for("cat kept")?;
    walk.os.done("server reboot --wait first")?;
    login(walk, &address).wait_for("cat kept")?;
    walk.os.done("server pause first")?;
    reaches(walk, "first", "PAUSED")?;
    walk.os.done("server unpause first")?;
    reaches(walk, "first", "ACTIVE")?;
    login(walk, &address).wait_for("cat kept").map(drop)
}

/// A server of an image that was made of a server; what it is told comes on a drive this time.
fn its_snapshot(walk: &mut Walk) -> anyhow::Result<()> {
    let photo = walk.os.json("server image create --name photo --wait first")?;
    check(&photo, &json!({ "status": "active" }))?;
    let data = walk.cell.dir().join("user-data");
    let create =
        "server create second --image photo --flavor m1.tiny --key-name key --network private --network far --wait";
    let rest = format!("--security-group web --config-drive True --user-data {}", data.display());
    walk.os.done(&format!("{create} {rest}"))?;
    let address = first_address(walk, "second")?;
    prompt(walk, "second")?;
    wait_for("the user data of the second server to run", BOOTS_WITHIN, || {
        let said = login(walk, &address).wait_for("cat kept told")?;
        Ok(if said == "kept\nsecond was told" { Ok(()) } else { Err(said) })
    })?;
    let dumped = login(walk, &address).wait_for("sudo mount | grep -c /run/tiny/drive || sudo ls /run/tiny/source")?;
    anyhow::ensure!(!dumped.is_empty(), "it shows no trace of its config drive");
    through_the_router(walk)
}

/// From one network to the other, as far as the group lets it.
fn through_the_router(walk: &mut Walk) -> anyhow::Result<()> {
    let (first, far) = (first_address(walk, "first")?, addresses(walk, "second", "far")?);
    let far = far.first().context("the second server has no address on its network")?;
    let ping = format!("ping -c 1 -W 2 {far} >/dev/null && echo answered || echo silent");
    let said = login(walk, &first).wait_for(&ping)?;
    anyhow::ensure!(said == "silent", "no rule lets a ping in, and {far} answers");
    walk.os.done("security group rule create web --protocol icmp --remote-ip 10.99.1.0/24")?;
    wait_for("an answer through the router", STATE_WITHIN, || {
        let said = login(walk, &first).wait_for(&ping)?;
        Ok(if said == "answered" { Ok(()) } else { Err(said) })
    })
}

fn end(walk: &mut Walk) -> anyhow::Result<()> {
    let os = &mut walk.os;
    os.done("server delete --wait first second")?;
    os.done("image delete photo")?;
    // It was there before the server, and stays.
    os.done("port delete door")?;
    for subnet in ["lan4", "lan6", "far4"] {
        os.done(&format!("router remove subnet gate {subnet}"))?;
    }
    os.done("router delete gate")?;
    os.done("network delete lan far")?;
    os.done("security group delete web")?;
    os.done("keypair delete key")?;
    let ports = os.json("port list")?;
    anyhow::ensure!(ports == Value::Array(Vec::new()), "ports are left: {ports}");
    walk.cell.settles_empty()?;
    wait_for("nothing of the cell's guests to be on this machine", STATE_WITHIN, || {
        let left = left_on_this_machine(&walk.cell)?;
        Ok(if left.is_empty() { Ok(()) } else { Err(left.join("\n")) })
    })
}

/// Namespaces, links, guests' processes and their files.
fn left_on_this_machine(cell: &Cell) -> anyhow::Result<Vec<String>> {
    let tag = cell.tag()?;
    let mut left = Vec::new();
    for (words, starts) in [(["netns", "list"], ["ms-", "msr-"]), (["-o", "link"], ["msh", "msh"])] {
        let shown = run::output(run::command("ip").args(words))?;
        let ours = |line: &&str| starts.iter().any(|start| line.contains(&format!("{start}{tag}")));
        left.extend(shown.lines().filter(ours).map(str::to_owned));
    }
    let home = cell.home();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("qemu-system") && line.contains(&*home.to_string_lossy()) {
            left.push(line);
        }
    }
    for entry in std::fs::read_dir(home.join("agents/node-1/guests"))? {
        left.push(entry?.path().display().to_string());
    }
    Ok(left)
}

fn login<'a>(walk: &'a Walk, address: &'a str) -> Login<'a> {
    Login { key: &walk.key, address, known_hosts: &walk.known_hosts }
}

/// The guest's own sign of life.
fn prompt(walk: &mut Walk, server: &str) -> anyhow::Result<()> {
    wait_for("a login prompt on the console", BOOTS_WITHIN, || {
        let console = walk.os.writes(&format!("console log show {server}"))?;
        let last = console.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("an empty console");
        Ok(if console.contains(" login:") { Ok(()) } else { Err(last.to_owned()) })
    })
}

fn reaches(walk: &mut Walk, server: &str, state: &str) -> anyhow::Result<()> {
    wait_for(&format!("{server} to be {state}"), STATE_WITHIN, || {
        let shown = walk.os.json(&format!("server show {server}"))?;
        Ok(if shown["status"] == state { Ok(()) } else { Err(format!("it is {}", shown["status"])) })
    })
}

/// A server's addresses on a network: one of each family.
fn addresses(walk: &mut Walk, server: &str, network: &str) -> anyhow::Result<Vec<String>> {
    let servers = walk.os.json("server list")?;
    let server = row(&servers, &json!({ "Name": server }))?;
    let all = server["Networks"][network].as_array().with_context(|| format!("no {network} in {server}"))?;
    (0..all.len()).map(|at| text(server, &format!("/Networks/{network}/{at}"))).collect()
}

fn first_address(walk: &mut Walk, server: &str) -> anyhow::Result<String> {
    let all = addresses(walk, server, "private")?;
    all.into_iter().find(|address| !address.contains(':')).context("it has no IPv4 address")
}
