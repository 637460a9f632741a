//! Servers and everything below one server's path.

mod action;
mod actions;
mod create;
mod filter;
mod list;
mod metadata;
mod parts;
mod records;
mod shown;
mod tags;

pub(crate) use records::{Presence, is_up, presence};

use std::sync::Arc;

use api::{Dialect, Routes};

use crate::Compute;

pub(crate) fn routes() -> Routes<Arc<Compute>> {
    Routes::new(Dialect::Nova)
        .get("/servers", list::brief)
        .post("/servers", create::create)
        .get("/servers/detail", list::detail)
        .get("/servers/{id}", records::show)
        .put("/servers/{id}", records::update)
        .delete("/servers/{id}", records::delete)
        .post("/servers/{id}/action", action::act)
        .get("/servers/{id}/metadata", metadata::list)
        .post("/servers/{id}/metadata", metadata::merge)
        .put("/servers/{id}/metadata", metadata::replace)
        .get("/servers/{id}/metadata/{key}", metadata::show)
        .put("/servers/{id}/metadata/{key}", metadata::set)
        .delete("/servers/{id}/metadata/{key}", metadata::remove)
        .get("/servers/{id}/tags", tags::list)
        .put("/servers/{id}/tags", tags::replace)
        .delete("/servers/{id}/tags", tags::clear)
        .get("/servers/{id}/tags/{tag}", tags::check)
        .put("/servers/{id}/tags/{tag}", tags::add)
        .delete("/servers/{id}/tags/{tag}", tags::remove)
        .get("/servers/{id}/os-instance-actions", actions::list)
        .get("/servers/{id}/os-instance-actions/{request}", actions::show)
        .get("/servers/{id}/ips", parts::addresses)
        .get("/servers/{id}/ips/{label}", parts::addresses_on)
        .get("/servers/{id}/os-interface", parts::interfaces)
        .post("/servers/{id}/os-interface", parts::attach_interface)
        .get("/servers/{id}/os-interface/{port}", parts::interface)
        .delete("/servers/{id}/os-interface/{port}", parts::detach_interface)
        .get("/servers/{id}/os-security-groups", parts::security_groups)
        .get("/servers/{id}/os-volume_attachments", parts::volumes)
        .post("/servers/{id}/os-volume_attachments", parts::attach_volume)
        .get("/servers/{id}/migrations", parts::migrations)
        .get("/servers/{id}/diagnostics", parts::diagnostics)
        .post("/servers/{id}/remote-consoles", parts::remote_console)
        .get("/servers/{id}/os-server-password", parts::password)
        .delete("/servers/{id}/os-server-password", parts::clear_password)
        .get("/os-migrations", parts::all_migrations)
}
