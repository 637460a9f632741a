//! A server as clients see it.
//!
//! Written straight into the answer: what a server needs from other records is looked up once a request and kept in
//! [`Around`], so that a list of many costs one look at each server and its ports.

mod pieces;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::time::{iso_micro, rfc3339};
use api::{Caller, Fault, Microversion, RequestCx};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use names::Status;
use networks::{GroupId, NetworkId, Port, SecurityGroup};
use placement::Node;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::json;
use servers::{Server, Task, UserData, VmState};
use store::{Reader, Record};

use super::records::Presence;
use crate::fault;
use pieces::{Address, Embedded, Named, Reference, Text, links};

/// How much of a server is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Id, name, links.
    Brief,
    /// What an update answers before 2.75.
    Update,
    /// Everything.
    Full,
}

/// What all servers of one answer have in common.
pub(crate) struct Around<'a> {
    version: Microversion,
    admin: bool,
    public_url: &'a str,
    depth: Depth,
    /// Whether the answer is a list of servers.
    listed: bool,
    /// What is known of the agents, if the answer says it.
    presence: Presence,
    networks: BTreeMap<NetworkId, Arc<str>>,
    groups: BTreeMap<GroupId, Arc<str>>,
    nodes: BTreeMap<String, Option<Node>>,
}

impl<'a> Around<'a> {
    pub(crate) fn new(cx: &'a RequestCx, caller: &Caller, depth: Depth) -> Around<'a> {
        Around {
            version: cx.microversion,
            admin: caller.is_admin(),
            public_url: &cx.platform.public_url,
            depth,
            listed: false,
            presence: Presence::new(),
            networks: BTreeMap::new(),
            groups: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// The same for a list, which says a little less of each server.
    pub(crate) fn listed(mut self) -> Around<'a> {
        self.listed = true;
        self
    }

    /// Whether the answer says which hosts are up.
    pub(crate) fn needs_presence(&self) -> bool {
        self.admin && self.depth == Depth::Full && self.version.at_least(2, 16)
    }

    pub(crate) fn with_presence(&mut self, presence: Presence) {
        self.presence = presence;
    }

    /// Looks up what `server` needs from other records.
    pub(crate) fn gather(&mut self, reader: &Reader<'_>, server: Server) -> Result<Shown, Fault> {
        let mut shown =
            Shown { server, addresses: Vec::new(), groups: BTreeMap::new(), zone: String::new(), user_data: None };
        if self.depth == Depth::Brief {
            return Ok(shown);
        }
        let server = &shown.server;
        for (port, _) in networks::ports_of(reader, server.id.guest()).map_err(fault::network)? {
            let label = self.label(reader, &port)?;
            if self.depth == Depth::Full {
                self.groups_of(reader, &port, &mut shown.groups)?;
            }
            shown.addresses.push((label, port));
        }
        shown.zone = match &server.node {
            Some(name) => self.node(reader, name)?.map(|node| node.zone.clone()),
            None => None,
        }
        .or_else(|| server.zone.clone())
        .unwrap_or_default();
        if self.admin && self.version.at_least(2, 3) && server.has_user_data && self.depth == Depth::Full {
            let found = reader.entry(&UserData::key_of(&server.id)).map(UserData::decode_entry).transpose()?;
            shown.user_data = found.map(|(data, _)| STANDARD.encode(&data.content));
        }
        Ok(shown)
    }

    fn label(&mut self, reader: &Reader<'_>, port: &Port) -> Result<Arc<str>, Fault> {
        if let Some(label) = self.networks.get(&port.network) {
            return Ok(Arc::clone(label));
        }
        let found = reader.get::<networks::Network>(&port.network)?;
        let label = found.map_or_else(|| port.network.to_string(), |(network, _)| network.standard.name);
        let label: Arc<str> = label.into();
        self.networks.insert(port.network, Arc::clone(&label));
        Ok(label)
    }

    fn groups_of(
        &mut self,
        reader: &Reader<'_>,
        port: &Port,
        found: &mut BTreeMap<GroupId, Arc<str>>,
    ) -> Result<(), Fault> {
        for id in &port.groups {
            if !self.groups.contains_key(id)
                && let Some((group, _)) = reader.get::<SecurityGroup>(id)?
            {
                self.groups.insert(*id, group.standard.name.into());
            }
            if let Some(name) = self.groups.get(id) {
                found.insert(*id, Arc::clone(name));
            }
        }
        Ok(())
    }

    fn node(&mut self, reader: &Reader<'_>, name: &str) -> Result<Option<&Node>, Fault> {
        if !self.nodes.contains_key(name) {
            let found = reader.get::<Node>(&name)?.map(|(node, _)| node);
            self.nodes.insert(name.to_owned(), found);
        }
        Ok(self.nodes.get(name).and_then(Option::as_ref))
    }

    fn host_status(&self, server: &Server) -> &'static str {
        let Some(name) = &server.node else { return "" };
        let disabled = self.nodes.get(name).and_then(Option::as_ref).is_some_and(|node| node.disabled.is_some());
        match self.presence.get(name) {
            None | Some(Status::Suspected { .. }) => "UNKNOWN",
            Some(Status::Unreachable { .. } | Status::Dead { .. } | Status::Left { .. }) => "DOWN",
            Some(Status::Alive) if disabled => "MAINTENANCE",
            Some(Status::Alive) => "UP",
        }
    }
}

/// A server with what it needs from other records.
pub(crate) struct Shown {
    pub(crate) server: Server,
    addresses: Vec<(Arc<str>, Port)>,
    groups: BTreeMap<GroupId, Arc<str>>,
    zone: String,
    user_data: Option<String>,
}

/// Both, ready to be written.
pub(crate) struct Whole<'a>(pub(crate) &'a Around<'a>, pub(crate) &'a Shown);

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Whole(around, shown) = self;
        let server = &shown.server;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &Text(server.id))?;
        map.serialize_entry("name", &server.name)?;
        map.serialize_entry("links", &links(around.public_url, &server.id))?;
        if around.depth == Depth::Brief {
            return map.end();
        }
        self.core(&mut map)?;
        self.versioned(&mut map)?;
        if around.depth == Depth::Full {
            self.extended(&mut map)?;
            self.administrative(&mut map)?;
        }
        map.end()
    }
}

