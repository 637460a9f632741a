//! The probe of KVM: a guest of nobody's that is booted and thrown away. What it proves stands in [`crate::accel`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use driver::{DriverError, GuestId, GuestSpec, ImageRef, Run};

use crate::accel::{Accel, PROBE_AFTER, PROBE_BOUND, PROOF};
use crate::guests::Guests;
use crate::layout::{GuestDir, failed};
use crate::prepare::user_for;
use crate::process::{self, Process};
use crate::start::{self, Start};

const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Guests {
    /// Starts a probe in the background, if one is due; `image` is in the cache.
    pub(crate) fn probe_later(self: &Arc<Self>, image: &ImageRef) {
        if !self.kvm.begin(&image.sha256) {
            return;
        }
        let (weak, image, world) = (Arc::downgrade(self), image.clone(), self.world.clone());
        self.world.spawn("kvm probe", async move {
            world.sleep(PROBE_AFTER).await;
            let Some(guests) = weak.upgrade() else { return };
            let result = guests.probe(&image, Accel::Kvm, PROBE_BOUND).await;
            match &result {
                Ok(works) => tracing::info!(works, image = image.sha256, "tried whether guests run with KVM"),
                Err(error) => tracing::warn!(%error, "could not try whether guests run with KVM"),
            }
            guests.kvm.end(&image.sha256, result.ok());
        });
    }

    async fn probe(&self, image: &ImageRef, accel: Accel, bound: Duration) -> Result<bool, DriverError> {
        let id = GuestId::random(&self.world);
        let result = self.boot_probe(id, image, accel, bound).await;
        self.remove_probe(id).await?;
        result
    }

    async fn boot_probe(
        &self,
        id: GuestId,
        image: &ImageRef,
        accel: Accel,
        bound: Duration,
    ) -> Result<bool, DriverError> {
        let dir = self.layout.probe(id);
        let cannot = |error: std::io::Error| failed("cannot try KVM", &error);
        std::fs::create_dir_all(dir.path()).map_err(cannot)?;
        let Some(lock) = process::lock(&dir.lock()).map_err(cannot)? else { return Ok(false) };
        let spec = GuestSpec {
            id,
            name: "kvm-probe".into(),
            vcpus: 1,
            memory_mib: 512,
            disk_gib: 0,
            image: image.clone(),
            nics: Vec::new(),
            meta_data: String::new(),
            network_data: String::new(),
            user_data: Vec::new(),
            config_drive: false,
        };
        self.tools.ensure_overlay(&dir.disk(), &self.layout.image(&image.sha256), image, 0).await?;
        let (console, log) = (start::console(&dir), start::log(&dir));
        let process = self.start_probe(&dir, &spec, accel, lock)?;
        let (console_follower, log_follower) =
            (console.follow(&self.world).map_err(cannot)?, log.follow(&self.world).map_err(cannot)?);
        let seen = async {
            while !String::from_utf8_lossy(&console.last(4096).unwrap_or_default()).contains(PROOF) {
                self.world.sleep(LOOK_EVERY).await;
            }
        };
        let works = tokio::select! {
            seen = self.world.timeout(bound, seen) => seen.is_ok(),
            _ended = process.ended() => false,
        };
        process.kill().map_err(cannot)?;
        process.ended().await.map_err(cannot)?;
        process.reap();
        drop(console_follower);
        log_follower.finish().await;
        if let Some(said) = log.last_line() {
            tracing::info!(accel = accel.name(), said, "what QEMU said when KVM was tried");
        }
        Ok(works)
    }

    /// How a guest of the KVM probe is started.
    fn start_probe(
        &self,
        dir: &GuestDir,
        spec: &GuestSpec,
        accel: Accel,
        lock: std::fs::File,
    ) -> Result<Process, DriverError> {
        let start = Start {
            tools: &self.tools,
            cgroups: &self.cgroups,
            dir,
            base: &self.layout.image(&spec.image.sha256),
            spec,
            run: Run(1),
            accel,
            config_drive: false,
            cards: Vec::new(),
            user: self.root.then(|| user_for(spec.id, &BTreeSet::new())),
            background: true,
            lock,
        };
        start.start()
    }

    async fn remove_probe(&self, id: GuestId) -> Result<(), DriverError> {
        let cannot = |error: std::io::Error| failed("cannot remove a probe of KVM", &error);
        for left in process::scan().map_err(cannot)?.into_iter().filter(|one| one.guest == id) {
            if let Some((process, _)) = process::find_in(&[left], id, left.uid).map_err(cannot)? {
                process.kill().map_err(cannot)?;
                process.ended().await.map_err(cannot)?;
            }
        }
        self.remove_groups(id).await?;
        self.layout.probe(id).remove().map_err(cannot)
    }

    /// Removes what probes of an earlier process left behind.
    pub(crate) async fn remove_old_probes(&self) -> Result<(), DriverError> {
        for id in self.layout.all_probes().map_err(|error| failed("cannot list the probes of KVM", &error))? {
            self.remove_probe(id).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use driver::ImageFormat;

    use super::*;

    #[tokio::test]
    async fn a_guest_that_runs_is_proof_and_nothing_of_it_stays() {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest/tiny.qcow2");
        let tiny = std::env::var_os("MAINSTAY_TINY").map_or(built, PathBuf::from);
        let bytes = std::fs::read(&tiny).expect("the guest image is built by `cargo xtask guest-image`");
        let dir = tempfile::tempdir().unwrap();
        let world = world::os::OsHost::world(tokio::runtime::Handle::current(), dir.path());
        let config = crate::Config {
            state_dir: dir.path().to_path_buf(),
            boot_id: "a boot".into(),
            tools: crate::Tools::default(),
            networking: crate::Networking::User,
            share: crate::Share::default(),
        };
        let net = crate::net::open(&config.networking).unwrap();
        let guests = Guests::open(world, config, net, (0, 0, 0)).unwrap();
        let image = ImageRef {
            sha256: "ab".repeat(32),
            format: ImageFormat::Qcow2,
            size_bytes: bytes.len() as u64,
            virtual_size_bytes: u64::from_be_bytes(bytes[24..32].try_into().unwrap()),
        };
        std::fs::write(guests.layout.image(&image.sha256), &bytes).unwrap();
        // Under TCG, which runs guests anywhere: whether KVM does here is what the probe itself is for. That is slower, and
        // on a busy machine much slower, so the bound is another one.
        let bound = 10 * PROBE_BOUND;
        assert_eq!(guests.probe(&image, Accel::Tcg, bound).await, Ok(true));
        assert_eq!(guests.layout.all_probes().unwrap(), []);
    }
}
