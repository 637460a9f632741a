//! Which servers a list holds, and in which order.
//!
//! Nova takes many parameters and means few of them: those that are known filter, the rest is ignored before 2.75 and
//! refused since. Some are for administrators, and are ignored from others.

use std::cmp::Ordering;

use api::{Caller, Fault, RequestCx};
use regex::{Regex, RegexBuilder};
use servers::{Server, ServerId, Task};
use store::Reader;
use world::Wall;

use crate::body::boolean_word;
use crate::common;
use crate::fault;

/// The longest pattern that is compiled; a compiled one may take this many bytes.
const PATTERN_CHARS_MAX: usize = 255;
const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// Statuses that Nova knows; one that is none of these is refused since 2.38.
const STATUSES: [&str; 20] = [
    "ACTIVE",
    "BUILD",
    "DELETED",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "PAUSED",
    "REBOOT",
    "REBUILD",
    "RESCUE",
    "RESIZE",
    "REVERT_RESIZE",
    "SHELVED",
    "SHELVED_OFFLOADED",
    "SHUTOFF",
    "SOFT_DELETED",
    "SUSPENDED",
    "UNKNOWN",
    "VERIFY_RESIZE",
];

/// Parameters that are known and filter nothing here, because no server has what they ask about.
const WITHOUT_EFFECT: [&str; 16] = [
    "all_tenants",
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
    "project_id",
    "tenant_id",
    "deleted",
    "progress",
    "kernel_id",
    "ramdisk_id",
    "root_device_name",
    "block_device_mapping",
    "services",
    "terminated_at",
    "soft_deleted",
];

/// What an administrator may filter by and others since 2.83 or not at all.
const FOR_ADMINS: [&str; 17] = [
    "host",
    "node",
    "user_id",
    "vm_state",
    "task_state",
    "power_state",
    "availability_zone",
    "config_drive",
    "key_name",
    "hostname",
    "launch_index",
    "uuid",
    "reservation_id",
    "description",
    "display_description",
    "access_ip_v4",
    "access_ip_v6",
];
const FOR_ALL_SINCE_83: [&str; 8] =
    ["availability_zone", "config_drive", "key_name", "power_state", "task_state", "user_id", "vm_state", "hostname"];

/// What a client wants to see.
pub(super) struct Wish {
    /// Only this project.
    pub(super) project: Option<String>,
    /// Only this server.
    pub(super) id: Option<ServerId>,
    /// Nothing can match.
    pub(super) nothing: bool,
    /// The project that the caller may see, unless it is an administrator.
    confined: Option<String>,
    filters: Vec<Filter>,
    sort: Vec<(Field, bool)>,
}

enum Filter {
    Name(Regex),
    Description(Regex),
    Address(Regex, bool),
    Status(Vec<String>),
    Is(Field, Vec<String>),
    Since(Wall),
    Before(Wall),
    Locked(bool),
    /// Tags; whether one of them is enough; whether it is the others that are wanted.
    Tags(Vec<String>, bool, bool),
    ConfigDrive(bool),
}

/// What can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    Description,
    Flavor,
    Image,
    Host,
    HostName,
    Zone,
    KeyName,
    User,
    Project,
    Reservation,
    LaunchIndex,
    VmState,
    TaskState,
    PowerState,
    Created,
    Updated,
    Launched,
    AccessV4,
    AccessV6,
}

impl Field {
    fn of_filter(name: &str) -> Option<Field> {
        Some(match name {
            "flavor" => Field::Flavor,
            "image" => Field::Image,
            "user_id" => Field::User,
            "reservation_id" => Field::Reservation,
            "host" | "node" | "hostname" | "availability_zone" | "key_name" | "launch_index" | "vm_state"
            | "task_state" | "power_state" | "access_ip_v4" | "access_ip_v6" => return Field::of_sort(name),
            _ => return None,
        })
    }

