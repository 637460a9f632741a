//! `/regions`, `/services`, `/endpoints`.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::Identity;
use identity::ops::catalog::{EndpointPatch, ServicePatch};
use identity::record::{Endpoint, Interface, Region, Service};
use serde::Deserialize;
use serde_json::Value;

use crate::list::{self, Filters};
use crate::shape::{self, Shape, created, one};
use crate::{Cloud, policy};

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone)
        .get("/regions", list_regions)
        .post("/regions", create_region)
        .get("/regions/{region_id}", show_region)
        .put("/regions/{region_id}", put_region)
        .patch("/regions/{region_id}", update_region)
        .delete("/regions/{region_id}", delete_region)
        .get("/services", list_services)
        .post("/services", create_service)
        .get("/services/{service_id}", show_service)
        .patch("/services/{service_id}", update_service)
        .delete("/services/{service_id}", delete_service)
        .get("/endpoints", list_endpoints)
        .post("/endpoints", create_endpoint)
        .get("/endpoints/{endpoint_id}", show_endpoint)
        .patch("/endpoints/{endpoint_id}", update_endpoint)
        .delete("/endpoints/{endpoint_id}", delete_endpoint)
}

async fn show<R: Shape>(cloud: &Identity, cx: &RequestCx, id: &str) -> Result<Json<Value>, Fault> {
    Ok(one(cx, &cloud.get::<R>(R::ONE, id).await?))
}

fn fresh(cloud: &Identity) -> String {
    identity::UserId::random(cloud.world()).to_string()
}

#[derive(Deserialize)]
struct RegionBody {
    region: RegionFields,
}

#[derive(Deserialize)]
struct RegionFields {
    id: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    #[serde(default, deserialize_with = "shape::nullable")]
    parent_region_id: Option<Option<String>>,
}

async fn list_regions(
    _caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    filters: Filters,
) -> Result<Json<Value>, Fault> {
    list::answer(&cx, "/regions", &filters, &["parent_region_id"], &cloud.all::<Region>().await?)
}

async fn show_region(
    _caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    show::<Region>(&cloud, &cx, &id).await
}

async fn make_region(
    cx: &RequestCx,
    cloud: &Identity,
    id: Option<String>,
    fields: RegionFields,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let region = Region {
        id: id.filter(|id| !id.is_empty()).unwrap_or_else(|| fresh(cloud)),
        description: fields.description.unwrap_or_default(),
        parent: fields.parent_region_id.flatten(),
    };
    Ok(created(cx, &cloud.create_region(region).await?))
}

async fn create_region(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Json(RegionBody { region }): Json<RegionBody>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_region")?;
    make_region(&cx, &cloud, region.id.clone(), region).await
}

async fn put_region(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(RegionBody { region }): Json<RegionBody>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_region")?;
    if region.id.as_ref().is_some_and(|other| *other != id) {
        return Err(Fault::bad_request("The id in the body is not the one in the path."));
    }
    make_region(&cx, &cloud, Some(id), region).await
}

async fn update_region(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(RegionBody { region }): Json<RegionBody>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "update_region")?;
    Ok(one(&cx, &cloud.update_region(&id, region.description, region.parent_region_id).await?))
}

async fn delete_region(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_region")?;
    cloud.delete_region(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct CreateService {
    service: NewService,
}

#[derive(Deserialize)]
struct NewService {
    r#type: String,
    #[serde(default, deserialize_with = "shape::text")]
    name: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct UpdateService {
    service: ServiceFields,
}

#[derive(Deserialize)]
struct ServiceFields {
    r#type: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    name: Option<String>,
    #[serde(default, deserialize_with = "shape::text")]
    description: Option<String>,
    enabled: Option<bool>,
}

async fn list_services(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    filters: Filters,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_services")?;
    list::answer(&cx, "/services", &filters, &["type", "name", "enabled"], &cloud.all::<Service>().await?)
}

async fn show_service(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "get_service")?;
    show::<Service>(&cloud, &cx, &id).await
}

async fn create_service(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Json(CreateService { service: new }): Json<CreateService>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_service")?;
    let service = Service {
        id: fresh(&cloud),
        kind: new.r#type,
        name: new.name.unwrap_or_default(),
        description: new.description.unwrap_or_default(),
        enabled: new.enabled.unwrap_or(true),
    };
    Ok(created(&cx, &cloud.create_service(service).await?))
}

async fn update_service(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(UpdateService { service }): Json<UpdateService>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "update_service")?;
    let ServiceFields { r#type: kind, name, description, enabled } = service;
    Ok(one(&cx, &cloud.update_service(&id, &ServicePatch { kind, name, description, enabled }).await?))
}

async fn delete_service(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_service")?;
    cloud.delete_service(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct CreateEndpoint {
    endpoint: NewEndpoint,
}

#[derive(Deserialize)]
struct NewEndpoint {
    service_id: String,
    interface: String,
    url: String,
    region_id: Option<String>,
    region: Option<String>,
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct UpdateEndpoint {
    endpoint: EndpointFields,
}

#[derive(Deserialize)]
struct EndpointFields {
    service_id: Option<String>,
    interface: Option<String>,
    url: Option<String>,
    #[serde(default, deserialize_with = "shape::nullable")]
    region_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "shape::nullable")]
    region: Option<Option<String>>,
    enabled: Option<bool>,
}

fn interface(text: &str) -> Result<Interface, Fault> {
    text.parse().map_err(|error| Fault::bad_request(format!("Invalid input for field 'interface': {error}")))
}

async fn list_endpoints(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    filters: Filters,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_endpoints")?;
    let fields = ["interface", "service_id", "region_id", "region"];
    list::answer(&cx, "/endpoints", &filters, &fields, &cloud.all::<Endpoint>().await?)
}

async fn show_endpoint(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "get_endpoint")?;
    show::<Endpoint>(&cloud, &cx, &id).await
}

async fn create_endpoint(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Json(CreateEndpoint { endpoint: new }): Json<CreateEndpoint>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    policy::admin(&caller, "create_endpoint")?;
    let region = new.region_id.or(new.region);
    if cloud.all::<Service>().await?.iter().all(|service| service.id != new.service_id) {
        return Err(Fault::bad_request(format!("Endpoint validation failed: no service {:.64}.", new.service_id)));
    }
    let endpoint = Endpoint {
        id: fresh(&cloud),
        service: new.service_id,
        region,
        interface: interface(&new.interface)?,
        url: new.url,
        enabled: new.enabled.unwrap_or(true),
    };
    Ok(created(&cx, &cloud.create_endpoint(endpoint).await?))
}

async fn update_endpoint(
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(id): Path<String>,
    Json(UpdateEndpoint { endpoint }): Json<UpdateEndpoint>,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "update_endpoint")?;
    let patch = EndpointPatch {
        service: endpoint.service_id,
        region: endpoint.region_id.or(endpoint.region),
        interface: endpoint.interface.as_deref().map(interface).transpose()?,
        url: endpoint.url,
        enabled: endpoint.enabled,
    };
    Ok(one(&cx, &cloud.update_endpoint(&id, &patch).await?))
}

async fn delete_endpoint(caller: Caller, State(cloud): Cloud, Path(id): Path<String>) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "delete_endpoint")?;
    cloud.delete_endpoint(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
