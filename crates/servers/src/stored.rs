//! Servers, flavors, actions as they are stored: the one place that knows both forms.

mod aggregate;

use bytes::Bytes;
use ids::uuid::Uuid;
use networks::{NetworkId, PortId};
use proto::compute::state::v1 as stored;
use store::{Key, KeyRange, Record};
use telemetry::TraceId;
use world::Wall;

use crate::action::{Action, ActionStep};
use crate::flavor::Flavor;
use crate::group::{ServerGroup, ServerGroupId};
use crate::keypair::KeyPair;
use crate::server::{Access, Card, Content, Fault, Server, ServerId, Task, VmState};

pub(crate) fn bytes(uuid: &Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

pub(crate) fn uuid(bytes: &Bytes) -> Result<Uuid, String> {
    Uuid::from_slice(bytes).map_err(|error| error.to_string())
}

fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

impl Record for Server {
    const TABLE: &'static str = "srv/server/";
    type Stored = stored::Server;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> stored::Server {
        let state = match self.state {
            VmState::Building => stored::VmState::Building,
            VmState::Active => stored::VmState::Active,
            VmState::Stopped => stored::VmState::Stopped,
            VmState::Paused => stored::VmState::Paused,
            VmState::Error => stored::VmState::Error,
        };
        let (key_name, public_key) = self.key.clone().unwrap_or_default();
        stored::Server {
            id: bytes(self.id.as_uuid()),
            project: self.project.to_string(),
            user: self.user.to_string(),
            name: self.name.clone(),
            description: self.description.clone(),
            state: state.into(),
            task: self.task.map(|task| task.as_str().to_owned()).unwrap_or_default(),
            flavor: Some(self.flavor.to_stored()),
            image_id: self.content.image.clone(),
            content: Some(stored::Content {
                sha256: self.content.sha256.clone(),
                qcow2: self.content.qcow2,
                size_bytes: self.content.size_bytes,
                virtual_bytes: self.content.virtual_bytes,
            }),
            key_name,
            public_key,
            metadata: self.metadata.clone(),
            security_groups: self.security_groups.iter().map(|(_, name)| name.clone()).collect(),
            security_group_ids: self.security_groups.iter().map(|(id, _)| id.clone()).collect(),
            cards: self.cards.iter().map(card_to_stored).collect(),
            node: self.node.clone().unwrap_or_default(),
            run: self.run,
            has_user_data: self.has_user_data,
            config_drive: self.config_drive,
            host_name: self.host_name.clone(),
            zone: self.zone.clone().unwrap_or_default(),
            wanted_host: self.wanted_host.clone().unwrap_or_default(),
            group: self.group.clone().unwrap_or_default(),
            fault: self.fault.as_ref().map(|fault| stored::Fault {
                code: u32::from(fault.code),
                message: fault.message.clone(),
                at_us: fault.at.as_micros(),
            }),
            created_us: self.created.as_micros(),
            updated_us: self.updated.as_micros(),
            launched_us: self.launched.map_or(0, Wall::as_micros),
            launch_index: self.launch_index,
            reservation: self.reservation.clone(),
            tags: self.tags.clone(),
            locked: self.locked.is_some(),
            locked_reason: self.locked.clone().unwrap_or_default(),
            access_ipv4: self.access.v4.map(|address| address.to_string()).unwrap_or_default(),
            access_ipv6: self.access.v6.map(|address| address.to_string()).unwrap_or_default(),
            auto_disk_config: self.auto_disk_config,
            counted_in_group: self.counted_in_group,
        }
    }

    fn from_stored(stored: stored::Server) -> Result<Server, String> {
        let state = match stored.state() {
            stored::VmState::Building => VmState::Building,
            stored::VmState::Active => VmState::Active,
            stored::VmState::Stopped => VmState::Stopped,
            stored::VmState::Paused => VmState::Paused,
            stored::VmState::Error => VmState::Error,
            stored::VmState::Unspecified => return Err(format!("no such state: {}", stored.state)),
        };
        let task = match stored.task.as_str() {
            "" => None,
            word => Some(Task::named(word).ok_or_else(|| format!("no such task: {word}"))?),
        };
        let content = stored.content.unwrap_or_default();
        let fault = stored.fault.map(|fault| Fault {
            code: u16::try_from(fault.code).unwrap_or(500),
            message: fault.message,
            at: Wall::from_micros(fault.at_us),
        });
        let groups = stored.security_group_ids.into_iter().zip(stored.security_groups);
        Ok(Server {
            id: ServerId::from_uuid(uuid(&stored.id)?),
            project: parsed(&stored.project)?,
            user: parsed(&stored.user)?,
            name: stored.name,
            description: stored.description,
            state,
            task,
            flavor: Flavor::from_stored(stored.flavor.unwrap_or_default())?,
            content: Content {
                image: stored.image_id,
                sha256: content.sha256,
                qcow2: content.qcow2,
                size_bytes: content.size_bytes,
                virtual_bytes: content.virtual_bytes,
            },
            key: given(stored.key_name).map(|name| (name, stored.public_key)),
            metadata: stored.metadata,
            security_groups: groups.collect(),
            cards: stored.cards.into_iter().map(card_from_stored).collect::<Result<_, _>>()?,
            node: given(stored.node),
            run: stored.run,
            has_user_data: stored.has_user_data,
            config_drive: stored.config_drive,
            host_name: stored.host_name,
            zone: given(stored.zone),
            wanted_host: given(stored.wanted_host),
            group: given(stored.group),
            fault,
            created: Wall::from_micros(stored.created_us),
            updated: Wall::from_micros(stored.updated_us),
            launched: (stored.launched_us > 0).then(|| Wall::from_micros(stored.launched_us)),
            launch_index: stored.launch_index,
            reservation: stored.reservation,
            tags: stored.tags,
            locked: stored.locked.then_some(stored.locked_reason),
            access: Access {
                v4: given(stored.access_ipv4).map(|text| parsed(&text)).transpose()?,
                v6: given(stored.access_ipv6).map(|text| parsed(&text)).transpose()?,
            },
            auto_disk_config: stored.auto_disk_config,
            counted_in_group: stored.counted_in_group,
        })
    }
}

fn card_to_stored(card: &Card) -> stored::Card {
    match card {
        Card::Network { network, fixed_ip } => stored::Card {
            network: bytes(network.as_uuid()),
            port: Bytes::new(),
            fixed_ip: fixed_ip.map(|address| address.to_string()).unwrap_or_default(),
        },
        Card::Port(port) => {
            stored::Card { network: Bytes::new(), port: bytes(port.as_uuid()), fixed_ip: String::new() }
        }
    }
}

fn card_from_stored(stored: stored::Card) -> Result<Card, String> {
    if stored.network.is_empty() {
        return Ok(Card::Port(PortId::from_uuid(uuid(&stored.port)?)));
    }
    let fixed_ip = given(stored.fixed_ip).map(|text| parsed(&text)).transpose()?;
    Ok(Card::Network { network: NetworkId::from_uuid(uuid(&stored.network)?), fixed_ip })
}

impl Record for Flavor {
    const TABLE: &'static str = "srv/flavor/";
    type Stored = stored::Flavor;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn to_stored(&self) -> stored::Flavor {
        stored::Flavor {
            id: self.id.clone(),
            name: self.name.clone(),
            vcpus: self.vcpus,
            ram_mib: self.ram_mib,
            disk_gib: self.disk_gib,
            ephemeral_gib: self.ephemeral_gib,
            swap_mib: self.swap_mib,
            rxtx_milli: self.rxtx_milli,
            public: self.public,
            disabled: self.disabled,
            description: self.description.clone(),
            extra_specs: self.extra_specs.clone(),
            access: self.access.iter().map(ToString::to_string).collect(),
        }
    }

    fn from_stored(stored: stored::Flavor) -> Result<Flavor, String> {
        Ok(Flavor {
            id: stored.id,
            name: stored.name,
            vcpus: stored.vcpus,
            ram_mib: stored.ram_mib,
            disk_gib: stored.disk_gib,
            ephemeral_gib: stored.ephemeral_gib,
            swap_mib: stored.swap_mib,
            rxtx_milli: stored.rxtx_milli,
            public: stored.public,
            disabled: stored.disabled,
            description: stored.description,
            extra_specs: stored.extra_specs,
            access: stored.access.iter().map(|project| parsed(project)).collect::<Result<_, _>>()?,
        })
    }
}

impl Action {
    /// All actions of `server`.
    pub fn of(server: ServerId) -> KeyRange {
        KeyRange::prefix(format!("{}{server}/", Action::TABLE).as_bytes())
    }

    /// The key of the action that `request` asked of `server`.
    pub fn key_for(server: ServerId, request: &str) -> Key {
        Key::from(format!("{}{server}/{request}", Action::TABLE))
    }
}

impl Record for Action {
    const TABLE: &'static str = "srv/action/";
    type Stored = stored::Action;

    fn id(&self) -> String {
        format!("{}/{}", self.server, self.request_id)
    }

    fn to_stored(&self) -> stored::Action {
        let step = |step: &ActionStep| stored::ActionStep {
            name: step.name.clone(),
            start_us: step.start.as_micros(),
            took_us: step.took_us,
            error: step.error.clone().unwrap_or_default(),
            undo: step.undo,
        };
        stored::Action {
            server: bytes(self.server.as_uuid()),
            request_id: self.request_id.clone(),
            action: self.action.clone(),
            user: self.user.clone(),
            project: self.project.clone(),
            start_us: self.start.as_micros(),
            finish_us: self.finish.map_or(0, Wall::as_micros),
            message: self.message.clone().unwrap_or_default(),
            steps: self.steps.iter().map(step).collect(),
            trace: Bytes::copy_from_slice(&self.trace.0.to_be_bytes()),
        }
    }

    fn from_stored(stored: stored::Action) -> Result<Action, String> {
        let step = |step: stored::ActionStep| ActionStep {
            name: step.name,
            start: Wall::from_micros(step.start_us),
            took_us: step.took_us,
            error: given(step.error),
            undo: step.undo,
        };
        let trace = <[u8; 16]>::try_from(&stored.trace[..]).map_err(|error| error.to_string())?;
        Ok(Action {
            server: ServerId::from_uuid(uuid(&stored.server)?),
            request_id: stored.request_id,
            action: stored.action,
            user: stored.user,
            project: stored.project,
            start: Wall::from_micros(stored.start_us),
            finish: (stored.finish_us > 0).then(|| Wall::from_micros(stored.finish_us)),
            message: given(stored.message),
            steps: stored.steps.into_iter().map(step).collect(),
            trace: TraceId(u128::from_be_bytes(trace)),
        })
    }
}

/// User data of a server. Keyed by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserData {
    /// The server.
    pub server: ServerId,
    /// As given, decoded.
    pub content: Bytes,
}

