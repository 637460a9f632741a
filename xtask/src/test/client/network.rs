//! The network family: what is made, shown, refused and deleted. What packets do about it is another test's matter.

use serde_json::json;

use super::families::Walk;
use super::openstack::{self, Openstack};
use super::said::{check, no_row, row, text};

pub(super) fn walk(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    let os = &mut walk.os;
    os.lists("extension list --network", &json!({ "Alias": "security-group" }))?;
    os.lists("network list", &json!({ "Name": "private" }))?;
    let made = json!({ "name": "lan", "description": "d", "mtu": 1400, "status": "ACTIVE", "shared": false });
    os.shows("network create lan --description d --mtu 1400 --tag x", &made)?;
    subnets(os)?;
    ports(os)?;
    router(os)?;
    groups(os)?;
    os.refused("network create outside --external", "router:external is not supported by this cloud")?;
    os.done("network set lan --name wan --disable")?;
    os.shows("network show wan", &json!({ "admin_state_up": false }))?;
    strangers(walk)?;
    let os = &mut walk.os;
    os.done("network delete wan")?;
    os.refused("network show wan", "No Network found for wan")?;
    no_row(&os.json("subnet list")?, &json!({ "Name": "six" }))
}

fn subnets(os: &mut Openstack) -> anyhow::Result<()> {
    let four = json!({
        "cidr": "10.9.0.0/24", "gateway_ip": "10.9.0.1", "enable_dhcp": true, "dns_nameservers": ["192.0.2.53"],
        "allocation_pools": [{ "start": "10.9.0.10", "end": "10.9.0.11" }],
        "host_routes": [{ "destination": "10.8.0.0/16", "nexthop": "10.9.0.2" }],
    });
    os.shows(
        "subnet create four --network lan --subnet-range 10.9.0.0/24 --dns-nameserver 192.0.2.53 --allocation-pool \
         start=10.9.0.10,end=10.9.0.11 --host-route destination=10.8.0.0/16,gateway=10.9.0.2",
        &four,
    )?;
    let six = json!({ "cidr": "fd00:9::/64", "gateway_ip": "fd00:9::1", "ipv6_ra_mode": "slaac", "ip_version": 6 });
    let modes = "--ip-version 6 --ipv6-ra-mode slaac --ipv6-address-mode slaac";
    os.shows(&format!("subnet create six --network lan --subnet-range fd00:9::/64 {modes}"), &six)?;
    for (range, words) in [
        ("10.9.0.128/25", "overlaps with another subnet"),
        ("10.9.1.0/33", "is not a valid IP subnet"),
        ("10.9.1.0/24 --gateway fd00::1", "400"),
        ("10.9.1.0/24 --allocation-pool start=10.9.2.1,end=10.9.2.9", "400"),
    ] {
        os.refused(&format!("subnet create bad --network lan --subnet-range {range}"), words)?;
    }
    os.refused("subnet create bad --network nowhere --subnet-range 10.1.0.0/24", "No Network found for nowhere")?;
    os.done("subnet set four --name quattro --no-dns-nameservers --dns-nameserver 192.0.2.54")?;
    os.shows("subnet show quattro", &json!({ "dns_nameservers": ["192.0.2.54"] }))?;
    os.lists("subnet list --network lan", &json!({ "Name": "quattro", "Subnet": "10.9.0.0/24" })).map(drop)
}

fn ports(os: &mut Openstack) -> anyhow::Result<()> {
    let port = os.shows(
        "port create one --network lan --fixed-ip subnet=quattro,ip-address=10.9.0.50 --mac-address fa:16:3e:00:00:01",
        &json!({ "mac_address": "fa:16:3e:00:00:01", "status": "DOWN", "port_security_enabled": true }),
    )?;
    row(&port["fixed_ips"], &json!({ "ip_address": "10.9.0.50" }))?;
    // By the hardware address, as the guest will derive it from the router's advertisement.
    row(&port["fixed_ips"], &json!({ "ip_address": "fd00:9::f816:3eff:fe00:1" }))?;
    let group = text(&port, "/security_group_ids/0")?;
    os.shows(&format!("security group show {group}"), &json!({ "name": "default" }))?;
    let fixed = "port create bad --network lan --fixed-ip subnet=quattro,ip-address";
    os.refused(&format!("{fixed}=10.9.0.50"), "10.9.0.50 is in use")?;
    os.refused(&format!("{fixed}=10.10.0.1"), "is not a valid IP for the specified subnet")?;
    os.refused("port create bad --network lan --mac-address fa:16:3e:00:00:01", "409")?;
    os.refused("port create bad --network lan --mac-address 01:00:5e:00:00:01", "400")?;
    // The pool has two addresses.
    os.done("port create two --network lan")?;
    os.done("port create three --network lan")?;
    os.refused("port create four --network lan", "409")?;
    os.done("port delete three")?;
    os.refused("network delete lan", "one or more ports still in use on the network (2 of them)")?;
    os.refused("subnet delete quattro", "in use")?;
    os.refused(
        "port set one --no-security-group --disable-port-security --allowed-address ip-address=10.9.0.9",
        "409",
    )?;
    os.done("port set one --no-security-group --disable-port-security --name uno --disable")?;
    let open = json!({ "port_security_enabled": false, "security_group_ids": [], "admin_state_up": false });
    os.shows("port show uno", &open)?;
    os.lists("port list --network lan", &json!({ "Name": "uno" }))?;
    os.done("port delete uno two")
}