    fn of_sort(name: &str) -> Option<Field> {
        Some(match name {
            "uuid" | "id" => Field::Id,
            "display_name" | "name" => Field::Name,
            "display_description" => Field::Description,
            "instance_type_id" => Field::Flavor,
            "image_ref" => Field::Image,
            "host" | "node" => Field::Host,
            "hostname" => Field::HostName,
            "availability_zone" => Field::Zone,
            "key_name" => Field::KeyName,
            "user_id" => Field::User,
            "project_id" => Field::Project,
            "launch_index" => Field::LaunchIndex,
            "vm_state" => Field::VmState,
            "task_state" => Field::TaskState,
            "power_state" => Field::PowerState,
            "created_at" => Field::Created,
            "updated_at" => Field::Updated,
            "launched_at" => Field::Launched,
            "access_ip_v4" => Field::AccessV4,
            "access_ip_v6" => Field::AccessV6,
            // These are known, and the same for all servers here.
            "auto_disk_config" | "config_drive" | "ephemeral_gb" | "kernel_id" | "locked" | "locked_by"
            | "progress" | "ramdisk_id" | "root_device_name" | "root_gb" | "terminated_at" | "vcpus" | "memory_mb" => {
                Field::Id
            }
            _ => return None,
        })
    }

    fn text(self, server: &Server) -> String {
        match self {
            Field::Id => server.id.to_string(),
            Field::Name => server.name.clone(),
            Field::Description => server.description.clone().unwrap_or_default(),
            Field::Flavor => server.flavor.id.clone(),
            Field::Image => server.content.image.clone(),
            Field::Host => server.node.clone().unwrap_or_default(),
            Field::HostName => server.host_name.clone(),
            Field::Zone => server.zone.clone().unwrap_or_else(|| servers::nodes::DEFAULT_ZONE.to_owned()),
            Field::KeyName => server.key.as_ref().map(|(name, _)| name.clone()).unwrap_or_default(),
            Field::User => server.user.to_string(),
            Field::Project => server.project.to_string(),
            Field::Reservation => server.reservation.clone(),
            Field::LaunchIndex => server.launch_index.to_string(),
            Field::VmState => server.vm_state().to_owned(),
            Field::TaskState => server.task.map(Task::as_str).unwrap_or_default().to_owned(),
            Field::PowerState => server.power_state().to_string(),
            Field::Created => format!("{:020}", server.created.as_micros()),
            Field::Updated => format!("{:020}", server.updated.as_micros()),
            Field::Launched => format!("{:020}", server.launched.map_or(0, Wall::as_micros)),
            Field::AccessV4 => server.access.v4.map(|address| address.to_string()).unwrap_or_default(),
            Field::AccessV6 => server.access.v6.map(|address| address.to_string()).unwrap_or_default(),
        }
    }
}

impl Wish {
    pub(super) fn parse(cx: &RequestCx, caller: &Caller, pairs: &[(String, String)]) -> Result<Wish, Fault> {
        let admin = caller.is_admin();
        let own = caller.project()?.to_string();
        if !admin && !caller.has_role("reader") {
            return Err(Fault::forbidden("Policy doesn't allow os_compute_api:servers:index to be performed."));
        }
        let all = match common::last(pairs, "all_tenants") {
            None => false,
            Some("") => true,
            Some(word) => boolean_word(word)
                .ok_or_else(|| Fault::bad_request(format!("Unrecognized value '{word}' for all_tenants")))?,
        };
        if all && !admin {
            return Err(Fault::forbidden(
                "Policy doesn't allow os_compute_api:servers:index:get_all_tenants to be performed.",
            ));
        }
        let asked = common::last(pairs, "project_id").or_else(|| common::last(pairs, "tenant_id")).map(str::to_owned);
        let project = match asked {
            // Without `all_tenants` the caller's own project is meant, whichever is named.
            Some(project) if all => Some(project),
            None if all => None,
            Some(_) | None => Some(own.clone()),
        };
        let confined = (!admin).then_some(own);
        let mut wish = Wish { project, id: None, nothing: false, confined, filters: Vec::new(), sort: sorting(pairs)? };
        for (name, value) in pairs {
            wish.add(cx, admin, name, value, pairs)?;
        }
        Ok(wish)
    }

