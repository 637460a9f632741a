//! Subnets.

use std::net::IpAddr;

use api::{Caller, Fault, Json, Path};
use axum::extract::State;
use http::StatusCode;
use ipnet::IpNet;
use networks::address::Pool;
use networks::subnet::{self as decide, Change, Gateway, NewSubnet};
use networks::{Ipv6Mode, Kind, NetError, Network, NetworkId, Networks, Subnet, Who, plan};
use serde_json::{Value, json};
use store::Reader;

use crate::attrs::Attrs;
use crate::common::{self, Resource, answer, editor, id_of, with_standard};
use crate::fault::fault;
use crate::list::{Object, Query};

/// Attributes of extensions that the cell does not have.
const UNSUPPORTED: [&str; 6] = [
    "subnetpool_id",
    "use_default_subnetpool",
    "segment_id",
    "service_types",
    "dns_publish_fixed_ip",
    "router:external",
];

impl Resource for Subnet {
    const ONE: &'static str = "subnet";
    const MANY: &'static str = "subnets";
    const PATH: &'static str = "subnets";

    fn object(&self, _reader: &Reader<'_>, _who: &Who) -> Result<Object, NetError> {
        let pool = |pool: &Pool| json!({ "start": pool.first().to_string(), "end": pool.last().to_string() });
        let route = |(to, by): &(IpNet, IpAddr)| json!({ "destination": to.to_string(), "nexthop": by.to_string() });
        let object = json!({
            "id": self.id.to_string(),
            "network_id": self.network.to_string(),
            "ip_version": self.ip_version(),
            "cidr": self.cidr.to_string(),
            "gateway_ip": self.gateway.map(|gateway| gateway.to_string()),
            "enable_dhcp": self.dhcp,
            "allocation_pools": self.pools.iter().map(pool).collect::<Vec<_>>(),
            "dns_nameservers": self.name_servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "host_routes": self.routes.iter().map(route).collect::<Vec<_>>(),
            "ipv6_ra_mode": self.ra_mode.map(mode_text),
            "ipv6_address_mode": self.address_mode.map(mode_text),
            "subnetpool_id": null,
            "service_types": [],
        });
        Ok(with_standard(object, &self.standard))
    }

    /// With its network.
    fn is_public(&self, reader: &Reader<'_>, who: &Who) -> Result<bool, NetError> {
        let network = reader.get::<Network>(&self.network)?;
        Ok(network.is_some_and(|(network, _)| network.shared || who.owns(&network.standard.project)))
    }

    fn candidates(reader: &Reader<'_>, who: &Who, query: &Query) -> Result<Vec<Subnet>, NetError> {
        if let Some(found) = common::by_id(reader, query)? {
            return Ok(found);
        }
        match query.only("network_id").map(str::parse::<NetworkId>) {
            Some(Ok(network)) => Ok(plan::subnets(reader, network)?.into_iter().map(|(subnet, _)| subnet).collect()),
            Some(Err(_)) | None if who.admin => common::all(reader),
            Some(Err(_)) | None => plan::visible_subnets(reader, &who.project),
        }
    }
}

fn mode_text(mode: Ipv6Mode) -> &'static str {
    match mode {
        Ipv6Mode::Slaac => "slaac",
        Ipv6Mode::DhcpStateless => "dhcpv6-stateless",
    }
}

fn mode(attrs: &mut Attrs, name: &str) -> Result<Option<Ipv6Mode>, Fault> {
    match attrs.nullable::<String>(name, "IPv6 mode")?.flatten().as_deref() {
        None => Ok(None),
        Some("slaac") => Ok(Some(Ipv6Mode::Slaac)),
        Some("dhcpv6-stateless") => Ok(Some(Ipv6Mode::DhcpStateless)),
        Some("dhcpv6-stateful") => Err(Fault::not_implemented(format!(
            "{name} 'dhcpv6-stateful' is not supported by this cloud: use 'slaac' or 'dhcpv6-stateless'."
        ))),
        Some(other) => Err(Fault::bad_request(format!(
            "Invalid input for {name}. Reason: '{}' is not in ['slaac', 'dhcpv6-stateless'].",
            other.chars().take(64).collect::<String>()
        ))),
    }
}

