//! Limits of a guest's process: a control group of its own, outside the agent's.
//!
//! Each controller is used where it is: in the unified hierarchy (version 2), or in its own (version 1, which hybrid
//! systems still have). A controller that is in neither is reported in the node's facts and not used. The child enters
//! its groups itself, before it becomes QEMU, so that nothing of it is ever counted elsewhere.

use std::path::{Path, PathBuf};

use driver::GuestId;

use crate::accel::Accel;
use crate::argv::TCG_CACHE_MIB;

const PARENT: &str = "mainstay";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Cpu];

    fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
        }
    }
}

/// What a guest's process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    memory_bytes: u64,
    threads: u64,
    vcpus: u64,
}

impl Limits {
    /// The guest's memory, and what QEMU needs beside it: devices, I/O buffers, stacks, translated code.
    pub(crate) fn of(vcpus: u32, memory_mib: u64, accel: Accel) -> Limits {
        let vcpus = u64::from(vcpus);
        let code = match accel {
            Accel::Kvm => 0,
            // Twice: beside the code itself there is what describes it.
            Accel::Tcg => 2 * TCG_CACHE_MIB,
        };
        let overhead_mib = 256 + 16 * vcpus + memory_mib / 64 + code;
        // 64 threads of the I/O pool, and what else QEMU starts.
        Limits { memory_bytes: (memory_mib + overhead_mib) << 20, threads: 128 + vcpus, vcpus }
    }
}

/// The hierarchies of this node.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    /// The unified hierarchy and the controllers that it has.
    unified: Option<(PathBuf, Vec<Controller>)>,
    /// Controllers with a hierarchy of their own.
    single: Vec<(PathBuf, Controller)>,
    /// Before the names of groups, where several agents share the machine.
    prefix: String,
}

impl Cgroups {
    /// What is mounted here and may be written to; nothing without root. `own` tells an agent's groups from others'.
    pub(crate) fn detect(own: Option<&str>) -> Cgroups {
        let prefix = own.map(|own| format!("{own}.")).unwrap_or_default();
        let mut found = Cgroups { unified: None, single: Vec::new(), prefix };
        if !rustix::process::geteuid().is_root() {
            return found;
        }
        let mount = Path::new("/sys/fs/cgroup");
        for unified in [mount.to_path_buf(), mount.join("unified")] {
            if let Ok(names) = std::fs::read_to_string(unified.join("cgroup.controllers")) {
                let here = |controller: &Controller| names.split_whitespace().any(|name| name == controller.name());
                let controllers = Controller::ALL.into_iter().filter(here).collect();
                found.unified = Some((unified, controllers));
                break;
            }
        }
        for controller in Controller::ALL {
            let own = mount.join(controller.name());
            let in_unified = found.unified.as_ref().is_some_and(|(_, have)| have.contains(&controller));
            if !in_unified && own.join("cgroup.procs").exists() {
                found.single.push((own, controller));
            }
        }
        found
    }

    /// For people: which limits apply on this node.
    pub(crate) fn describe(&self) -> String {
        let has = |controller: &Controller| {
            self.unified.as_ref().is_some_and(|(_, have)| have.contains(controller))
                || self.single.iter().any(|(_, have)| have == controller)
        };
        let (have, lack): (Vec<_>, Vec<_>) = Controller::ALL.into_iter().partition(has);
        let names = |list: Vec<Controller>| list.into_iter().map(Controller::name).collect::<Vec<_>>().join(", ");
        match (have.is_empty(), lack.is_empty()) {
            (true, _) => "none".into(),
            (false, true) => names(have),
            (false, false) => format!("{}; without {}", names(have), names(lack)),
        }
    }

    /// Makes the guest's groups with these limits, and returns the files into which its process writes itself.
    pub(crate) fn ensure(&self, guest: GuestId, limits: Limits) -> std::io::Result<Vec<PathBuf>> {
        let mut entries = Vec::new();
        if let Some((root, controllers)) = &self.unified {
            let group = make(&self.group(root, guest))?;
            for controller in controllers {
                let enable = format!("+{}", controller.name());
                std::fs::write(root.join("cgroup.subtree_control"), &enable)?;
                std::fs::write(root.join(PARENT).join("cgroup.subtree_control"), &enable)?;
                match controller {
                    Controller::Memory => std::fs::write(group.join("memory.max"), limits.memory_bytes.to_string())?,
                    Controller::Pids => std::fs::write(group.join("pids.max"), limits.threads.to_string())?,
                    Controller::Cpu => {
                        std::fs::write(group.join("cpu.weight"), (100 * limits.vcpus).min(10_000).to_string())?
                    }
                }
            }
            entries.push(group.join("cgroup.procs"));
        }
        for (root, controller) in &self.single {
            let group = make(&self.group(root, guest))?;
            match controller {
                Controller::Memory => {
                    std::fs::write(group.join("memory.limit_in_bytes"), limits.memory_bytes.to_string())?
                }
                Controller::Pids => std::fs::write(group.join("pids.max"), limits.threads.to_string())?,
                Controller::Cpu => {
                    std::fs::write(group.join("cpu.shares"), (1024 * limits.vcpus).min(262_144).to_string())?
                }
            }
            entries.push(group.join("cgroup.procs"));
        }
        Ok(entries)
    }

    /// Removes the guest's groups; no process is in them any more.
    pub(crate) fn remove(&self, guest: GuestId) -> std::io::Result<()> {
        for root in self.roots() {
            match std::fs::remove_dir(self.group(root, guest)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            // The last one takes the parent with it; with other guests in it this fails, as it should.
            let _others_are_left = std::fs::remove_dir(root.join(PARENT));
        }
        Ok(())
    }

    /// Whether the kernel killed something in the guest's groups for want of memory.
    pub(crate) fn out_of_memory(&self, guest: GuestId) -> bool {
        let counted = |root: &PathBuf| {
            ["memory.events", "memory.oom_control"].iter().any(|file| {
                let text = std::fs::read_to_string(self.group(root, guest).join(file)).unwrap_or_default();
                text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
            })
        };
        self.roots().any(counted)
    }

    fn group(&self, root: &Path, guest: GuestId) -> PathBuf {
        root.join(PARENT).join(format!("{}{guest}", self.prefix))
    }

    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        self.unified.iter().map(|(root, _)| root).chain(self.single.iter().map(|(root, _)| root))
    }
}

fn make(group: &Path) -> std::io::Result<PathBuf> {
    // The parent may be taken away by the last other guest between the two steps inside.
    let mut result = std::fs::create_dir_all(group);
    for _ in 0..3 {
        if result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            result = std::fs::create_dir_all(group);
        }
    }
    result.map(|()| group.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_room_for_its_memory_and_for_what_runs_it() {
        let small = Limits::of(1, 128, Accel::Tcg);
        assert_eq!(small.memory_bytes >> 20, 128 + 256 + 16 + 2 + 256);
        assert!(Limits::of(1, 128, Accel::Kvm).memory_bytes < small.memory_bytes);
    }

    #[test]
    fn groups_of_agents_that_share_a_machine_have_names_of_their_own() {
        let guest = crate::tests_support::spec().id;
        let named = |own| Cgroups::detect(own).group(Path::new("/x"), guest);
        assert_eq!(named(None), Path::new("/x/mainstay").join(guest.to_string()));
        assert_eq!(named(Some("n-2")), Path::new("/x/mainstay").join(format!("n-2.{guest}")));
    }
}
