//! The smaller objects within a server, written straight into the answer: a list of many servers has thousands of them,
//! and none is built as a tree first.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use servers::Flavor;

/// Anything that can be shown, written as a text without being one first.
pub(crate) struct Text<T>(pub(crate) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The URL of a thing: the cloud's, the path of its kind, its id.
struct Url<'a>(&'a str, &'static str, &'a dyn Display);

impl Display for Url<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Url(cloud, kind, id) = self;
        write!(f, "{cloud}/compute/{kind}/{id}")
    }
}

#[derive(Serialize)]
pub(super) struct Link<'a> {
    rel: &'static str,
    href: Text<Url<'a>>,
}

/// The links of a server.
pub(super) fn links<'a>(cloud: &'a str, id: &'a dyn Display) -> [Link<'a>; 2] {
    [
        Link { rel: "self", href: Text(Url(cloud, "v2.1/servers", id)) },
        Link { rel: "bookmark", href: Text(Url(cloud, "servers", id)) },
    ]
}

/// Something that is named by its id and where it may be found.
#[derive(Serialize)]
pub(super) struct Reference<'a> {
    id: &'a str,
    links: [Link<'a>; 1],
}

impl<'a> Reference<'a> {
    pub(super) fn new(cloud: &'a str, kind: &'static str, id: &'a String) -> Reference<'a> {
        Reference { id, links: [Link { rel: "bookmark", href: Text(Url(cloud, kind, id)) }] }
    }
}

/// A flavor as it was when the server was made.
#[derive(Serialize)]
pub(super) struct Embedded<'a> {
    vcpus: u32,
    ram: u64,
    disk: u64,
    ephemeral: u64,
    swap: u64,
    original_name: &'a str,
    extra_specs: &'a BTreeMap<String, String>,
}

impl<'a> Embedded<'a> {
    pub(super) fn new(flavor: &'a Flavor) -> Embedded<'a> {
        Embedded {
            vcpus: flavor.vcpus,
            ram: flavor.ram_mib,
            disk: flavor.disk_gib,
            ephemeral: flavor.ephemeral_gib,
            swap: flavor.swap_mib,
            original_name: &flavor.name,
            extra_specs: &flavor.extra_specs,
        }
    }
}

/// An address of a server.
#[derive(Serialize)]
pub(crate) struct Address {
    pub(super) version: u8,
    pub(super) addr: IpAddr,
    #[serde(rename = "OS-EXT-IPS:type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    #[serde(rename = "OS-EXT-IPS-MAC:mac_addr", skip_serializing_if = "Option::is_none")]
    pub(super) mac: Option<Text<networks::Mac>>,
}

/// `{"name": …}`
#[derive(Serialize)]
pub(super) struct Named<'a> {
    name: &'a str,
}

impl<'a> Named<'a> {
    pub(super) fn new(name: &'a str) -> Named<'a> {
        Named { name }
    }
}