fn pools(attrs: &mut Attrs) -> Result<Option<Vec<Pool>>, Fault> {
    attrs.objects("allocation_pools", |pool| {
        let start: IpAddr = pool.required("start", "IP address")?;
        let end: IpAddr = pool.required("end", "IP address")?;
        let upside_down = format!("The allocation pool {start}-{end} is not valid.");
        Pool::new(start, end).ok_or_else(|| Fault::bad_request(upside_down).kind("InvalidAllocationPool"))
    })
}

fn routes(attrs: &mut Attrs) -> Result<Option<Vec<(IpNet, IpAddr)>>, Fault> {
    attrs.objects("host_routes", |route| {
        Ok((route.required("destination", "cidr")?, route.required("nexthop", "IP address")?))
    })
}

fn described(mut attrs: Attrs) -> Result<NewSubnet, Fault> {
    attrs.unsupported(&UNSUPPORTED)?;
    if attrs.number("prefixlen")?.flatten().is_some() {
        return Err(Fault::not_implemented("The attribute prefixlen is not supported by this cloud: give a cidr."));
    }
    let network = attrs.required("network_id", "UUID")?;
    let cidr: IpNet = attrs.required("cidr", "IP subnet")?;
    let version = attrs.number("ip_version")?.flatten();
    let found = if cidr.addr().is_ipv4() { 4 } else { 6 };
    if version.is_some_and(|version| version != found) {
        return Err(Fault::bad_request(format!("Invalid input for cidr. Reason: '{cidr}' does not match ip_version.")));
    }
    let gateway = match attrs.nullable("gateway_ip", "IP address")? {
        None => Gateway::First,
        Some(None) => Gateway::None,
        Some(Some(address)) => Gateway::At(address),
    };
    let new = NewSubnet {
        network,
        name: attrs.text("name")?.unwrap_or_default(),
        description: attrs.text("description")?.unwrap_or_default(),
        project: attrs.project()?,
        cidr,
        gateway,
        dhcp: attrs.flag("enable_dhcp")?.unwrap_or(true),
        pools: pools(&mut attrs)?,
        name_servers: attrs.texts("dns_nameservers", "IP address")?.unwrap_or_default(),
        routes: routes(&mut attrs)?.unwrap_or_default(),
        ra_mode: mode(&mut attrs, "ipv6_ra_mode")?,
        address_mode: mode(&mut attrs, "ipv6_address_mode")?,
    };
    attrs.done()?;
    Ok(new)
}

/// `POST /subnets`
pub(crate) async fn create(
    State(cloud): State<Networks>,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let who = editor(&caller)?;
    let (all, bulk) = Attrs::some(body, Subnet::ONE, Subnet::MANY)?;
    let all = all.into_iter().map(described).collect::<Result<Vec<_>, _>>()?;
    let made = cloud.decide(&who, |plan| decide::create_many(plan, all.clone())).await.map_err(fault)?;
    Ok((StatusCode::CREATED, answer(&cloud, &who, &made, bulk).await?))
}

/// `PUT /subnets/{id}`
pub(crate) async fn update(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let who = editor(&caller)?;
    let id = id_of(&id, Kind::Subnet)?;
    let mut attrs = Attrs::one(body, Subnet::ONE)?;
    attrs.unsupported(&UNSUPPORTED)?;
    let change = Change {
        name: attrs.text("name")?,
        description: attrs.text("description")?,
        gateway: attrs.nullable("gateway_ip", "IP address")?,
        dhcp: attrs.flag("enable_dhcp")?,
        pools: pools(&mut attrs)?,
        name_servers: attrs.texts("dns_nameservers", "IP address")?,
        routes: routes(&mut attrs)?,
    };
    attrs.done()?;
    let subnet = cloud.decide(&who, |plan| decide::update(plan, id, change.clone())).await.map_err(fault)?;
    answer(&cloud, &who, &[subnet], false).await
}

/// `DELETE /subnets/{id}`
pub(crate) async fn delete(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::delete(&cloud, &caller, (Kind::Subnet, &id), decide::delete).await
}
