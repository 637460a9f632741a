//! Accepting new servers.

use std::collections::BTreeMap;

use bytes::Bytes;
use identity::{Caller, ProjectId};
use images::{DiskFormat, Image, Viewer};
use networks::{PortRequest, SecurityGroup, Who};
use placement::quota;
use proto::compute::state::v1::ServerWork;
use store::{Reader, Record, Txn};
use telemetry::Cx;

use super::{AcceptError, GROUP_MEMBERS, Servers, note_action, project_of};
use crate::flavor::Flavor;
use crate::group::ServerGroup;
use crate::keypair::KeyPair;
use crate::server::{Access, Card, Content, Server, ServerId, Task, VmState};
use crate::stored::UserData;
use crate::workflow::{BOOT, BOOT_BUDGET};

/// Servers that one request may make.
const SERVERS_A_REQUEST_MAX: u32 = 1000;
/// Bytes of user data, decoded, as Nova has it.
const USER_DATA_BYTES_MAX: usize = 65_535;
const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// The cards that a new server is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One on the only network that the project may use, if there is one.
    Auto,
    /// None.
    Nothing,
    /// These.
    Cards(Vec<Card>),
}

/// A request for new servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewServer {
    /// Name; of several servers, each gets `-1`, `-2`, … behind it.
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// The flavor's id.
    pub flavor: String,
    /// The image's id.
    pub image: String,
    /// The name of the caller's key pair.
    pub key_name: Option<String>,
    /// Network cards.
    pub cards: Wanted,
    /// Names or ids of security groups; empty: the default one.
    pub security_groups: Vec<String>,
    /// User data, decoded.
    pub user_data: Bytes,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// Config drive.
    pub config_drive: bool,
    /// Availability zone.
    pub zone: Option<String>,
    /// Host, for administrators.
    pub host: Option<String>,
    /// Host name in the guest; derived from the name if not given.
    pub host_name: Option<String>,
    /// The server group's id.
    pub group: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// The addresses that its owner says it is reached by.
    pub access: Access,
    /// Whether its owner wants the disk's partition to be grown to the disk.
    pub auto_disk_config: bool,
    /// How many servers at least.
    pub min_count: u32,
    /// How many at most.
    pub max_count: u32,
}

/// What a request names, found and checked.
struct Resolved {
    flavor: Flavor,
    content: Content,
    key: Option<(String, String)>,
    groups: Vec<(String, String)>,
    cards: Vec<Card>,
}

