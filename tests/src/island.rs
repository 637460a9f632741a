//! A host of its own, as far as a network can tell: a namespace at the other end of a link that can be cut.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// A network namespace and the link to it; both are removed when it is dropped.
pub struct Island {
    namespace: String,
    link: String,
    net: String,
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All.
    Both,
    /// Those that leave the island.
    Out,
    /// Those that come to it.
    In,
}

impl Island {
    /// A new one.
    ///
    /// # Panics
    /// Without root: networks cannot be had without.
    pub fn new() -> Island {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        assert!(rustix::process::geteuid().is_root(), "networks are cut as root");
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let own = std::process::id() * 8 + number;
        let net = format!("10.213.{}.{}", own >> 6 & 255, (own & 63) * 4);
        let name = format!("mslt{}-{number}", std::process::id());
        let island = Island { namespace: name.clone(), link: name.replace("mslt", "msl"), net };
        let (near, inner) = (island.link.clone(), format!("{}i", island.link));
        run("ip", &["netns", "add", &name]);
        run("ip", &["link", "add", &near, "type", "veth", "peer", "name", &inner, "netns", &name]);
        run("ip", &["address", "add", &format!("{}/30", island.near()), "dev", &near]);
        run("ip", &["link", "set", &near, "up"]);
        run("ip", &["-n", &name, "address", "add", &format!("{}/30", island.far()), "dev", &inner]);
        run("ip", &["-n", &name, "link", "set", &inner, "up"]);
        run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        island
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The address of this side of the link.
    pub fn near(&self) -> String {
        self.host(1)
    }

    /// The address of the island.
    pub fn far(&self) -> String {
        self.host(2)
    }

    fn host(&self, number: u32) -> String {
        let (before, last) = self.net.rsplit_once('.').unwrap_or_default();
        format!("{before}.{}", last.parse::<u32>().unwrap_or_default() + number)
    }

    /// From now on packets are lost without a word.
    pub fn cut(&self, cut: Cut) {
        let lost = |which, at| if cut == Cut::Both || cut == which { format!("{at} drop;") } else { String::new() };
        let rules = format!(
            "table inet cut {{\nchain in {{ type filter hook input priority 0; {} }}\n\
             chain out {{ type filter hook output priority 0; {} }}\n}}",
            lost(Cut::In, "iifname != \"lo\""),
            lost(Cut::Out, "oifname != \"lo\"")
        );
        run("ip", &["netns", "exec", &self.namespace, "nft", &rules]);
    }

    /// No packet is lost any more.
    pub fn heal(&self) {
        run("ip", &["netns", "exec", &self.namespace, "nft", "delete table inet cut"]);
    }
}

impl Default for Island {
    fn default() -> Island {
        Island::new()
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        // What holds the namespace open keeps it, but not the link: that is removed by its own name.
        for words in [["link", "delete", &self.link], ["netns", "delete", &self.namespace]] {
            let _gone = Command::new("ip").args(words).stdin(Stdio::null()).output();
        }
    }
}

#[track_caller]
fn run(program: &str, words: &[&str]) {
    let output =
        Command::new(program).args(words).stdin(Stdio::null()).output().expect("iproute2 and nft are installed");
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
