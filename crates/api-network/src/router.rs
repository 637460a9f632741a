//! Routers and their interfaces.

use api::{Caller, Fault, Json, Path};
use axum::extract::State;
use http::StatusCode;
use networks::router::{self as decide, Interface};
use networks::{
    Kind, NetError, Network, NetworkId, Networks, Port, PortId, ProjectId, Router, SubnetId, Who, keys, plan,
};
use serde_json::{Value, json};
use store::Reader;

use crate::attrs::Attrs;
use crate::common::{self, Resource, answer, editor, id_of, with_standard};
use crate::fault::fault;
use crate::list::{Object, Query};

/// Attributes of extensions that the cell does not have.
const UNSUPPORTED: [&str; 8] = [
    "routes",
    "distributed",
    "ha",
    "flavor_id",
    "availability_zone_hints",
    "enable_ndp_proxy",
    "enable_default_route_bfd",
    "enable_default_route_ecmp",
];

impl Resource for Router {
    const ONE: &'static str = "router";
    const MANY: &'static str = "routers";
    const PATH: &'static str = "routers";

    fn object(&self, _reader: &Reader<'_>, _who: &Who) -> Result<Object, NetError> {
        let object = json!({
            "id": self.id.to_string(),
            "admin_state_up": self.admin_state_up,
            "status": "ACTIVE",
            "external_gateway_info": null,
            "routes": [],
        });
        Ok(with_standard(object, &self.standard))
    }

    fn candidates(reader: &Reader<'_>, who: &Who, query: &Query) -> Result<Vec<Router>, NetError> {
        if let Some(found) = common::by_id(reader, query)? {
            return Ok(found);
        }
        if who.admin {
            return common::all(reader);
        }
        let found = reader.by::<Router>(keys::ROUTERS, who.project.as_str());
        Ok(found.map(|found| found.map(|(router, _)| router)).collect::<Result<_, _>>()?)
    }
}

struct Wanted {
    name: Option<String>,
    description: Option<String>,
    project: Option<ProjectId>,
    admin_state_up: Option<bool>,
    /// The network that the router is to lead out by.
    gateway: Option<NetworkId>,
}

fn wanted(mut attrs: Attrs) -> Result<Wanted, Fault> {
    attrs.unsupported(&UNSUPPORTED)?;
    let gateway = match attrs.take("external_gateway_info") {
        None | Some(Value::Null) => None,
        Some(Value::Object(map)) if map.is_empty() => None,
        Some(Value::Object(mut map)) => {
            let mut inner = Attrs::bare(Value::Object(std::mem::take(&mut map)))?;
            Some(inner.required("network_id", "UUID")?)
        }
        Some(_) => return Err(Fault::bad_request("Invalid input for external_gateway_info. Reason: it is no object.")),
    };
    let wanted = Wanted {
        name: attrs.text("name")?,
        description: attrs.text("description")?,
        project: attrs.project()?,
        admin_state_up: attrs.flag("admin_state_up")?,
        gateway,
    };
    attrs.done()?;
    Ok(wanted)
}

/// No network of this cell leads out, so the answer tells only whether the one that is named is there.
fn refuse_gateway(plan: &plan::Plan<'_>, gateway: Option<NetworkId>) -> Result<(), NetError> {
    let Some(id) = gateway else { return Ok(()) };
    plan::seen::<Network>(plan.reader(), plan.who(), &id)?;
    Err(NetError::Invalid(format!("Bad router request: Network {id} is not an external network.")))
}

/// `POST /routers`
pub(crate) async fn create(
    State(cloud): State<Networks>,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let who = editor(&caller)?;
    let (all, bulk) = Attrs::some(body, Router::ONE, Router::MANY)?;
    let all = all.into_iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
    let made = cloud.decide(&who, |plan| {
        let routers = all.iter().map(|new| {
            refuse_gateway(plan, new.gateway)?;
            let (name, description) = (new.name.clone(), new.description.clone());
            let up = new.admin_state_up.unwrap_or(true);
            decide::create(plan, name.unwrap_or_default(), description.unwrap_or_default(), new.project.clone(), up)
        });
        routers.collect::<Result<Vec<_>, _>>()
    });
    Ok((StatusCode::CREATED, answer(&cloud, &who, &made.await.map_err(fault)?, bulk).await?))
}

/// `PUT /routers/{id}`
pub(crate) async fn update(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let who = editor(&caller)?;
    let id = id_of(&id, Kind::Router)?;
    let change = wanted(Attrs::one(body, Router::ONE)?)?;
    if change.project.is_some() {
        return Err(Fault::bad_request("Cannot update read-only attribute project_id"));
    }
    let router = cloud.decide(&who, |plan| {
        refuse_gateway(plan, change.gateway)?;
        decide::update(plan, id, change.name.clone(), change.description.clone(), change.admin_state_up)
    });
    answer(&cloud, &who, &[router.await.map_err(fault)?], false).await
}

/// `DELETE /routers/{id}`
pub(crate) async fn delete(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::delete(&cloud, &caller, (Kind::Router, &id), decide::delete).await
}

fn interface(body: Value) -> Result<(Option<PortId>, Option<SubnetId>), Fault> {
    let mut attrs = Attrs::bare(body)?;
    let port = attrs.parsed("port_id", "UUID")?;
    let subnet = attrs.parsed("subnet_id", "UUID")?;
    attrs.done()?;
    Ok((port, subnet))
}

fn shown(router: &Router, port: &Port, subnet: SubnetId) -> Json<Value> {
    let subnets: Vec<String> = port.fixed_ips.iter().map(|fixed| fixed.subnet.to_string()).collect();
    Json(json!({
        "id": router.id.to_string(),
        "tenant_id": router.standard.project.as_str(),
        "project_id": router.standard.project.as_str(),
        "network_id": port.network.to_string(),
        "port_id": port.id.to_string(),
        "subnet_id": subnet.to_string(),
        "subnet_ids": subnets,
        "tags": router.standard.tags,
    }))
}

/// `PUT /routers/{id}/add_router_interface`
pub(crate) async fn add_interface(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let who = editor(&caller)?;
    let id = id_of(&id, Kind::Router)?;
    let by = match interface(body)? {
        (Some(port), None) => Interface::Port(port),
        (None, Some(subnet)) => Interface::Subnet(subnet),
        (Some(_), Some(_)) => {
            return Err(Fault::bad_request("Cannot specify both subnet-id and port-id").kind("BadRequest"));
        }
        (None, None) => {
            return Err(Fault::bad_request("Either subnet_id or port_id must be specified").kind("BadRequest"));
        }
    };
    let added = cloud.decide(&who, |plan| decide::add_interface(plan, id, by)).await.map_err(fault)?;
    Ok(shown(&added.0, &added.1, added.2))
}

/// `PUT /routers/{id}/remove_router_interface`
pub(crate) async fn remove_interface(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let who = editor(&caller)?;
    let id = id_of(&id, Kind::Router)?;
    let (port, subnet) = interface(body)?;
    let removed = cloud.decide(&who, |plan| decide::remove_interface(plan, id, port, subnet)).await.map_err(fault)?;
    Ok(shown(&removed.0, &removed.1, removed.2))
}
