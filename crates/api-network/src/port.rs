//! Ports.

use api::{Caller, Fault, Json, Path};
use axum::extract::State;
use http::StatusCode;
use ipnet::IpNet;
use networks::keys::PortTerm;
use networks::port::{self as decide, Change, NewPort, WantedIp};
use networks::{AllowedPair, GroupId, Holder, Kind, NetError, NetworkId, Networks, Port, Who, plan};
use serde_json::{Value, json};
use store::Reader;

use crate::attrs::Attrs;
use crate::common::{self, Resource, answer, editor, id_of, with_standard};
use crate::fault::fault;
use crate::list::{Object, Query};

/// Attributes of extensions that the cell does not have.
const UNSUPPORTED: [&str; 7] = [
    "binding:profile",
    "extra_dhcp_opts",
    "qos_policy_id",
    "propagate_uplink_status",
    "numa_affinity_policy",
    "device_profile",
    "dns_domain",
];

impl Resource for Port {
    const ONE: &'static str = "port";
    const MANY: &'static str = "ports";
    const PATH: &'static str = "ports";

    fn object(&self, _reader: &Reader<'_>, who: &Who) -> Result<Object, NetError> {
        let fixed: Vec<Value> = self
            .fixed_ips
            .iter()
            .map(|fixed| json!({ "subnet_id": fixed.subnet.to_string(), "ip_address": fixed.address.to_string() }))
            .collect();
        let pairs: Vec<Value> = self
            .allowed_pairs
            .iter()
            .map(|pair| {
                let mac = pair.mac.unwrap_or(self.mac);
                json!({ "ip_address": plain(&pair.address), "mac_address": mac.to_string() })
            })
            .collect();
        let mut object = json!({
            "id": self.id.to_string(),
            "network_id": self.network.to_string(),
            "admin_state_up": self.admin_state_up,
            "status": status(self),
            "mac_address": self.mac.to_string(),
            "fixed_ips": fixed,
            "device_id": self.device_id(),
            "device_owner": self.device_owner(),
            "security_groups": self.groups.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "allowed_address_pairs": pairs,
            "port_security_enabled": self.port_security,
            "extra_dhcp_opts": [],
            "dns_name": self.host_name,
            "binding:vnic_type": "normal",
        });
        if who.admin {
            let node = self.node().unwrap_or(&self.requested_node);
            object["binding:host_id"] = json!(node);
            object["binding:vif_type"] = json!(if self.node().is_some() { "bridge" } else { "unbound" });
            object["binding:vif_details"] = json!({});
            object["binding:profile"] = json!({});
        }
        Ok(with_standard(object, &self.standard))
    }

    fn candidates(reader: &Reader<'_>, who: &Who, query: &Query) -> Result<Vec<Port>, NetError> {
        if let Some(found) = common::by_id(reader, query)? {
            return Ok(found);
        }
        let device = query.only("device_id").filter(|device| !device.is_empty());
        let network = query.only("network_id").and_then(|id| id.parse::<NetworkId>().ok());
        let term = match (device, network) {
            (Some(device), _) => PortTerm::Device(device),
            (None, Some(network)) => PortTerm::Network(network),
            (None, None) if who.admin => return common::all(reader),
            (None, None) => PortTerm::Project(&who.project),
        };
        Ok(plan::ports(reader, term)?.into_iter().map(|(port, _)| port).collect())
    }
}

fn status(port: &Port) -> &'static str {
    let realised = match &port.holder {
        Holder::Free { .. } => false,
        Holder::Server { node, .. } => node.is_some(),
        Holder::Router(_) => true,
    };
    if realised && port.admin_state_up { "ACTIVE" } else { "DOWN" }
}

