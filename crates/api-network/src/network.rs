//! Networks.

use api::{Caller, Fault, Json, Path};
use axum::extract::State;
use http::StatusCode;
use networks::network::{self as decide, Change, NewNetwork};
use networks::{Kind, NetError, Network, Networks, Who, plan};
use serde_json::{Value, json};
use store::Reader;

use crate::attrs::Attrs;
use crate::common::{self, Resource, answer, editor, id_of, with_standard};
use crate::fault::fault;
use crate::list::{Object, Query};

/// Attributes of extensions that the cell does not have.
const UNSUPPORTED: [&str; 10] = [
    "router:external",
    "provider:network_type",
    "provider:physical_network",
    "provider:segmentation_id",
    "segments",
    "vlan_transparent",
    "qos_policy_id",
    "dns_domain",
    "is_default",
    "availability_zone_hints",
];

impl Resource for Network {
    const ONE: &'static str = "network";
    const MANY: &'static str = "networks";
    const PATH: &'static str = "networks";

    fn object(&self, reader: &Reader<'_>, _who: &Who) -> Result<Object, NetError> {
        let subnets = plan::subnets(reader, self.id)?;
        let subnets: Vec<String> = subnets.iter().map(|(subnet, _)| subnet.id.to_string()).collect();
        let object = json!({
            "id": self.id.to_string(),
            "admin_state_up": self.admin_state_up,
            "mtu": self.mtu,
            "port_security_enabled": self.port_security,
            "router:external": false,
            "shared": self.shared,
            "status": "ACTIVE",
            "subnets": subnets,
        });
        Ok(with_standard(object, &self.standard))
    }

    fn candidates(reader: &Reader<'_>, who: &Who, query: &Query) -> Result<Vec<Network>, NetError> {
        match common::by_id(reader, query)? {
            Some(found) => Ok(found),
            None if who.admin => common::all(reader),
            None => plan::usable_networks(reader, &who.project),
        }
    }
}

fn mtu(attrs: &mut Attrs) -> Result<Option<u16>, Fault> {
    match attrs.number("mtu")?.flatten() {
        None => Ok(None),
        // Neutron takes 0 for "as usual".
        Some(0) => Ok(None),
        Some(mtu) => u16::try_from(mtu).map(Some).map_err(|_| {
            Fault::bad_request(format!("Invalid input for mtu. Reason: {mtu} is no MTU.")).kind("HTTPBadRequest")
        }),
    }
}

fn described(mut attrs: Attrs) -> Result<NewNetwork, Fault> {
    attrs.unsupported(&UNSUPPORTED)?;
    let usual = NewNetwork::default();
    let new = NewNetwork {
        name: attrs.text("name")?.unwrap_or_default(),
        description: attrs.text("description")?.unwrap_or_default(),
        project: attrs.project()?,
        admin_state_up: attrs.flag("admin_state_up")?.unwrap_or(usual.admin_state_up),
        shared: attrs.flag("shared")?.unwrap_or(usual.shared),
        mtu: mtu(&mut attrs)?,
        port_security: attrs.flag("port_security_enabled")?.unwrap_or(usual.port_security),
    };
    attrs.done()?;
    Ok(new)
}

/// `POST /networks`
pub(crate) async fn create(
    State(cloud): State<Networks>,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let who = editor(&caller)?;
    let (all, bulk) = Attrs::some(body, Network::ONE, Network::MANY)?;
    let all = all.into_iter().map(described).collect::<Result<Vec<_>, _>>()?;
    let made = cloud
        .decide(&who, |plan| all.iter().map(|new| decide::create(plan, new.clone())).collect::<Result<Vec<_>, _>>());
    Ok((StatusCode::CREATED, answer(&cloud, &who, &made.await.map_err(fault)?, bulk).await?))
}

/// `PUT /networks/{id}`
pub(crate) async fn update(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let who = editor(&caller)?;
    let id = id_of(&id, Kind::Network)?;
    let mut attrs = Attrs::one(body, Network::ONE)?;
    attrs.unsupported(&UNSUPPORTED)?;
    let change = Change {
        name: attrs.text("name")?,
        description: attrs.text("description")?,
        admin_state_up: attrs.flag("admin_state_up")?,
        shared: attrs.flag("shared")?,
        mtu: mtu(&mut attrs)?,
        port_security: attrs.flag("port_security_enabled")?,
    };
    attrs.done()?;
    let network = cloud.decide(&who, |plan| decide::update(plan, id, change.clone())).await.map_err(fault)?;
    answer(&cloud, &who, &[network], false).await
}

/// `DELETE /networks/{id}`
pub(crate) async fn delete(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::delete(&cloud, &caller, (Kind::Network, &id), decide::delete).await
}
