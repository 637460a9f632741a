//! Flavors: sizes of servers. A server keeps a copy of its flavor, so changing or removing one touches no server.
//!
//! Names are had once: `srv/flavor-name/<name in hex>` is a key that must be absent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use identity::ProjectId;
use store::{Key, Reader, Record, Revision, Txn, View};
use telemetry::Cx;
use world::World;

use crate::accept::{AcceptError, Servers};

/// A size of servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flavor {
    /// Its id.
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub ram_mib: u64,
    /// Root disk in GiB; 0: as large as the image.
    pub disk_gib: u64,
    /// Further disk in GiB.
    pub ephemeral_gib: u64,
    /// Swap in MiB.
    pub swap_mib: u64,
    /// Network factor in thousandths.
    pub rxtx_milli: u32,
    /// Whether all projects may use it.
    pub public: bool,
    /// Whether it may not be used for new servers.
    pub disabled: bool,
    /// Its description.
    pub description: Option<String>,
    /// Extra specs.
    pub extra_specs: BTreeMap<String, String>,
    /// Projects that may use it if it is not public.
    pub access: BTreeSet<ProjectId>,
}

impl Flavor {
    /// A public flavor with nothing special about it.
    pub fn plain(id: &str, name: &str, vcpus: u32, ram_mib: u64, disk_gib: u64) -> Flavor {
        Flavor {
            id: id.to_owned(),
            name: name.to_owned(),
            vcpus,
            ram_mib,
            disk_gib,
            rxtx_milli: 1000,
            public: true,
            ..Flavor::default()
        }
    }

    /// Whether `project` may use it.
    pub fn usable_by(&self, project: Option<&ProjectId>) -> bool {
        self.public || project.is_some_and(|project| self.access.contains(project))
    }
}

/// The flavors that a new cell has: id, name, VCPUs, MiB, GiB.
const FIRST: [(&str, &str, u32, u64, u64); 4] = [
    ("1", "m1.tiny", 1, 128, 1),
    ("2", "m1.small", 1, 512, 5),
    ("3", "m1.medium", 2, 1024, 10),
    ("4", "m1.large", 4, 2048, 20),
];
/// That the first flavors were made: one that was deleted since does not come back.
const FIRST_MADE: &str = "srv/first-flavors";
/// How often making them is tried while others are quicker or the store is slow.
const TRIES: usize = 50;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Which flavor has `name`: it is unique.
fn name_key(name: &str) -> Key {
    Key::from(format!("srv/flavor-name/{}", hex::encode(name)))
}

fn missing(id: &str) -> AcceptError {
    AcceptError::NotFound { kind: "Flavor", id: id.to_owned() }
}

/// The flavor with this id.
pub fn required(reader: &Reader<'_>, id: &str) -> Result<(Flavor, Revision), AcceptError> {
    reader.get::<Flavor>(&id)?.ok_or_else(|| missing(id))
}

impl Servers {
    /// Makes a flavor; its id and its name are had once.
    pub async fn create_flavor(&self, cx: &Cx, flavor: &Flavor) -> Result<(), AcceptError> {
        self.decide(cx, |reader, txn| {
            let name = name_key(&flavor.name);
            if reader.entry(&flavor.key()).is_some() {
                return Err(AcceptError::Conflict(format!("Flavor with ID {} already exists.", flavor.id)));
            }
            if reader.entry(&name).is_some() {
                return Err(AcceptError::Conflict(format!("Flavor with name {} already exists.", flavor.name)));
            }
            txn.create(flavor.key(), flavor.encode());
            txn.create(name, Bytes::copy_from_slice(flavor.id.as_bytes()));
            Ok(())
        })
        .await
    }

    /// Changes a flavor: anything but its id and its name. Servers that were made with it keep what they have.
    pub async fn change_flavor(
        &self,
        cx: &Cx,
        id: &str,
        change: impl Fn(&mut Flavor) -> Result<(), AcceptError>,
    ) -> Result<Flavor, AcceptError> {
        self.decide(cx, |reader, txn| {
            let (mut flavor, revision) = required(reader, id)?;
            let (id, name) = (flavor.id.clone(), flavor.name.clone());
            change(&mut flavor)?;
            (flavor.id, flavor.name) = (id, name);
            txn.replace(flavor.key(), revision, flavor.encode());
            Ok(flavor)
        })
        .await
    }

    /// Removes a flavor. Servers that were made with it keep what they have.
    pub async fn delete_flavor(&self, cx: &Cx, id: &str) -> Result<(), AcceptError> {
        self.decide(cx, |reader, txn| {
            let (flavor, revision) = required(reader, id)?;
            txn.remove(flavor.key(), revision);
            txn.delete(name_key(&flavor.name));
            Ok(())
        })
        .await
    }
}

/// Makes the flavors that a new cell has, unless that has been done before: in one commit.
pub async fn bootstrap(view: &View, world: &World) -> Result<(), AcceptError> {
    let mut last = String::new();
    for _ in 0..TRIES {
        let txn = view.read(first_flavors).await?;
        if txn.ops.is_empty() {
            return Ok(());
        }
        match view.store().commit(txn).await {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
        world.sleep(RETRY_PAUSE).await;
    }
    Err(AcceptError::Busy(format!("the first flavors could not be made: {last}")))
}

fn first_flavors(reader: &Reader<'_>) -> Txn {
    let mut txn = Txn::new();
    let made = Key::from(FIRST_MADE.to_owned());
    if reader.entry(&made).is_some() {
        return txn;
    }
    txn.create(made, Bytes::from_static(b"1"));
    for (id, name, vcpus, ram_mib, disk_gib) in FIRST {
        let flavor = Flavor::plain(id, name, vcpus, ram_mib, disk_gib);
        if reader.entry(&flavor.key()).is_none() && reader.entry(&name_key(name)).is_none() {
            txn.create(flavor.key(), flavor.encode());
            txn.create(name_key(name), Bytes::copy_from_slice(id.as_bytes()));
        }
    }
    txn
}