impl Whole<'_> {
    fn core<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Whole(around, shown) = self;
        let server = &shown.server;
        let status = server.status();
        map.serialize_entry("status", status)?;
        map.serialize_entry("tenant_id", server.project.as_str())?;
        map.serialize_entry("user_id", server.user.as_str())?;
        map.serialize_entry("metadata", &server.metadata)?;
        map.serialize_entry("hostId", &host_id(server.project.as_str(), server.node.as_deref()))?;
        map.serialize_entry("image", &Reference::new(around.public_url, "images", &server.content.image))?;
        if around.version.at_least(2, 47) {
            map.serialize_entry("flavor", &Embedded::new(&server.flavor))?;
        } else {
            map.serialize_entry("flavor", &Reference::new(around.public_url, "flavors", &server.flavor.id))?;
        }
        map.serialize_entry("created", &rfc3339(server.created))?;
        map.serialize_entry("updated", &rfc3339(server.updated))?;
        map.serialize_entry("addresses", &shown.addresses(true))?;
        map.serialize_entry("accessIPv4", &written(server.access.v4))?;
        map.serialize_entry("accessIPv6", &written(server.access.v6))?;
        map.serialize_entry("OS-DCF:diskConfig", if server.auto_disk_config { "AUTO" } else { "MANUAL" })?;
        if matches!(status, "ACTIVE" | "BUILD") {
            map.serialize_entry("progress", &if status == "ACTIVE" { 100 } else { 0 })?;
        }
        if let Some(fault) = server.fault.as_ref().filter(|_| server.state == VmState::Error) {
            let shown = json!({ "code": fault.code, "message": fault.message, "created": rfc3339(fault.at) });
            map.serialize_entry("fault", &shown)?;
        }
        Ok(())
    }

    /// What came with later versions and is in every full answer since.
    fn versioned<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Whole(around, Shown { server, .. }) = self;
        let version = around.version;
        if version.at_least(2, 9) {
            map.serialize_entry("locked", &server.locked.is_some())?;
        }
        if version.at_least(2, 19) {
            map.serialize_entry("description", &server.description)?;
        }
        if version.at_least(2, 26) {
            map.serialize_entry("tags", &server.tags)?;
        }
        if version.at_least(2, 63) {
            map.serialize_entry("trusted_image_certificates", &())?;
        }
        if version.at_least(2, 71) && !around.listed {
            map.serialize_entry("server_groups", server.group.as_slice())?;
        }
        if version.at_least(2, 73) {
            map.serialize_entry("locked_reason", &server.locked.as_ref().filter(|reason| !reason.is_empty()))?;
        }
        if version.at_least(2, 90) {
            map.serialize_entry("OS-EXT-SRV-ATTR:hostname", &server.host_name)?;
        }
        if version.at_least(2, 96) {
            map.serialize_entry("pinned_availability_zone", &server.zone)?;
        }
        Ok(())
    }

    fn extended<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Whole(_, shown) = self;
        let server = &shown.server;
        map.serialize_entry("OS-EXT-AZ:availability_zone", &shown.zone)?;
        map.serialize_entry("config_drive", if server.config_drive { "True" } else { "" })?;
        map.serialize_entry("key_name", &server.key.as_ref().map(|(name, _)| name))?;
        map.serialize_entry("OS-SRV-USG:launched_at", &server.launched.map(iso_micro))?;
        map.serialize_entry("OS-SRV-USG:terminated_at", &())?;
        map.serialize_entry("OS-EXT-STS:task_state", &server.task.map(Task::as_str))?;
        map.serialize_entry("OS-EXT-STS:vm_state", server.vm_state())?;
        map.serialize_entry("OS-EXT-STS:power_state", &server.power_state())?;
        map.serialize_entry("os-extended-volumes:volumes_attached", &[(); 0])?;
        let groups = shown.security_groups();
        if !groups.is_empty() {
            map.serialize_entry("security_groups", &groups)?;
        }
        Ok(())
    }

    fn administrative<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Whole(around, shown) = self;
        let server = &shown.server;
        if !around.admin {
            return Ok(());
        }
        map.serialize_entry("OS-EXT-SRV-ATTR:host", &server.node)?;
        map.serialize_entry("OS-EXT-SRV-ATTR:hypervisor_hostname", &server.node)?;
        map.serialize_entry("OS-EXT-SRV-ATTR:instance_name", &format!("instance-{}", &server.id.simple()[..8]))?;
        if around.version.at_least(2, 3) {
            map.serialize_entry("OS-EXT-SRV-ATTR:reservation_id", &server.reservation)?;
            map.serialize_entry("OS-EXT-SRV-ATTR:launch_index", &server.launch_index)?;
            if !around.version.at_least(2, 90) {
                map.serialize_entry("OS-EXT-SRV-ATTR:hostname", &server.host_name)?;
            }
            map.serialize_entry("OS-EXT-SRV-ATTR:kernel_id", "")?;
            map.serialize_entry("OS-EXT-SRV-ATTR:ramdisk_id", "")?;
            map.serialize_entry("OS-EXT-SRV-ATTR:root_device_name", "/dev/vda")?;
            map.serialize_entry("OS-EXT-SRV-ATTR:user_data", &shown.user_data)?;
        }
        if around.version.at_least(2, 16) {
            map.serialize_entry("host_status", around.host_status(server))?;
        }
        Ok(())
    }
}

