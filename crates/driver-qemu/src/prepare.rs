//! What a guest is made of before it runs: its record, its image, its disk, its config drive.

use std::collections::BTreeSet;
use std::sync::Arc;

use driver::{DriverError, GuestId, GuestSpec, ImageSource};

use crate::guests::Guests;
use crate::iso;
use crate::layout::{GuestDir, GuestRecord, PortRecord, failed, write_whole};

/// The users under which guests run: no account has such a number.
const USERS_FIRST: u32 = 2_000_000_000;
const USERS: u64 = 100_000_000;

impl Guests {
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        spec: &GuestSpec,
        images: &dyn ImageSource,
    ) -> Result<(), DriverError> {
        let dir = self.layout.guest(spec.id);
        let cannot = |error: std::io::Error| failed("cannot prepare the guest", &error);
        std::fs::create_dir_all(dir.path()).map_err(cannot)?;
        self.record(&dir, spec)?;
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
    pub(crate) fn record(&self, dir: &GuestDir, spec: &GuestSpec) -> Result<GuestRecord, DriverError> {
        let _one_at_a_time = self.users.lock();
        let before = dir.record()?;
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
        Ok(record)
    }

    fn free_user(&self, guest: GuestId) -> Result<u32, DriverError> {
        if !self.root {
            return Ok(rustix::process::geteuid().as_raw());
        }
        let mut taken = BTreeSet::new();
        for other in self.layout.all_guests().map_err(|error| failed("cannot list the guests", &error))? {
            taken.extend(self.layout.guest(other).record()?.map(|record| record.uid));
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
}
