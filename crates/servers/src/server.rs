//! A server: what is kept of it, and where it stands.

use std::collections::BTreeMap;
use std::net::IpAddr;

use identity::{ProjectId, UserId};
use networks::{NetworkId, PortId};
use world::Wall;

use crate::flavor::Flavor;

ids::uuid_id! {
    /// A server; the same bits name its guest and its claim.
    pub struct ServerId;
}

impl ServerId {
    /// The same thing, as its node sees it.
    pub fn guest(self) -> driver::GuestId {
        driver::GuestId::from_uuid(*self.as_uuid())
    }

    /// The same thing, as placement sees it.
    pub fn consumer(self) -> placement::ConsumerId {
        placement::ConsumerId::from_uuid(*self.as_uuid())
    }
}

/// Where a server stands; Nova's `vm_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// Being built.
    Building,
    /// Runs.
    Active,
    /// Does not run.
    Stopped,
    /// Is held.
    Paused,
    /// Could not be built, or has failed.
    Error,
}

/// What is being done to a server; Nova's `task_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A host is being looked for and the guest built.
    Spawning,
    /// It is being stopped.
    PoweringOff,
    /// It is being started.
    PoweringOn,
    /// It is being restarted, its system asked first.
    Rebooting,
    /// It is being restarted without asking.
    RebootingHard,
    /// It is being held.
    Pausing,
    /// It is being released.
    Unpausing,
    /// Its disk is being uploaded as an image.
    Snapshotting,
    /// It is being deleted.
    Deleting,
}

impl Task {
    const ALL: [Task; 9] = [
        Task::Spawning,
        Task::PoweringOff,
        Task::PoweringOn,
        Task::Rebooting,
        Task::RebootingHard,
        Task::Pausing,
        Task::Unpausing,
        Task::Snapshotting,
        Task::Deleting,
    ];

    /// The word that the API uses and the store keeps.
    pub const fn as_str(self) -> &'static str {
        match self {
            Task::Spawning => "spawning",
            Task::PoweringOff => "powering-off",
            Task::PoweringOn => "powering-on",
            Task::Rebooting => "rebooting",
            Task::RebootingHard => "rebooting_hard",
            Task::Pausing => "pausing",
            Task::Unpausing => "unpausing",
            Task::Snapshotting => "image_uploading",
            Task::Deleting => "deleting",
        }
    }

    /// The task with this word.
    pub fn named(word: &str) -> Option<Task> {
        Task::ALL.into_iter().find(|task| task.as_str() == word)
    }
}

/// Why a server is in error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// As an HTTP status.
    pub code: u16,
    /// What happened.
    pub message: String,
    /// When.
    pub at: Wall,
}

/// A network card as requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Card {
    /// A port to be made.
    Network {
        /// On this network.
        network: NetworkId,
        /// With this address.
        fixed_ip: Option<IpAddr>,
    },
    /// A port that exists.
    Port(PortId),
}

impl Card {
    /// The same, as networks has it.
    pub fn request(&self) -> networks::PortRequest {
        match self {
            Card::Network { network, fixed_ip } => {
                networks::PortRequest::Network { network: *network, fixed_ip: *fixed_ip }
            }
            Card::Port(port) => networks::PortRequest::Port(*port),
        }
    }
}