impl Record for UserData {
    const TABLE: &'static str = "srv/user-data/";
    type Stored = stored::UserData;

    fn id(&self) -> String {
        self.server.to_string()
    }

    fn to_stored(&self) -> stored::UserData {
        stored::UserData { content: self.content.clone() }
    }

    fn from_stored(stored: stored::UserData) -> Result<UserData, String> {
        Ok(UserData { server: ServerId::from_uuid(Uuid::nil()), content: stored.content })
    }
}

impl Record for KeyPair {
    const TABLE: &'static str = "srv/keypair/";
    type Stored = stored::KeyPair;

    fn id(&self) -> String {
        KeyPair::record_id(&self.user, &self.name)
    }

    fn to_stored(&self) -> stored::KeyPair {
        stored::KeyPair {
            user: self.user.to_string(),
            name: self.name.clone(),
            public_key: self.public_key.clone(),
            fingerprint: self.fingerprint.clone(),
            created_us: self.created.as_micros(),
        }
    }

    fn from_stored(stored: stored::KeyPair) -> Result<KeyPair, String> {
        Ok(KeyPair {
            user: parsed(&stored.user)?,
            name: stored.name,
            public_key: stored.public_key,
            fingerprint: stored.fingerprint,
            created: Wall::from_micros(stored.created_us),
        })
    }
}

impl Record for ServerGroup {
    const TABLE: &'static str = "srv/group/";
    type Stored = stored::ServerGroup;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> stored::ServerGroup {
        stored::ServerGroup {
            id: bytes(self.id.as_uuid()),
            project: self.project.to_string(),
            user: self.user.to_string(),
            name: self.name.clone(),
            policy: self.policy.clone(),
            max_per_host: self.max_per_host,
        }
    }

    fn from_stored(stored: stored::ServerGroup) -> Result<ServerGroup, String> {
        Ok(ServerGroup {
            id: ServerGroupId::from_uuid(uuid(&stored.id)?),
            project: parsed(&stored.project)?,
            user: parsed(&stored.user)?,
            name: stored.name,
            policy: stored.policy,
            max_per_host: stored.max_per_host,
        })
    }
}
