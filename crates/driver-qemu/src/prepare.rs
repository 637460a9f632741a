//! What a guest is made of before it runs: its record, its image, its disk, its config drive.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use driver::{DriverError, GuestId, GuestSpec, ImageSource};

use crate::guests::Guests;
use crate::iso;
use crate::layout::{GuestDir, GuestRecord, PortRecord, failed, write_whole};
use crate::share::Choice;

/// The users under which guests run: no account has such a number.
const USERS_FIRST: u32 = 2_000_000_000;
const USERS: u64 = 100_000_000;
/// How long another agent of the machine may take to choose one.
const CHOICE_WAIT_MAX: Duration = Duration::from_secs(5);
const CHOOSE_AGAIN: Duration = Duration::from_millis(5);

impl Guests {
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        spec: &GuestSpec,
        images: &dyn ImageSource,
    ) -> Result<(), DriverError> {
        let dir = self.layout.guest(spec.id);
        let cannot = |error: std::io::Error| failed("cannot prepare the guest", &error);
        std::fs::create_dir_all(dir.path()).map_err(cannot)?;
        self.record(&dir, spec).await?;
        let base = self.images.ensure(&spec.image, images, &self.tools).await?;
        self.tools.ensure_overlay(&dir.disk(), &base, &spec.image, spec.disk_gib).await?;
        if self.wants_config_drive(spec) {
            let drive = config_drive(spec);
            if std::fs::read(dir.config()).ok().as_ref() != Some(&drive) {
                write_whole(&dir.config(), &drive).map_err(cannot)?;
            }
        }
        self.probe_later(&spec.image);
        Ok(())
    }

    pub(crate) fn wants_config_drive(&self, spec: &GuestSpec) -> bool {
        spec.config_drive || !self.net.serves_metadata()
    }

    /// Writes down what taking the guest away will need, before anything of it is made.
    pub(crate) async fn record(&self, dir: &GuestDir, spec: &GuestSpec) -> Result<GuestRecord, DriverError> {
        let _one_at_a_time = self.users.lock().await;
        let before = dir.record()?;
        // Who has a user keeps it. Until a new one is written down, no other agent of the machine may choose the same.
        let held = if self.root && before.is_none() { self.choose_alone().await? } else { None };
        let uid = match &before {
            Some(record) => record.uid,
            None => self.free_user(spec.id)?,
        };
        let ports = spec
            .nics
            .iter()
            .map(|nic| PortRecord { network: nic.network.to_string(), port: nic.port.to_string() })
            .collect();
        let record = GuestRecord { version: 1, name: spec.name.clone(), uid, image: spec.image.sha256.clone(), ports };
        if before.as_ref() != Some(&record) {
            dir.write_record(&record)?;
        }
        drop(held);
        Ok(record)
    }

    /// Holds off the other agents of the machine. One that was stopped while it chose holds us up, but not for ever.
    async fn choose_alone(&self) -> Result<Option<File>, DriverError> {
        let cannot = |error: std::io::Error| failed("cannot choose a user for the guest", &error);
        let deadline = self.world.now() + CHOICE_WAIT_MAX;
        loop {
            match self.share.choose_alone().map_err(cannot)? {
                Choice::Ours(held) => return Ok(held),
                Choice::Theirs if self.world.now() < deadline => self.world.sleep(CHOOSE_AGAIN).await,
                Choice::Theirs => {
                    return Err(DriverError::Failed(
                        "another agent of this machine is choosing a user for a guest and does not come to an end"
                            .into(),
                    ));
                }
            }
        }
    }

    fn free_user(&self, guest: GuestId) -> Result<u32, DriverError> {
        if !self.root {
            return Ok(rustix::process::geteuid().as_raw());
        }
        let mut taken = BTreeSet::new();
        let cannot = |error: std::io::Error| failed("cannot list the guests", &error);
        let others = self.share.others(&self.layout).map_err(cannot)?;
        for layout in std::iter::once(&self.layout).chain(&others) {
            for other in layout.all_guests().map_err(cannot)? {
                taken.extend(layout.guest(other).record()?.map(|record| record.uid));
            }
        }
        Ok(user_for(guest, &taken))
    }
}

/// A user that no guest in `taken` has; for one guest mostly the same.
pub(crate) fn user_for(guest: GuestId, taken: &BTreeSet<u32>) -> u32 {
    let (high, low) = guest.as_uuid().as_u64_pair();
    let start = (high ^ low) % USERS;
    (0..USERS)
        .map(|step| USERS_FIRST + u32::try_from((start + step) % USERS).expect("the range is below 2^32"))
        .find(|user| !taken.contains(user))
        .expect("a node has fewer than a hundred million guests")
}

fn config_drive(spec: &GuestSpec) -> Vec<u8> {
    let mut files: Vec<(&str, &[u8])> = vec![
        ("openstack/latest/meta_data.json", spec.meta_data.as_bytes()),
        ("openstack/latest/network_data.json", spec.network_data.as_bytes()),
    ];
    if !spec.user_data.is_empty() {
        files.push(("openstack/latest/user_data", &spec.user_data));
    }
    iso::build("config-2", &files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_guests_have_one_user() {
        let guest = crate::tests_support::spec().id;
        let first = user_for(guest, &BTreeSet::new());
        let second = user_for(guest, &BTreeSet::from([first]));
        assert!(first >= USERS_FIRST && second >= USERS_FIRST && first != second);
    }

    #[tokio::test]
    async fn nor_have_guests_of_several_agents_on_a_machine() {
        let dir = tempfile::tempdir().unwrap();
        let world = world::os::OsHost::world(tokio::runtime::Handle::current(), dir.path());
        let open = |node: &str| {
            let config = crate::Config {
                state_dir: dir.path().join(node),
                boot_id: "a boot".into(),
                tools: crate::Tools::default(),
                networking: crate::Networking::User,
                share: crate::Share { among: Some(dir.path().to_path_buf()), ..crate::Share::default() },
            };
            let net = crate::net::open(&config.networking).unwrap();
            let mut guests = Guests::open(world.clone(), config, net, (0, 0, 0)).unwrap();
            // Users are chosen as root does; nothing is given to them here.
            guests.root = true;
            guests
        };
        let (one, two) = (open("node-1"), open("node-2"));
        let spec = crate::tests_support::spec();
        let mut users = BTreeSet::new();
        for guests in [&one, &two, &one] {
            let dir = guests.layout.guest(spec.id);
            std::fs::create_dir_all(dir.path()).unwrap();
            users.insert(guests.record(&dir, &spec).await.unwrap().uid);
        }
        assert_eq!(users.len(), 2, "one each, and it keeps it: {users:?}");

        // Another that was stopped while it chose is waited for, and then it is said so.
        let held = one.share.choose_alone().unwrap();
        let other = GuestSpec { id: GuestId::random(&world), ..spec };
        let place = two.layout.guest(other.id);
        std::fs::create_dir_all(place.path()).unwrap();
        assert!(two.record(&place, &other).await.unwrap_err().to_string().contains("another agent"));
        drop(held);
        two.record(&place, &other).await.unwrap();
    }
}
