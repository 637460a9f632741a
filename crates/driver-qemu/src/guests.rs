//! All guests of a node: look at what is there, then do what is missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use driver::{DriverError, Found, GuestId, GuestSpec, Observed, Run, Stock, StopCause, Watcher};
use serde_json::Value;
use world::World;

use crate::Config;
use crate::accel::{Device, Knowledge};
use crate::cgroup::Cgroups;
use crate::disk::Tools;
use crate::images::Images;
use crate::layout::{GuestDir, Layout, failed};
use crate::net::Net;
use crate::process::{self, Marked, Process};
use crate::running::{COMMAND, Phase, Running};
use crate::share::Share;
use crate::start::{self, Start};

/// How long a process that holds a guest's lock may take to be recognized: it is between two of its first execs.
const RECOGNIZE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) struct Guests {
    pub(crate) world: World,
    pub(crate) layout: Layout,
    pub(crate) tools: Tools,
    pub(crate) cgroups: Cgroups,
    pub(crate) share: Share,
    pub(crate) images: Images,
    pub(crate) kvm: Knowledge,
    pub(crate) net: Box<dyn Net>,
    pub(crate) root: bool,
    running: parking_lot::Mutex<BTreeMap<GuestId, Arc<Running>>>,
    reports: parking_lot::Mutex<Reports>,
    /// Held while a user is chosen and recorded.
    pub(crate) users: tokio::sync::Mutex<()>,
}

/// Ends that nobody asked for: to the watcher, or kept until there is one.
#[derive(Default)]
struct Reports {
    watcher: Option<Arc<dyn Watcher>>,
    waiting: Vec<(GuestId, Run, StopCause)>,
}