fn router(os: &mut Openstack) -> anyhow::Result<()> {
    os.shows("router create gate", &json!({ "status": "ACTIVE", "admin_state_up": true }))?;
    os.done("router add subnet gate quattro")?;
    os.done("router add subnet gate six")?;
    os.refused("router add subnet gate quattro", "400")?;
    let shown = os.json("router show gate")?;
    for address in ["10.9.0.1", "fd00:9::1"] {
        row(&shown["interfaces_info"], &json!({ "ip_address": address }))?;
    }
    os.refused("router delete gate", "is in use")?;
    os.refused("router set gate --external-gateway private", "is not an external network")?;
    os.done("router set gate --name door --disable")?;
    os.shows("router show door", &json!({ "admin_state_up": false }))?;
    os.done("router remove subnet door quattro")?;
    os.done("router remove subnet door six")?;
    os.refused("router remove subnet door six", "404")?;
    os.done("router delete door")
}

fn groups(os: &mut Openstack) -> anyhow::Result<()> {
    let made = os.shows("security group create web --description d", &json!({ "name": "web", "description": "d" }))?;
    // What is new lets everything out, and nothing in.
    row(&made["rules"], &json!({ "direction": "egress", "ethertype": "IPv4" }))?;
    row(&made["rules"], &json!({ "direction": "egress", "ethertype": "IPv6" }))?;
    no_row(&made["rules"], &json!({ "direction": "ingress" }))?;
    let create = "security group rule create web";
    let ports = json!({ "protocol": "tcp", "port_range_min": 80, "port_range_max": 90, "direction": "ingress" });
    let rule = os.shows(&format!("{create} --protocol tcp --dst-port 80:90 --remote-ip 10.0.0.0/8"), &ports)?;
    check(&rule, &json!({ "remote_ip_prefix": "10.0.0.0/8", "ether_type": "IPv4" }))?;
    os.refused(&format!("{create} --protocol tcp --dst-port 80:90 --remote-ip 10.0.0.0/8"), "409")?;
    let six = json!({ "ether_type": "IPv6", "direction": "egress" });
    os.shows(&format!("{create} --ethertype IPv6 --protocol udp --dst-port 53 --egress"), &six)?;
    os.done(&format!("{create} --protocol icmp --icmp-type 8 --remote-group web"))?;
    os.refused(&format!("{create} --protocol bogus"), "protocol bogus not supported")?;
    os.refused(&format!("{create} --remote-group nobody"), "No SecurityGroup found for nobody")?;
    os.refused(&format!("{create} --ethertype IPv6 --protocol tcp --dst-port 22 --remote-ip 10.0.0.0/8"), "400")?;
    os.lists("security group rule list web", &json!({ "IP Range": "10.0.0.0/8", "Port Range": "80:90" }))?;
    os.done(&format!("security group rule delete {}", text(&rule, "/id")?))?;
    no_row(&os.json("security group rule list web")?, &json!({ "Port Range": "80:90" }))?;
    os.done("security group set web --name www")?;
    os.done("security group delete www")?;
    os.refused("security group show www", "No SecurityGroup found for www")
}

/// Another project sees nothing of it, and may have the same ranges.
fn strangers(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    let os = &mut walk.os;
    let id = text(&os.json("network show wan")?, "/id")?;
    os.done("project create red")?;
    os.done("user create ann --password Secret-1 --project red")?;
    os.done("role add --user ann --project red member")?;
    let mut ann = Openstack::shell(walk.programs, openstack::user(&walk.cell.home(), "ann", "Secret-1", "red"))?;
    ann.refused(&format!("network show {id}"), "No Network found")?;
    ann.refused(&format!("subnet create mine --network {id} --subnet-range 10.1.0.0/24"), "No Network found")?;
    ann.lists("network list", &json!({ "Name": "private" }))?;
    ann.refused("network delete private", "403")?;
    ann.refused("network create all --share", "403")?;
    ann.done("network create wan")?;
    ann.shows("subnet create four --network wan --subnet-range 10.9.0.0/24", &json!({ "gateway_ip": "10.9.0.1" }))?;
    os.done("quota set --networks 1 --ports 3 red")?;
    os.lists("quota show --network red", &json!({ "Resource": "networks", "Limit": 1 }))?;
    ann.refused("network create more", "409")?;
    os.done("quota delete --network red")?;
    ann.done("network create more")?;
    ann.done("network delete more wan")?;
    os.done("user delete ann")?;
    os.done("project delete red")
}
