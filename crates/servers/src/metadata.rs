//! The documents that a guest reads about itself, from its config drive or the metadata service.
//!
//! OpenStack's `meta_data.json` and `network_data.json`, and the EC2 paths that older images know.

use std::borrow::Cow;

use driver::Documents;
use networks::{Port, Subnet};
use serde_json::{Value, json};
use store::Reader;

use crate::server::Server;

/// What a server's guest is told of itself.
pub struct Told {
    /// The document `meta_data.json`.
    pub meta_data: String,
    /// The document `network_data.json`.
    pub network_data: String,
}

impl Told {
    /// What `server` with these ports is told.
    pub fn of(server: &Server, ports: &[Port], subnets: &[Subnet]) -> Told {
        Told { meta_data: meta_data(server).to_string(), network_data: network_data(ports, subnets).to_string() }
    }
}

/// What the metadata service serves.
pub fn documents(server: &Server, ports: &[Port], told: &Told, user_data: &[u8]) -> Documents {
    let mut out: Vec<(&str, Cow<'_, [u8]>)> = vec![
        ("openstack/latest/meta_data.json", told.meta_data.as_bytes().into()),
        ("openstack/latest/network_data.json", told.network_data.as_bytes().into()),
        ("openstack/latest/vendor_data.json", b"{}".into()),
        ("latest/meta-data/instance-id", ec2_id(server).into_bytes().into()),
        ("latest/meta-data/hostname", server.host_name.as_bytes().into()),
        ("latest/meta-data/local-hostname", server.host_name.as_bytes().into()),
        ("latest/meta-data/instance-type", server.flavor.name.as_bytes().into()),
    ];
    if server.has_user_data {
        out.extend(["openstack/latest/user_data", "latest/user-data"].map(|path| (path, user_data.into())));
    }
    let zone = server.zone.as_deref().unwrap_or(crate::nodes::DEFAULT_ZONE);
    out.push(("latest/meta-data/placement/availability-zone", zone.as_bytes().into()));
    let v4 = ports.iter().flat_map(|port| &port.fixed_ips).find(|fixed| fixed.address.is_ipv4());
    if let Some(fixed) = v4 {
        out.push(("latest/meta-data/local-ipv4", fixed.address.to_string().into_bytes().into()));
    }
    if let Some((name, key)) = &server.key {
        out.push(("latest/meta-data/public-keys/", format!("0={name}").into_bytes().into()));
        out.push(("latest/meta-data/public-keys/0/openssh-key", key.trim_end().as_bytes().into()));
    }
    out.into_iter().collect()
}

fn ec2_id(server: &Server) -> String {
    let bits = server.id.as_uuid().as_u128();
    format!("i-{:08x}", bits >> 96)
}

/// The document `meta_data.json`.
pub fn meta_data(server: &Server) -> Value {
    let mut out = json!({
        "uuid": server.id.to_string(),
        "name": server.name,
        "hostname": server.host_name,
        "launch_index": server.launch_index,
        "project_id": server.project.to_string(),
        "availability_zone": server.zone.clone().unwrap_or_else(|| crate::nodes::DEFAULT_ZONE.to_owned()),
        "meta": server.metadata,
        "devices": [],
    });
    if let Some((name, key)) = &server.key {
        out["public_keys"] = json!({ name.as_str(): key });
        out["keys"] = json!([{ "name": name, "type": "ssh", "data": key }]);
    }
    out
}

/// The document `network_data.json`.
pub fn network_data(ports: &[Port], subnets: &[Subnet]) -> Value {
    let mut links = Vec::new();
    let mut nets = Vec::new();
    let mut services = Vec::new();
    for port in ports {
        let link = format!("tap{}", &port.id.simple()[..11]);
        links.push(json!({
            "id": link, "vif_id": port.id.to_string(), "type": "bridge",
            "ethernet_mac_address": port.mac.to_string(), "mtu": null,
        }));
        for fixed in &port.fixed_ips {
            let Some(subnet) = subnets.iter().find(|subnet| subnet.id == fixed.subnet) else { continue };
            let v6 = fixed.address.is_ipv6();
            let kind = match (v6, subnet.dhcp) {
                (true, _) => "ipv6_slaac",
                (false, true) => "ipv4_dhcp",
                (false, false) => "ipv4",
            };
            let default = if v6 { ("::", "::") } else { ("0.0.0.0", "0.0.0.0") };
            let routes: Vec<Value> = subnet
                .gateway
                .iter()
                .map(|gateway| json!({ "network": default.0, "netmask": default.1, "gateway": gateway.to_string() }))
                .collect();
            nets.push(json!({
                "id": format!("network{}", nets.len()), "type": kind, "link": link,
                "ip_address": fixed.address.to_string(), "netmask": subnet.cidr.netmask().to_string(),
                "routes": routes, "network_id": port.network.to_string(),
            }));
            services.extend(
                subnet.name_servers.iter().map(|server| json!({ "type": "dns", "address": server.to_string() })),
            );
        }
    }
    json!({ "links": links, "networks": nets, "services": services })
}

/// The subnets of the networks that `ports` are on.
pub fn subnets_of(reader: &Reader<'_>, ports: &[Port]) -> Result<Vec<Subnet>, networks::NetError> {
    let mut out: Vec<Subnet> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for port in ports {
        if seen.insert(port.network) {
            out.extend(networks::plan::subnets(reader, port.network)?.into_iter().map(|(subnet, _)| subnet));
        }
    }
    Ok(out)
}
