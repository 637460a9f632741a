//! From a prepared guest to a process: everything that is opened, made and handed over at a start.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use driver::{DriverError, GuestSpec, Run};

use crate::accel::Accel;
use crate::argv::{self, Behind, Plan, fd};
use crate::cgroup::{Cgroups, Limits};
use crate::disk::{Tools, missing};
use crate::launch::Launch;
use crate::layout::{GuestDir, failed};
use crate::monitor;
use crate::net::Card;
use crate::process::Process;
use crate::tail::Stream;

/// One start.
pub(crate) struct Start<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) dir: &'a GuestDir,
    /// The image under the guest's disk.
    pub(crate) base: &'a Path,
    pub(crate) spec: &'a GuestSpec,
    pub(crate) run: Run,
    pub(crate) accel: Accel,
    pub(crate) config_drive: bool,
    pub(crate) cards: Vec<Card>,
    pub(crate) user: Option<u32>,
    pub(crate) background: bool,
    /// The guest's lock: goes to the process, and with it.
    pub(crate) lock: File,
}

/// The two streams of a guest.
pub(crate) fn console(dir: &GuestDir) -> Stream {
    Stream::new(dir.path(), "console")
}

pub(crate) fn log(dir: &GuestDir) -> Stream {
    Stream::new(dir.path(), "qemu")
}

impl Start<'_> {
    /// Starts QEMU. Killed at any point in here, it leaves either no process or one that is found by its marker.
    pub(crate) fn start(self) -> Result<Process, DriverError> {
        let spec = self.spec;
        let mut descriptors: Vec<(OwnedFd, i32)> = vec![(self.lock.into(), fd::LOCK)];
        let (log_hold, log_write) =
            streams(self.dir, &mut descriptors).map_err(|error| failed("cannot make the guest's console", &error))?;
        descriptors.push((log_hold, fd::LOG_HOLD));
        let listener = monitor::bind(&self.dir.join("monitor"))
            .map_err(|error| failed("cannot make the guest's monitor", &error))?;
        descriptors.push((listener.into(), fd::MONITOR));
        let open = |path: &Path, write: bool| {
            let opened = File::options().read(true).write(write).open(path);
            opened.map(OwnedFd::from).map_err(|error| failed(&format!("cannot open {}", path.display()), &error))
        };
        descriptors.push((open(&self.dir.disk(), true)?, fd::DISK));
        descriptors.push((open(self.base, false)?, fd::BASE));
        if self.config_drive {
            descriptors.push((open(&self.dir.config(), false)?, fd::CONFIG));
        }
        let mut cards = Vec::new();
        let mut next_tap = fd::TAPS;
        for card in self.cards {
            cards.push(match card {
                Card::Tap(tap) => {
                    descriptors.push((tap, next_tap));
                    next_tap += 1;
                    Behind::Tap(next_tap - 1)
                }
                Card::User(options) => Behind::User(options),
            });
        }
        let plan = Plan { spec, run: self.run, accel: self.accel, config_drive: self.config_drive, cards };
        let limits = Limits::of(spec.vcpus, spec.memory_mib, self.accel);
        let groups = self.cgroups.ensure(spec.id, limits).map_err(|error| failed("cannot limit the guest", &error))?;
        let launch = Launch {
            qemu: &self.tools.qemu,
            argv: argv::argv(&plan),
            descriptors,
            log: log_write,
            groups,
            user: self.user,
            accel: self.accel,
            background: self.background,
        };
        launch.spawn().map_err(|error| missing(Path::new("/bin/sh"), &error))
    }
}

fn streams(dir: &GuestDir, descriptors: &mut Vec<(OwnedFd, i32)>) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (console, log) = (console(dir), log(dir));
    console.create()?;
    log.forget()?;
    log.create()?;
    let (hold, write) = console.ends()?;
    descriptors.extend([(hold, fd::CONSOLE_HOLD), (write, fd::CONSOLE)]);
    log.ends()
}
