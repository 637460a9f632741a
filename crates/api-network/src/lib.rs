//! The networking API, as Neutron's clients speak it (v2.0).
//!
//! Thin: a handler decodes, asks who is calling, has one function of the crate `networks` decide, and encodes. What a
//! resource looks like stands in one module per resource; what all lists have in common (filters, fields, order, pages)
//! in `list.rs`, what all bodies have in common in `attrs.rs`.
//!
//! Deliberately absent: extensions that the cell does not have. They are not advertised, their paths answer 404, and an
//! attribute of theirs that asks for something is refused, never ignored.

mod attrs;
mod common;
mod discovery;
mod fault;
mod group;
mod list;
mod network;
mod port;
mod quota;
mod router;
mod rule;
mod subnet;
mod tags;
#[cfg(test)]
mod tests;

use api::{Dialect, Routes};
use networks::{Network, Networks, Port, Router, SecurityGroup, Subnet};

/// The routes behind `/network`; the catalog names that address, without a version.
pub fn routes() -> Routes<Networks> {
    Routes::new(Dialect::Neutron)
        .get("/", discovery::versions)
        .get("/v2.0", discovery::resources)
        .get("/v2.0/", discovery::resources)
        .get("/v2.0/extensions", discovery::extensions)
        .get("/v2.0/extensions/{alias}", discovery::extension)
        .get("/v2.0/networks", common::list::<Network>)
        .post("/v2.0/networks", network::create)
        .get("/v2.0/networks/{id}", common::show::<Network>)
        .put("/v2.0/networks/{id}", network::update)
        .delete("/v2.0/networks/{id}", network::delete)
        .get("/v2.0/subnets", common::list::<Subnet>)
        .post("/v2.0/subnets", subnet::create)
        .get("/v2.0/subnets/{id}", common::show::<Subnet>)
        .put("/v2.0/subnets/{id}", subnet::update)
        .delete("/v2.0/subnets/{id}", subnet::delete)
        .get("/v2.0/ports", common::list::<Port>)
        .post("/v2.0/ports", port::create)
        .get("/v2.0/ports/{id}", common::show::<Port>)
        .put("/v2.0/ports/{id}", port::update)
        .delete("/v2.0/ports/{id}", port::delete)
        .get("/v2.0/security-groups", group::list)
        .post("/v2.0/security-groups", group::create)
        .get("/v2.0/security-groups/{id}", common::show::<SecurityGroup>)
        .put("/v2.0/security-groups/{id}", group::update)
        .delete("/v2.0/security-groups/{id}", group::delete)
        .get("/v2.0/security-group-rules", rule::list)
        .post("/v2.0/security-group-rules", rule::create)
        .get("/v2.0/security-group-rules/{id}", rule::show)
        .delete("/v2.0/security-group-rules/{id}", rule::delete)
        .get("/v2.0/routers", common::list::<Router>)
        .post("/v2.0/routers", router::create)
        .get("/v2.0/routers/{id}", common::show::<Router>)
        .put("/v2.0/routers/{id}", router::update)
        .delete("/v2.0/routers/{id}", router::delete)
        .put("/v2.0/routers/{id}/add_router_interface", router::add_interface)
        .put("/v2.0/routers/{id}/remove_router_interface", router::remove_interface)
        .merge(quota::routes())
        .merge(tags::routes::<Network>())
        .merge(tags::routes::<Subnet>())
        .merge(tags::routes::<Port>())
        .merge(tags::routes::<Router>())
        .merge(tags::routes::<SecurityGroup>())
}
