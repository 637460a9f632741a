//! What a cell with real guests has made of this machine: looked at, and taken away, without asking the cell.
//!
//! A process belongs to a guest if it holds a file of that guest's directory; namespaces, links and control groups are
//! known by their names. So what the cell forgot is found too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{has_ended, signal};
use crate::until;

const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Hierarchies of control groups; the first is the unified one where it is alone.
const HIERARCHIES: [&str; 5] = ["", "unified", "memory", "cpu", "pids"];

/// This machine, as far as it is one cell's.
#[derive(Clone, Debug)]
pub struct Machine {
    home: PathBuf,
}

impl Machine {
    /// The machine of the cell in `home`.
    pub fn of(home: &Path) -> Machine {
        Machine { home: home.to_path_buf() }
    }

    /// The directory of the only node, or of the first.
    pub fn node(&self) -> PathBuf {
        self.home.join("agents/node-1")
    }

    /// The names of its nodes.
    pub fn nodes(&self) -> BTreeSet<String> {
        names_in(&self.home.join("agents"))
    }

    /// Guests of which anything lies on a node.
    pub fn directories(&self) -> BTreeSet<String> {
        self.nodes().iter().flat_map(|node| self.directories_of(node)).collect()
    }

    /// Guests of which anything lies on this node.
    pub fn directories_of(&self, node: &str) -> BTreeSet<String> {
        names_in(&self.home.join("agents").join(node).join("guests"))
    }

    /// The processes of every guest.
    pub fn processes(&self) -> BTreeMap<String, BTreeSet<u32>> {
        let agents = self.home.join("agents");
        let mut found: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for pid in names_in(Path::new("/proc")).iter().filter_map(|name| name.parse().ok()) {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let daemon = program.file_name().is_none_or(|name| name.to_string_lossy().starts_with("mainstay"));
            if daemon || has_ended(pid) {
                continue;
            }
            for descriptor in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
                let Ok(inside) = target.strip_prefix(&agents) else { continue };
                let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
                if let (Some(_node), Some("guests"), Some(guest)) =
                    (parts.next(), parts.next().as_deref(), parts.next())
                {
                    found.entry(guest).or_default().insert(pid);
                }
            }
        }
        found
    }

    /// The one process of a guest.
    ///
    /// # Panics
    /// If it has none or several.
    #[track_caller]
    pub fn process(&self, guest: &str) -> u32 {
        let all = self.processes().remove(guest).unwrap_or_default();
        assert_eq!(all.len(), 1, "processes of the guest {guest}: {all:?}");
        all.into_iter().next().unwrap_or_default()
    }

    /// The cell's network namespaces.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let Some(tag) = self.tag() else { return BTreeSet::new() };
        // Of the first node, and of those beside it.
        let own = [format!("ms-{tag}-"), format!("msr-{tag}-"), format!("ms-{tag}."), format!("msr-{tag}.")];
        let mut all = names_in(Path::new("/run/netns"));
        all.retain(|name| own.iter().any(|prefix| name.starts_with(prefix)));
        all
    }

    /// The cell's links outside of its namespaces.
    pub fn links(&self) -> BTreeSet<String> {
        let Some(tag) = self.tag() else { return BTreeSet::new() };
        let prefix = format!("msh{tag}");
        let mut all = names_in(Path::new("/sys/class/net"));
        all.retain(|name| name.strip_prefix(&prefix).is_some_and(|rest| rest.len() == 8));
        // The names of those beside the first node do not tell the cell; where they lead does.
        let peer = format!(" link-netns ms-{tag}.");
        let links = ip(&["-o", "link"]);
        let beside = links.lines().filter(|line| line.contains(&peer)).filter_map(|line| line.split([':', '@']).nth(1));
        all.extend(beside.map(|name| name.trim().to_owned()));
        all
    }

    /// Control groups of these guests.
    pub fn groups<'a>(&self, guests: impl IntoIterator<Item = &'a String>) -> Vec<PathBuf> {
        let before: Vec<String> =
            std::iter::once(String::new()).chain(self.nodes().into_iter().map(|node| format!("{node}."))).collect();
        let names = guests.into_iter().flat_map(|guest| before.iter().map(move |before| format!("{before}{guest}")));
        let all = names.flat_map(|name| {
            HIERARCHIES.map(|hierarchy| Path::new("/sys/fs/cgroup").join(hierarchy).join("mainstay").join(&name))
        });
        all.filter(|group| group.exists()).collect()
    }

    /// All that is left of guests here, in words. `servers`: all that there ever were.
    pub fn left(&self, servers: &[String]) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        left.extend(self.processes().into_iter().map(|(guest, pids)| format!("processes {pids:?} of {guest}")));
        left.extend(self.directories().into_iter().map(|guest| format!("the directory of {guest}")));
        left.extend(self.namespaces().into_iter().map(|name| format!("the namespace {name}")));
        left.extend(self.links().into_iter().map(|name| format!("the link {name}")));
        left.extend(self.groups(servers).into_iter().map(|group| format!("the control group {}", group.display())));
        for node in self.nodes() {
            let scratch = names_in(&self.home.join("agents").join(&node).join("scratch").join(&node));
            left.extend(scratch.into_iter().map(|name| format!("{name} in the scratch directory of {node}")));
        }
        left
    }

    /// Takes away what a power cut takes: guests' processes, all at once, then networks and control groups. Disks and
    /// logs stay. For a cell whose daemons have been killed.
    pub fn lose_power(&self) {
        let pids: BTreeSet<u32> = self.processes().into_values().flatten().collect();
        pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
        until("the killed guests' processes end", ENDS_WITHIN, || {
            let alive: Vec<_> = pids.iter().filter(|pid| !has_ended(**pid)).collect();
            if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?}")) }
        });
        for namespace in self.namespaces() {
            // Links of a namespace that something still holds open would stay: they are removed by name.
            for link in ip(&["-n", &namespace, "-br", "link"]).lines().filter_map(|line| line.split([' ', '@']).next())
            {
                if link != "lo" {
                    ip(&["-n", &namespace, "link", "delete", link]);
                }
            }
            ip(&["netns", "delete", &namespace]);
        }
        self.links().iter().for_each(|link| drop(ip(&["link", "delete", link])));
        for group in self.groups(&self.directories()) {
            let _busy_or_gone = std::fs::remove_dir(group);
        }
    }

    fn tag(&self) -> Option<String> {
        let text = std::fs::read(self.home.join("cell.json")).ok()?;
        let cell: Value = serde_json::from_slice(&text).ok()?;
        cell["tag"].as_str().map(str::to_owned)
    }
}

/// What `ip` answers; nothing where it fails, because what it was to remove may have gone by itself.
fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output().expect("`ip` is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The names in a directory; none if it is not there.
fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