    fn add(
        &mut self,
        cx: &RequestCx,
        admin: bool,
        name: &str,
        value: &str,
        pairs: &[(String, String)],
    ) -> Result<(), Fault> {
        let version = cx.microversion;
        let known_to_all = version.at_least(2, 83) && FOR_ALL_SINCE_83.contains(&name);
        let common = name == "reservation_id";
        if FOR_ADMINS.contains(&name) && !admin && !known_to_all && !common {
            return Ok(());
        }
        let tags = |any: bool, not: bool| Filter::Tags(value.split(',').map(str::to_owned).collect(), any, not);
        let filter = match name {
            "name" | "display_name" => Filter::Name(pattern(value)?),
            "description" | "display_description" => Filter::Description(pattern(value)?),
            "ip" => Filter::Address(pattern(value)?, false),
            "ip6" if admin || version.at_least(2, 5) => Filter::Address(pattern(value)?, true),
            "status" => {
                let wanted: Vec<String> = every(pairs, "status").map(str::to_ascii_uppercase).collect();
                if version.at_least(2, 38) && wanted.iter().any(|word| !STATUSES.contains(&word.as_str())) {
                    return Err(Fault::bad_request(format!("Invalid status value: {value}")));
                }
                Filter::Status(wanted)
            }
            "uuid" => {
                match value.parse() {
                    Ok(id) => self.id = Some(id),
                    Err(_) => self.nothing = true,
                }
                return Ok(());
            }
            "changes-since" => Filter::Since(moment(name, value)?),
            "changes-before" if version.at_least(2, 66) => Filter::Before(moment(name, value)?),
            "locked" if version.at_least(2, 73) => Filter::Locked(word(name, value)?),
            "tags" if version.at_least(2, 26) => tags(false, false),
            "tags-any" if version.at_least(2, 26) => tags(true, false),
            "not-tags" if version.at_least(2, 26) => tags(false, true),
            "not-tags-any" if version.at_least(2, 26) => tags(true, true),
            "config_drive" => Filter::ConfigDrive(word(name, value)?),
            "deleted" | "soft_deleted" if boolean_word(value) == Some(true) && admin => {
                // What was deleted is gone.
                self.nothing = true;
                return Ok(());
            }
            other => match Field::of_filter(other) {
                Some(field) => Filter::Is(field, every(pairs, other).map(str::to_owned).collect()),
                None if WITHOUT_EFFECT.contains(&other) || !version.at_least(2, 75) => return Ok(()),
                None => {
                    return Err(Fault::bad_request(format!(
                        "Invalid input for query parameters {name}. Additional properties are not allowed ('{name}' was unexpected)"
                    )));
                }
            },
        };
        self.filters.push(filter);
        Ok(())
    }

    /// Whether the server is among those that are filtered at all.
    pub(super) fn covers(&self, server: &Server) -> bool {
        let of = |project: &Option<String>| project.as_ref().is_none_or(|project| server.project.as_str() == project);
        of(&self.confined) && of(&self.project)
    }

    /// Whether the wanted order is the usual one: the newest first.
    pub(super) fn newest_first(&self) -> bool {
        self.sort.is_empty() || self.sort == [(Field::Created, true)]
    }