impl Guests {
    pub(crate) fn open(
        world: World,
        config: Config,
        net: Box<dyn Net>,
        version: (u64, u64, u64),
    ) -> std::io::Result<Guests> {
        let layout = Layout::create(&config.state_dir)?;
        let qemu = format!("{}.{}.{}", version.0, version.1, version.2);
        let root = rustix::process::geteuid().is_root();
        let device = Device::detect(root);
        let kvm = Knowledge::open(layout.kvm(), &config.boot_id, &qemu, device);
        Ok(Guests {
            world,
            tools: config.tools,
            cgroups: Cgroups::detect(config.share.name.as_deref()),
            share: config.share,
            images: Images::open(&layout)?,
            layout,
            kvm,
            net,
            root,
            running: parking_lot::Mutex::default(),
            reports: parking_lot::Mutex::default(),
            users: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn net(&self) -> &dyn Net {
        &*self.net
    }

    pub(crate) fn disk_gib(&self) -> u64 {
        self.share.disk_gib(&self.layout)
    }

    pub(crate) fn facts(&self, facts: &mut BTreeMap<String, String>) {
        facts.insert("acceleration".into(), self.kvm.accel().name().into());
        facts.insert("kvm".into(), self.kvm.describe().into());
        facts.insert("limits".into(), self.cgroups.describe());
        facts.insert("network".into(), self.net.describe().into());
        let confined =
            if self.root { "a user of its own for each guest" } else { "the agent's user for all guests (not root)" };
        facts.insert("users".into(), confined.into());
    }

    pub(crate) fn watch(&self, watcher: Arc<dyn Watcher>) {
        let mut reports = self.reports.lock();
        for (guest, run, cause) in std::mem::take(&mut reports.waiting) {
            watcher.ended(guest, run, cause);
        }
        reports.watcher = Some(watcher);
    }

    fn report(&self, guest: GuestId, run: Run, cause: StopCause) {
        let mut reports = self.reports.lock();
        match &reports.watcher {
            Some(watcher) => watcher.ended(guest, run, cause),
            None => reports.waiting.push((guest, run, cause)),
        }
    }

    pub(crate) async fn find(self: &Arc<Self>) -> Result<Vec<Found>, DriverError> {
        let mut found = Vec::new();
        let guests = self.layout.all_guests().map_err(|error| failed("cannot list the guests", &error))?;
        let all = process::scan().map_err(cannot_look)?;
        for guest in guests {
            let running = self.look_in(guest, &all).await;
            let running = running.map_err(|error| DriverError::Failed(format!("guest {guest}: {error}")))?;
            let observed = match running {
                Some(running) => running.observe().await,
                None => Observed::Stopped,
            };
            found.push(Found { guest, observed });
        }
        Ok(found)
    }

    /// What lies in the state directory and stands in the node's network.
    pub(crate) async fn take_stock(self: &Arc<Self>) -> Result<Stock, DriverError> {
        let guests = self.find().await?;
        let plugged = self.net.found().await?;
        let disks = guests.iter().map(|found| found.guest).filter(|guest| self.layout.guest(*guest).disk().exists());
        Ok(Stock { disks: disks.collect(), guests, taps: plugged.taps, networks: plugged.networks })
    }

    /// The guest's run, if it runs; taken hold of if it was not yet.
    async fn look(self: &Arc<Self>, guest: GuestId) -> Result<Option<Arc<Running>>, DriverError> {
        self.look_in(guest, &[]).await
    }

    /// The same, looking first among `seen`.
    async fn look_in(self: &Arc<Self>, guest: GuestId, seen: &[Marked]) -> Result<Option<Arc<Running>>, DriverError> {
        if let Some(running) = self.held(guest) {
            return Ok(Some(running));
        }
        let dir = self.layout.guest(guest);
        if !dir.path().exists() {
            return Ok(None);
        }
        let uid = dir.record()?.map_or(0, |record| record.uid);
        let deadline = self.world.now() + RECOGNIZE;
        loop {
            if let Some(free) = process::lock(&dir.lock()).map_err(cannot_look)? {
                drop(free);
                return Ok(None);
            }
            let found = match process::find_in(seen, guest, uid).map_err(cannot_look)? {
                Some(found) => Some(found),
                None => process::find(guest, uid).map_err(cannot_look)?,
            };
            if let Some((process, run)) = found {
                return self.hold(guest, &dir, process, run, Phase::Up).map(Some);
            }
            if self.world.now() >= deadline {
                return Err(DriverError::Failed(
                    "a process holds the guest's lock, but it is not recognized as the guest".into(),
                ));
            }
            self.world.sleep(LOOK_AGAIN).await;
        }
    }

    fn held(&self, guest: GuestId) -> Option<Arc<Running>> {
        self.running.lock().get(&guest).filter(|running| !running.is_over()).map(Arc::clone)
    }

    fn hold(
        self: &Arc<Self>,
        guest: GuestId,
        dir: &GuestDir,
        process: Process,
        run: Run,
        phase: Phase,
    ) -> Result<Arc<Running>, DriverError> {
        let mut held = self.running.lock();
        if let Some(running) = held.get(&guest).filter(|running| running.run == run && !running.is_over()) {
            return Ok(Arc::clone(running));
        }
        let weak: Weak<Guests> = Arc::downgrade(self);
        let cgroups = self.cgroups.clone();
        let out_of_memory = move || cgroups.out_of_memory(guest);
        let ended = move |running: &Arc<Running>, before: Phase, cause: StopCause| {
            let Some(guests) = weak.upgrade() else { return };
            guests.let_go(guest, running);
            tracing::info!(%guest, run = running.run.0, ?cause, "a guest's process has ended");
            match before {
                Phase::Up => guests.report(guest, running.run, cause),
                Phase::Starting | Phase::Stopping | Phase::Over => {}
            }
        };
        let running = Running::attach(&self.world, dir, process, run, phase, out_of_memory, ended)?;
        held.insert(guest, Arc::clone(&running));
        Ok(running)
    }

    fn let_go(&self, guest: GuestId, running: &Arc<Running>) {
        let mut held = self.running.lock();
        if held.get(&guest).is_some_and(|one| Arc::ptr_eq(one, running)) {
            held.remove(&guest);
        }
    }

    pub(crate) async fn run(self: &Arc<Self>, spec: &GuestSpec, run: Run) -> Result<(), DriverError> {
        let dir = self.layout.guest(spec.id);
        let lock = loop {
            match self.look(spec.id).await? {
                Some(running) if running.run == run => return running.up().await,
                Some(running) if running.run > run => {
                    return Err(DriverError::Refused(format!(
                        "run {} of the guest has begun already, after {}",
                        running.run.0, run.0
                    )));
                }
                Some(earlier) => earlier.stop(None).await?,
                None => {}
            }
            if !dir.disk().exists() {
                return Err(DriverError::Failed("the guest has no disk on this node: it was not prepared".into()));
            }
            // Whoever looks at the guest just now holds its lock for a moment.
            match process::lock(&dir.lock()).map_err(|error| failed("cannot lock the guest", &error))? {
                Some(lock) => break lock,
                None => self.world.sleep(LOOK_AGAIN).await,
            }
        };
        let record = self.record(&dir, spec).await?;
        let mut cards = Vec::new();
        for nic in &spec.nics {
            cards.push(self.net.plug(nic).await?);
        }
        let start = Start {
            tools: &self.tools,
            cgroups: &self.cgroups,
            dir: &dir,
            base: &self.layout.image(&spec.image.sha256),
            spec,
            run,
            accel: self.kvm.accel(),
            config_drive: self.wants_config_drive(spec),
            cards,
            user: self.root.then_some(record.uid),
            background: false,
            lock,
        };
        let process = start.start()?;
        self.hold(spec.id, &dir, process, run, Phase::Starting)?.up().await
    }

    pub(crate) async fn stop(self: &Arc<Self>, guest: GuestId, graceful: Option<Duration>) -> Result<(), DriverError> {
        match self.look(guest).await? {
            Some(running) => running.stop(graceful).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn pause(self: &Arc<Self>, guest: GuestId, paused: bool) -> Result<(), DriverError> {
        let Some(running) = self.look(guest).await? else {
            return Err(DriverError::Failed("the guest does not run".into()));
        };
        let command = if paused { "stop" } else { "cont" };
        match running.monitor.execute(command, Value::Null, COMMAND).await {
            Ok(_) => Ok(()),
            Err(error) => Err(DriverError::Failed(format!("cannot {command} the guest: {error}"))),
        }
    }

    pub(crate) async fn remove(self: &Arc<Self>, guest: GuestId) -> Result<(), DriverError> {
        self.stop(guest, None).await?;
        let dir = self.layout.guest(guest);
        for port in dir.record()?.map_or(Vec::new(), |record| record.ports) {
            let (Ok(network), Ok(port)) = (port.network.parse(), port.port.parse()) else {
                return Err(DriverError::Failed(format!(
                    "{}/guest.json is damaged: it names no port",
                    dir.path().display()
                )));
            };
            self.net.unplug(network, port).await?;
        }
        self.remove_groups(guest).await?;
        dir.remove().map_err(|error| failed("cannot remove the guest's files", &error))
    }

    /// Removes the guest's control groups, as soon as the kernel has taken its last process out of them.
    pub(crate) async fn remove_groups(&self, guest: GuestId) -> Result<(), DriverError> {
        let deadline = self.world.now() + RECOGNIZE;
        loop {
            match self.cgroups.remove(guest) {
                Ok(()) => return Ok(()),
                Err(error) if self.world.now() >= deadline => {
                    return Err(failed("cannot remove the guest's control groups", &error));
                }
                Err(_busy) => self.world.sleep(LOOK_AGAIN).await,
            }
        }
    }

    pub(crate) fn console(&self, guest: GuestId, bytes: usize) -> Result<String, DriverError> {
        let last = start::console(&self.layout.guest(guest)).last(bytes);
        last.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|error| failed("cannot read the guest's console", &error))
    }

    pub(crate) async fn export(self: &Arc<Self>, guest: GuestId, into: &Path) -> Result<(), DriverError> {
        let disk = self.layout.guest(guest).disk();
        if !disk.exists() {
            return Err(DriverError::Failed("the guest has no disk on this node".into()));
        }
        let Some(running) = self.look(guest).await? else {
            return self.tools.flatten(&disk, into).await;
        };
        let bytes = self.tools.virtual_bytes(&disk).await?;
        self.tools.create_empty(into, bytes).await?;
        running.export(into).await
    }
}

fn cannot_look(error: std::io::Error) -> DriverError {
    failed("cannot look for the guest's process", &error)
}