/// A single address without its length.
fn plain(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// An address or a range.
struct AddressOrRange(IpNet);

impl std::str::FromStr for AddressOrRange {
    type Err = ();
    fn from_str(text: &str) -> Result<AddressOrRange, ()> {
        let single = text.parse().map(|address: std::net::IpAddr| IpNet::from(address));
        single.or_else(|_| text.parse::<IpNet>().map(|net| net.trunc())).map(AddressOrRange).map_err(|_| ())
    }
}

fn fixed_ips(attrs: &mut Attrs) -> Result<Option<Vec<WantedIp>>, Fault> {
    attrs.objects("fixed_ips", |wanted| {
        Ok(WantedIp {
            subnet: wanted.nullable("subnet_id", "UUID")?.flatten(),
            address: wanted.nullable("ip_address", "IP address")?.flatten(),
        })
    })
}

fn pairs(attrs: &mut Attrs) -> Result<Option<Vec<AllowedPair>>, Fault> {
    attrs.objects("allowed_address_pairs", |pair| {
        let AddressOrRange(address) = pair.required("ip_address", "IP address or cidr")?;
        Ok(AllowedPair { address, mac: pair.nullable("mac_address", "MAC address")?.flatten() })
    })
}

fn groups(attrs: &mut Attrs) -> Result<Option<Vec<GroupId>>, Fault> {
    attrs.texts("security_groups", "UUID")
}

/// A host name: letters, digits and hyphens, as DNS wants them.
fn dns_name(attrs: &mut Attrs) -> Result<Option<String>, Fault> {
    let Some(name) = attrs.text("dns_name")? else { return Ok(None) };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.is_empty() || name.split('.').all(label) {
        return Ok(Some(name.to_ascii_lowercase()));
    }
    Err(Fault::bad_request("Invalid input for dns_name. Reason: it is no host name."))
}

/// The rest of what stands for things that the cell does not have.
fn refuse_others(attrs: &mut Attrs) -> Result<(), Fault> {
    attrs.unsupported(&UNSUPPORTED)?;
    match attrs.text("binding:vnic_type")?.as_deref() {
        None | Some("normal") => Ok(()),
        Some(_) => Err(Fault::not_implemented("This cloud has ports of binding:vnic_type 'normal' only.")),
    }
}

fn node_name(attrs: &mut Attrs) -> Result<Option<String>, Fault> {
    Ok(attrs.nullable::<String>("binding:host_id", "host name")?.map(Option::unwrap_or_default))
}

fn described(mut attrs: Attrs) -> Result<NewPort, Fault> {
    refuse_others(&mut attrs)?;
    let network = attrs.required("network_id", "UUID")?;
    let usual = NewPort::on(network);
    let new = NewPort {
        network,
        name: attrs.text("name")?.unwrap_or_default(),
        description: attrs.text("description")?.unwrap_or_default(),
        project: attrs.project()?,
        admin_state_up: attrs.flag("admin_state_up")?.unwrap_or(usual.admin_state_up),
        mac: attrs.nullable("mac_address", "MAC address")?.flatten(),
        fixed_ips: fixed_ips(&mut attrs)?,
        groups: groups(&mut attrs)?,
        allowed_pairs: pairs(&mut attrs)?.unwrap_or_default(),
        port_security: attrs.flag("port_security_enabled")?,
        host_name: dns_name(&mut attrs)?.unwrap_or_default(),
        device_id: attrs.text("device_id")?.unwrap_or_default(),
        device_owner: attrs.text("device_owner")?.unwrap_or_default(),
        requested_node: node_name(&mut attrs)?.unwrap_or_default(),
    };
    attrs.done()?;
    Ok(new)
}

/// `POST /ports`
pub(crate) async fn create(
    State(cloud): State<Networks>,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let who = editor(&caller)?;
    let (all, bulk) = Attrs::some(body, Port::ONE, Port::MANY)?;
    let all = all.into_iter().map(described).collect::<Result<Vec<_>, _>>()?;
    let made = cloud
        .decide(&who, |plan| all.iter().map(|new| decide::create(plan, new.clone())).collect::<Result<Vec<_>, _>>());
    Ok((StatusCode::CREATED, answer(&cloud, &who, &made.await.map_err(fault)?, bulk).await?))
}

/// `PUT /ports/{id}`
pub(crate) async fn update(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let who = editor(&caller)?;
    let id = id_of(&id, Kind::Port)?;
    let mut attrs = Attrs::one(body, Port::ONE)?;
    refuse_others(&mut attrs)?;
    let change = Change {
        name: attrs.text("name")?,
        description: attrs.text("description")?,
        admin_state_up: attrs.flag("admin_state_up")?,
        mac: attrs.nullable("mac_address", "MAC address")?.flatten(),
        fixed_ips: fixed_ips(&mut attrs)?,
        groups: groups(&mut attrs)?,
        allowed_pairs: pairs(&mut attrs)?,
        port_security: attrs.flag("port_security_enabled")?,
        host_name: dns_name(&mut attrs)?,
        device_id: attrs.text("device_id")?,
        device_owner: attrs.text("device_owner")?,
        requested_node: node_name(&mut attrs)?,
    };
    attrs.done()?;
    let port = cloud.decide(&who, |plan| decide::update(plan, id, change.clone())).await.map_err(fault)?;
    answer(&cloud, &who, &[port], false).await
}

/// `DELETE /ports/{id}`
pub(crate) async fn delete(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::delete(&cloud, &caller, (Kind::Port, &id), decide::delete).await
}