/// An image's content, as the server starts from it: later changes of the image do not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The image's id, for the API.
    pub image: String,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Whether it is qcow2; else raw.
    pub qcow2: bool,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Bytes of the disk.
    pub virtual_bytes: u64,
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Who made it.
    pub user: UserId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// Where it stands.
    pub state: VmState,
    /// What is being done to it.
    pub task: Option<Task>,
    /// Its size, as it was when the server was made.
    pub flavor: Flavor,
    /// What its disk started from.
    pub content: Content,
    /// Name and public key of its key pair.
    pub key: Option<(String, String)>,
    /// Metadata that its owner set.
    pub metadata: BTreeMap<String, String>,
    /// Security groups as requested: (id, name).
    pub security_groups: Vec<(String, String)>,
    /// Network cards as requested.
    pub cards: Vec<Card>,
    /// The node that it is on.
    pub node: Option<String>,
    /// The number of its last run.
    pub run: u64,
    /// Whether it has user data (kept beside it).
    pub has_user_data: bool,
    /// Whether it gets a config drive.
    pub config_drive: bool,
    /// The host name in the guest.
    pub host_name: String,
    /// The availability zone that was asked for.
    pub zone: Option<String>,
    /// The host that was asked for.
    pub wanted_host: Option<String>,
    /// Its server group's id.
    pub group: Option<String>,
    /// Whether it is counted among the members of that group.
    pub counted_in_group: bool,
    /// Why it is in error.
    pub fault: Option<Fault>,
    /// When it was made.
    pub created: Wall,
    /// When it was last changed.
    pub updated: Wall,
    /// When it first ran.
    pub launched: Option<Wall>,
    /// Its place among servers made by one request.
    pub launch_index: u32,
    /// The request that made it and others.
    pub reservation: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether its owner has locked it, and why.
    pub locked: Option<String>,
    /// The addresses that its owner says it is reached by; nothing is derived from them.
    pub access: Access,
    /// Whether its owner wants the disk's partition to be grown to the disk; kept and shown.
    pub auto_disk_config: bool,
}

/// Addresses that a server's owner says it is reached by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// IPv4.
    pub v4: Option<std::net::Ipv4Addr>,
    /// IPv6.
    pub v6: Option<std::net::Ipv6Addr>,
}

impl Server {
    /// The status that the API shows, derived as Nova derives it.
    pub fn status(&self) -> &'static str {
        match (self.state, self.task) {
            (VmState::Active, Some(Task::Rebooting)) => "REBOOT",
            (VmState::Active | VmState::Stopped, Some(Task::RebootingHard)) => "HARD_REBOOT",
            (VmState::Building, _) => "BUILD",
            (VmState::Active, _) => "ACTIVE",
            (VmState::Stopped, _) => "SHUTOFF",
            (VmState::Paused, _) => "PAUSED",
            (VmState::Error, _) => "ERROR",
        }
    }

    /// Nova's `vm_state`.
    pub fn vm_state(&self) -> &'static str {
        match self.state {
            VmState::Building => "building",
            VmState::Active => "active",
            VmState::Stopped => "stopped",
            VmState::Paused => "paused",
            VmState::Error => "error",
        }
    }

    /// Nova's `power_state`.
    pub fn power_state(&self) -> u8 {
        match self.state {
            VmState::Active => 1,
            VmState::Paused => 3,
            VmState::Stopped => 4,
            VmState::Building | VmState::Error => 0,
        }
    }

    /// What its project is charged for it, ports aside: (resource, amount).
    pub fn charges(&self) -> [(&'static str, u64); 3] {
        [("instances", 1), ("cores", u64::from(self.flavor.vcpus)), ("ram", self.flavor.ram_mib)]
    }

    /// The server group that counts it among its members.
    pub fn counting_group(&self) -> Option<&str> {
        self.group.as_deref().filter(|_| self.counted_in_group)
    }

    /// How many ports are made for it. Their quota is charged from the commit that accepts it, before they are there.
    pub fn made_ports(&self) -> u64 {
        self.cards.iter().filter(|card| matches!(card, Card::Network { .. })).count() as u64
    }

    /// What it takes from its node.
    pub fn resources(&self) -> BTreeMap<String, u64> {
        let disk = self.flavor.disk_gib + self.flavor.ephemeral_gib + self.flavor.swap_mib.div_ceil(1024);
        let all = [
            (placement::provider::VCPU, u64::from(self.flavor.vcpus)),
            (placement::provider::MEMORY_MB, self.flavor.ram_mib),
            (placement::provider::DISK_GB, disk),
        ];
        all.into_iter().filter(|(_, amount)| *amount > 0).map(|(class, amount)| (class.to_owned(), amount)).collect()
    }
}