    pub(super) fn wants(&self, reader: &Reader<'_>, server: &Server) -> Result<bool, Fault> {
        if !self.covers(server) {
            return Ok(false);
        }
        for filter in &self.filters {
            if !filter.fits(reader, server)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As is asked for; what is equal by that, stays in the order in which it came.
    pub(super) fn sort(&self, servers: &mut [Server]) {
        if self.newest_first() {
            return;
        }
        servers.sort_by_cached_key(|server| {
            let key = |(field, descending): &(Field, bool)| Sorted(field.text(server), *descending);
            (self.sort.iter().map(key).collect::<Vec<_>>(), server.id)
        });
    }
}

/// Text that sorts in either direction.
#[derive(PartialEq, Eq)]
struct Sorted(String, bool);

impl Ord for Sorted {
    fn cmp(&self, other: &Sorted) -> Ordering {
        let order = self.0.cmp(&other.0);
        if self.1 { order.reverse() } else { order }
    }
}

impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Sorted) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Filter {
    fn fits(&self, reader: &Reader<'_>, server: &Server) -> Result<bool, Fault> {
        Ok(match self {
            Filter::Name(pattern) => pattern.is_match(&server.name),
            Filter::Description(pattern) => pattern.is_match(server.description.as_deref().unwrap_or_default()),
            Filter::Address(pattern, v6) => {
                let ports = networks::ports_of(reader, server.id.guest()).map_err(fault::network)?;
                let mut addresses = ports.iter().flat_map(|(port, _)| &port.fixed_ips).map(|fixed| fixed.address);
                addresses.any(|address| address.is_ipv6() == *v6 && pattern.is_match(&address.to_string()))
            }
            Filter::Status(wanted) => wanted.iter().any(|status| status == server.status()),
            Filter::Is(field, wanted) => wanted.contains(&field.text(server)),
            Filter::Since(moment) => server.updated >= *moment,
            Filter::Before(moment) => server.updated <= *moment,
            Filter::Locked(wanted) => server.locked.is_some() == *wanted,
            Filter::Tags(tags, any, not) => {
                let has = |tag: &String| server.tags.contains(tag);
                (if *any { tags.iter().any(has) } else { tags.iter().all(has) }) != *not
            }
            Filter::ConfigDrive(wanted) => server.config_drive == *wanted,
        })
    }
}

fn every<'a>(pairs: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A pattern that is found anywhere, whatever its case.
fn pattern(text: &str) -> Result<Regex, Fault> {
    let wrong = || Fault::bad_request(format!("The filter '{text}' is not a valid regular expression."));
    if text.chars().count() > PATTERN_CHARS_MAX {
        return Err(wrong());
    }
    RegexBuilder::new(text).case_insensitive(true).size_limit(PATTERN_BYTES_MAX).build().map_err(|_| wrong())
}

fn moment(name: &str, text: &str) -> Result<Wall, Fault> {
    // A plus in a query that was not escaped arrives as a space.
    let mended = text.replace(' ', "+");
    api::time::parse(text)
        .or_else(|| api::time::parse(&mended))
        .ok_or_else(|| Fault::bad_request(format!("Invalid filter field: {name}.")))
}

fn word(name: &str, text: &str) -> Result<bool, Fault> {
    boolean_word(text).ok_or_else(|| Fault::bad_request(format!("Unrecognized value '{text}' for {name}")))
}

fn sorting(pairs: &[(String, String)]) -> Result<Vec<(Field, bool)>, Fault> {
    let mut directions = every(pairs, "sort_dir").map(|direction| match direction {
        "asc" => Ok(false),
        "desc" => Ok(true),
        other => Err(Fault::bad_request(format!("Invalid sort direction: {other}"))),
    });
    let mut sort = Vec::new();
    let mut last = true;
    for key in every(pairs, "sort_key") {
        let field = Field::of_sort(key).ok_or_else(|| Fault::bad_request(format!("Invalid sort key: {key}")))?;
        last = directions.next().transpose()?.unwrap_or(last);
        sort.push((field, last));
    }
    if sort.is_empty()
        && let Some(direction) = directions.next().transpose()?
    {
        sort.push((Field::Created, direction));
    }
    Ok(sort)
}