impl Shown {
    /// Addresses by network; with `extended`, also their kind and hardware address.
    pub(crate) fn addresses(&self, extended: bool) -> BTreeMap<&str, Vec<Address>> {
        let mut out: BTreeMap<&str, Vec<Address>> = BTreeMap::new();
        for (label, port) in &self.addresses {
            let list = out.entry(label).or_default();
            list.extend(port.fixed_ips.iter().map(|fixed| Address {
                version: if fixed.address.is_ipv4() { 4 } else { 6 },
                addr: fixed.address,
                kind: extended.then_some("fixed"),
                mac: extended.then_some(Text(port.mac)),
            }));
        }
        out
    }

    /// The names of its groups, sorted: those that its ports have; as long as it has no ports, those that they will have.
    fn security_groups(&self) -> Vec<Named<'_>> {
        if !self.addresses.is_empty() {
            let mut names: Vec<&str> = self.groups.values().map(|name| &**name).collect();
            names.sort_unstable();
            names.into_iter().map(Named::new).collect()
        } else if self.server.security_groups.is_empty() && !self.server.cards.is_empty() {
            vec![Named::new("default")]
        } else {
            self.server.security_groups.iter().map(|(_, name)| Named::new(name)).collect()
        }
    }

    /// Its ports.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &Port> {
        self.addresses.iter().map(|(_, port)| port)
    }
}

/// An address, or nothing.
fn written(address: Option<impl ToString>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

/// Tells a project which of its servers share a host, without telling which host.
pub(crate) fn host_id(project: &str, node: Option<&str>) -> String {
    let Some(node) = node else { return String::new() };
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{project}{node}").as_bytes());
    hex::encode(&digest.as_ref()[..28])
}