impl Servers {
    /// Accepts new servers: at least `min_count` of them, or none. Each is accepted by a commit of its own.
    pub async fn create(&self, cx: &Cx, caller: &Caller, new: &NewServer) -> Result<Vec<Server>, AcceptError> {
        if new.min_count == 0 || new.min_count > new.max_count || new.max_count > SERVERS_A_REQUEST_MAX {
            return Err(AcceptError::Invalid(format!(
                "min_count must be at least 1 and not above max_count, which must be at most {SERVERS_A_REQUEST_MAX}"
            )));
        }
        if new.min_count > 1 {
            // What cannot fit as a whole is refused before any of it is made; a race that is lost later is undone below.
            self.view().read(|reader| suffices(reader, &project_of(caller)?, new)).await??;
        }
        let reservation = format!("r-{}", hex::encode(cx.world().random::<4>()));
        let mut made: Vec<Server> = Vec::new();
        for index in 0..new.max_count {
            match self.create_one(cx, caller, new, index, &reservation).await {
                Ok(server) => made.push(server),
                // A quota that suffices for the least number is enough.
                Err(AcceptError::OverQuota { .. }) if made.len() >= new.min_count as usize => break,
                Err(error) => {
                    for server in made {
                        self.delete(cx, caller, &server.id.to_string()).await?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    async fn create_one(
        &self,
        cx: &Cx,
        caller: &Caller,
        new: &NewServer,
        index: u32,
        reservation: &str,
    ) -> Result<Server, AcceptError> {
        let id = ServerId::random(cx.world());
        self.decide(cx, |reader, txn| {
            let project = project_of(caller)?;
            if !caller.may_change(&project) {
                return Err(AcceptError::Forbidden(
                    "Policy doesn't allow this action: the role member is needed".into(),
                ));
            }
            let resolved = resolve(reader, caller, &project, new)?;
            let server = record(cx, caller, project, new, resolved, (id, index, reservation));
            charge(reader, &server, txn)?;
            txn.create(server.key(), server.encode());
            if server.has_user_data {
                let data = UserData { server: server.id, content: new.user_data.clone() };
                txn.put(data.key(), data.encode());
            }
            let input = ServerWork { action: "create".into(), hard: false, image: Bytes::new() };
            self.work(cx, reader, &server, BOOT, BOOT_BUDGET, &input)?.begin(cx, txn);
            note_action(cx, caller, &server, "create", txn);
            Ok(server)
        })
        .await
    }
}

/// Refuses what the project's quota cannot hold even now.
fn suffices(reader: &Reader<'_>, project: &ProjectId, new: &NewServer) -> Result<(), AcceptError> {
    // A flavor that is not there is told of where the request is resolved.
    let Some((flavor, _)) = reader.get::<Flavor>(&new.flavor)? else { return Ok(()) };
    let quota = quota::in_force(reader, project.as_str())?;
    let own = project.as_str();
    let mut wanted = vec![(own, "instances", 1), (own, "cores", u64::from(flavor.vcpus)), (own, "ram", flavor.ram_mib)];
    wanted.extend(new.group.as_deref().map(|group| (group, GROUP_MEMBERS, 1)));
    for (holder, resource, each) in wanted {
        let wanted = each.saturating_mul(u64::from(new.min_count));
        let used = crate::limits::used(reader, holder, resource);
        if let Some(limit) = quota.limit(resource).filter(|limit| used.saturating_add(wanted) > *limit) {
            return Err(AcceptError::OverQuota { resources: resource.to_owned(), wanted, used, limit });
        }
    }
    Ok(())
}

fn charge(reader: &Reader<'_>, server: &Server, txn: &mut Txn) -> Result<(), AcceptError> {
    let quota = quota::in_force(reader, server.project.as_str())?;
    for (resource, amount) in server.charges() {
        quota.charge(resource, amount, txn);
    }
    if let Some(group) = server.counting_group() {
        quota.charge_to(group, GROUP_MEMBERS, 1, txn);
    }
    let made = server.made_ports();
    if made > 0 {
        txn.merge(networks::claim_ports(reader, &server.project, made)?);
    }
    Ok(())
}

fn record(
    cx: &Cx,
    caller: &Caller,
    project: ProjectId,
    new: &NewServer,
    resolved: Resolved,
    (id, index, reservation): (ServerId, u32, &str),
) -> Server {
    let now = cx.world().wall();
    let several = new.max_count > 1;
    let numbered = |name: &str| if several { format!("{name}-{}", index + 1) } else { name.to_owned() };
    let name = numbered(&new.name);
    let host_name = new.host_name.as_deref().map_or_else(|| host_name_of(&name), numbered);
    Server {
        id,
        project,
        user: caller.user_id.clone(),
        name,
        description: new.description.clone(),
        state: VmState::Building,
        task: Some(Task::Spawning),
        flavor: resolved.flavor,
        content: resolved.content,
        key: resolved.key,
        metadata: new.metadata.clone(),
        security_groups: resolved.groups,
        cards: resolved.cards,
        node: None,
        run: 0,
        has_user_data: !new.user_data.is_empty(),
        config_drive: new.config_drive,
        host_name,
        zone: new.zone.clone(),
        wanted_host: new.host.clone(),
        group: new.group.clone(),
        fault: None,
        created: now,
        updated: now,
        launched: None,
        launch_index: index,
        reservation: reservation.to_owned(),
        tags: new.tags.clone(),
        locked: None,
        access: new.access.clone(),
        auto_disk_config: new.auto_disk_config,
        counted_in_group: new.group.is_some(),
    }
}

/// A DNS label made of a server's name, as Nova makes it.
fn host_name_of(name: &str) -> String {
    let label: String = name
        .to_lowercase()
        .chars()
        .map(|char| if char == ' ' || char == '_' || char == '.' { '-' } else { char })
        .filter(|char| char.is_ascii_alphanumeric() || *char == '-')
        .collect();
    let label = label.trim_matches('-');
    let label: String = label.chars().take(63).collect();
    if label.is_empty() { "server".to_owned() } else { label.trim_end_matches('-').to_owned() }
}

fn resolve(
    reader: &Reader<'_>,
    caller: &Caller,
    project: &ProjectId,
    new: &NewServer,
) -> Result<Resolved, AcceptError> {
    let missing = |kind: &'static str, id: &str| AcceptError::NotFound { kind, id: id.to_owned() };
    let invalid = |text: String| AcceptError::Invalid(text);
    if new.user_data.len() > USER_DATA_BYTES_MAX {
        return Err(invalid(format!("User data is too large: at most {USER_DATA_BYTES_MAX} bytes")));
    }
    let flavor = reader.get::<Flavor>(&new.flavor)?.map(|(flavor, _)| flavor);
    let flavor = flavor.filter(|flavor| caller.is_admin() || flavor.usable_by(Some(project)));
    let flavor = flavor.ok_or_else(|| invalid(format!("Flavor {} could not be found.", new.flavor)))?;
    let content = content(reader, caller, project, &new.image, &flavor)?;
    let key = match &new.key_name {
        None => None,
        Some(name) => {
            let found = reader.get::<KeyPair>(&KeyPair::record_id(&caller.user_id, name))?;
            let (pair, _) = found.ok_or_else(|| invalid("Invalid key_name provided.".into()))?;
            Some((pair.name, pair.public_key))
        }
    };
    if let Some(group) = &new.group {
        let found = reader.get::<ServerGroup>(group)?;
        if found.is_none_or(|(group, _)| group.project != *project) {
            return Err(missing("Instance group", group));
        }
    }
    if let Some(zone) = &new.zone {
        let known = reader.all::<placement::Node>().filter_map(Result::ok).any(|(node, _)| node.zone == *zone);
        if !known {
            return Err(invalid("The requested availability zone is not available".into()));
        }
    }
    let who = Who { project: project.clone(), admin: caller.is_admin() };
    let cards = cards(reader, &who, &new.cards)?;
    let groups = groups(reader, project, &new.security_groups)?;
    let requests: Vec<PortRequest> = cards.iter().map(Card::request).collect();
    let ids: Vec<networks::GroupId> = groups.iter().filter_map(|(id, _)| id.parse().ok()).collect();
    networks::check_requests(reader, &who, &requests, &ids)?;
    Ok(Resolved { flavor, content, key, groups, cards })
}

fn content(
    reader: &Reader<'_>,
    caller: &Caller,
    project: &ProjectId,
    id: &str,
    flavor: &Flavor,
) -> Result<Content, AcceptError> {
    let invalid = |text: String| AcceptError::Invalid(text);
    let missing = || invalid(format!("Image {id} could not be found."));
    let id: images::ImageId = id.parse().map_err(|_| missing())?;
    let viewer =
        Viewer { project: Some(images::Project::new(project.as_str())), admin: caller.is_admin(), writes: false };
    let found = reader.get::<Image>(&id)?.map(|(image, _)| image).filter(|image| viewer.sees(image));
    let image = found.ok_or_else(missing)?;
    let (Some(content), Some(format)) = (image.content(), image.disk_format) else {
        return Err(invalid(format!("Image {id} is not active.")));
    };
    if !viewer.may_download(&image) {
        return Err(invalid(format!("Image {id} is not active.")));
    }
    if flavor.ram_mib < u64::from(image.min_ram_mib) {
        return Err(invalid("Flavor's memory is too small for requested image.".into()));
    }
    let disk = flavor.disk_gib * GIB;
    if disk > 0 && (disk < content.virtual_bytes || disk < u64::from(image.min_disk_gib) * GIB) {
        return Err(invalid(format!(
            "Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, image is {} bytes.",
            content.virtual_bytes.max(u64::from(image.min_disk_gib) * GIB)
        )));
    }
    Ok(Content {
        image: image.id.to_string(),
        sha256: content.sha256.to_string(),
        qcow2: match format {
            DiskFormat::Qcow2 => true,
            DiskFormat::Raw => false,
        },
        size_bytes: content.size_bytes,
        virtual_bytes: content.virtual_bytes,
    })
}

fn cards(reader: &Reader<'_>, who: &Who, wanted: &Wanted) -> Result<Vec<Card>, AcceptError> {
    match wanted {
        Wanted::Nothing => Ok(Vec::new()),
        Wanted::Cards(cards) => Ok(cards.clone()),
        Wanted::Auto => {
            let network = networks::default_network(reader, who)?;
            Ok(network.map(|network| Card::Network { network, fixed_ip: None }).into_iter().collect())
        }
    }
}

/// Security groups by name or id, each once: (id, name). `default` is made with the first port that needs it.
fn groups(reader: &Reader<'_>, project: &ProjectId, wanted: &[String]) -> Result<Vec<(String, String)>, AcceptError> {
    let mut out: Vec<(String, String)> = Vec::new();
    let term = networks::keys::GroupTerm::Project(project).text();
    let own: Vec<SecurityGroup> = reader
        .by::<SecurityGroup>(networks::keys::GROUPS, &term)
        .map(|found| found.map(|(group, _)| group))
        .collect::<Result<_, _>>()?;
    for name in wanted.iter().filter(|name| wanted.len() > 1 || *name != "default") {
        let matching = own.iter().filter(|group| group.id.to_string() == *name || group.standard.name == *name);
        let found: Vec<_> = matching.collect();
        match found.as_slice() {
            [group] => {
                let entry = (group.id.to_string(), group.standard.name.clone());
                if !out.contains(&entry) {
                    out.push(entry);
                }
            }
            [] => {
                return Err(AcceptError::Invalid(format!("Security group {name} not found for project {project}.")));
            }
            [..] => {
                return Err(AcceptError::Invalid(format!("Multiple security groups are named {name}: use an id")));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_always_a_dns_label() {
        for (name, want) in [
            ("web", "web"),
            ("My Server_1", "my-server-1"),
            ("-x-", "x"),
            ("日本", "server"),
            ("a.example.org", "a-example-org"),
        ] {
            assert_eq!(host_name_of(name), want);
        }
        assert_eq!(host_name_of(&"a".repeat(200)).len(), 63);
    }
}
