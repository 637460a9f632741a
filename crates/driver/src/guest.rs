//! What a guest is to its node.

use crate::network::{NetworkId, PortId};

ids::uuid_id! {
    /// A guest; the same bits as the server's id in the API.
    pub struct GuestId;
}

/// The number of one run of a guest: raised in the agent's log at each start. Reports carry it, so that news of an
/// earlier run cannot be taken for news of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u64);

/// Formats that are told, never probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// The disk as it is.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

/// An image by content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// SHA-256 of the stored file, in lower-case hexadecimal: the name in every cache.
    pub sha256: String,
    /// Its format, as verified at upload.
    pub format: ImageFormat,
    /// Bytes of the stored file.
    pub size_bytes: u64,
    /// Bytes of the disk that it describes.
    pub virtual_size_bytes: u64,
}

/// One network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// The port behind it.
    pub port: PortId,
    /// The network that the port is on.
    pub network: NetworkId,
    /// Its hardware address, lower case with colons.
    pub mac: String,
    /// The network's MTU in bytes.
    pub mtu: u16,
}

/// All that a node needs to build and run a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSpec {
    /// Its id.
    pub id: GuestId,
    /// Its name, for people.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Size of its root disk in GiB; 0: as large as the image.
    pub disk_gib: u64,
    /// What its root disk starts from.
    pub image: ImageRef,
    /// Its cards, in the order in which the guest sees them.
    pub nics: Vec<Nic>,
    /// The document `openstack/latest/meta_data.json`, complete.
    pub meta_data: String,
    /// The document `openstack/latest/network_data.json`, complete.
    pub network_data: String,
    /// User data as given, decoded.
    pub user_data: Vec<u8>,
    /// Whether it gets a config drive beside the metadata service.
    pub config_drive: bool,
}

/// What is seen of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Its processors run.
    Running(Run),
    /// Its processors are held.
    Paused(Run),
    /// Parts of it exist (disk, taps), but it does not run.
    Stopped,
}

/// Something of a guest that exists on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub guest: GuestId,
    /// In which state.
    pub observed: Observed,
}

/// What a node holds, as it is found there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Guests of which anything is there.
    pub guests: Vec<Found>,
    /// Guests that have a disk.
    pub disks: Vec<GuestId>,
    /// Ports that have a tap; `None`: guests of this driver have no taps.
    pub taps: Option<Vec<PortId>>,
    /// Networks that are made.
    pub networks: Vec<NetworkId>,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The guest's system powered itself off.
    PoweredOff,
    /// Its process ended in another way; the text says how.
    Died(String),
}
