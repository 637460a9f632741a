//! QEMU's command line, as a pure function of what is to run.
//!
//! Files never appear by path: disks, console, monitor and taps are open descriptors at fixed numbers, so the confined
//! process needs permission for nothing, and image formats are stated at every node. The marker in `-name` is how a
//! guest's process is found again ([`crate::process`]).

use driver::{GuestId, GuestSpec, ImageFormat, Run};
use serde_json::json;

use crate::accel::Accel;

/// Where the child finds what it inherits. 0 to 2 are nothing, and twice the process's own log.
pub(crate) mod fd {
    /// The guest's lock, held as long as any process of it lives.
    pub(crate) const LOCK: i32 = 3;
    /// The console's pipe, open for both ends: what is in it stays while the agent is away.
    pub(crate) const CONSOLE_HOLD: i32 = 4;
    /// The same for the process's own log.
    pub(crate) const LOG_HOLD: i32 = 5;
    /// The console's pipe, for writing.
    pub(crate) const CONSOLE: i32 = 6;
    /// The listening socket of the monitor.
    pub(crate) const MONITOR: i32 = 7;
    /// The guest's own disk.
    pub(crate) const DISK: i32 = 8;
    /// The image under it.
    pub(crate) const BASE: i32 = 9;
    /// The config drive, if there is one.
    pub(crate) const CONFIG: i32 = 10;
    /// The first tap; the others follow.
    pub(crate) const TAPS: i32 = 11;
}

/// MiB that QEMU may use for translated code under TCG. Its own default, 1 GiB, would dwarf small guests.
pub(crate) const TCG_CACHE_MIB: u64 = 128;

/// What stands behind a card of the guest.
pub(crate) enum Behind {
    /// A tap, inherited at this descriptor.
    Tap(i32),
    /// QEMU's user-mode network with these options.
    User(String),
}

/// All that the command line depends on.
pub(crate) struct Plan<'a> {
    pub(crate) spec: &'a GuestSpec,
    pub(crate) run: Run,
    pub(crate) accel: Accel,
    pub(crate) config_drive: bool,
    /// One for each of the guest's cards, in their order.
    pub(crate) cards: Vec<Behind>,
}

/// The value of `-name`: unique to this run of this guest.
pub(crate) fn marker(guest: GuestId, run: Run) -> String {
    format!("guest={guest}-run-{}", run.0)
}

/// The guest and run that a `-name` value of ours names.
pub(crate) fn parse_marker(name: &str) -> Option<(GuestId, Run)> {
    let (guest, run) = name.strip_prefix("guest=")?.split_once("-run-")?;
    Some((guest.parse().ok()?, Run(run.parse().ok()?)))
}

pub(crate) fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    }
}

/// Everything after the program's name.
pub(crate) fn argv(plan: &Plan<'_>) -> Vec<String> {
    let mut line = Line(Vec::new());
    machine(plan, &mut line);
    disks(plan, &mut line);
    cards(plan, &mut line);
    line.pair("-add-fd", format!("fd={},set=4", fd::CONSOLE));
    line.pair("-chardev", "file,id=console,path=/dev/fdset/4,append=on");
    line.pair("-serial", "chardev:console");
    line.pair("-chardev", format!("socket,id=monitor,fd={},server=on,wait=off", fd::MONITOR));
    line.pair("-mon", "chardev=monitor,mode=control");
    line.0
}

fn machine(plan: &Plan<'_>, line: &mut Line) {
    let spec = plan.spec;
    line.pair("-name", marker(spec.id, plan.run));
    line.pair("-uuid", spec.id.to_string());
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.pair("-display", "none");
    line.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    line.pair("-machine", "pc,usb=off,dump-guest-core=off");
    match plan.accel {
        Accel::Kvm => {
            line.pair("-accel", "kvm");
            line.pair("-cpu", "host");
        }
        Accel::Tcg => {
            line.pair("-accel", format!("tcg,thread=multi,tb-size={TCG_CACHE_MIB}"));
            line.pair("-cpu", "max");
        }
    }
    line.pair("-smp", spec.vcpus.to_string());
    line.pair("-m", format!("{}M", spec.memory_mib));
    line.pair("-rtc", "base=utc");
    line.pair("-device", "virtio-rng-pci");
}

fn disks(plan: &Plan<'_>, line: &mut Line) {
    line.pair("-add-fd", format!("fd={},set=1", fd::DISK));
    line.pair("-add-fd", format!("fd={},set=2", fd::BASE));
    line.json(
        "-blockdev",
        json!({"driver": "file", "node-name": "base-file", "filename": "/dev/fdset/2", "read-only": true}),
    );
    let base = match plan.spec.image.format {
        ImageFormat::Raw => json!({"driver": "raw", "node-name": "base", "file": "base-file", "read-only": true}),
        // Whatever its header may say, an image has nothing behind it.
        ImageFormat::Qcow2 => {
            json!({"driver": "qcow2", "node-name": "base", "file": "base-file", "read-only": true, "backing": null})
        }
    };
    line.json("-blockdev", base);
    line.json(
        "-blockdev",
        json!({"driver": "file", "node-name": "disk-file", "filename": "/dev/fdset/1", "discard": "unmap"}),
    );
    line.json(
        "-blockdev",
        json!({"driver": "qcow2", "node-name": "disk", "file": "disk-file", "backing": "base", "discard": "unmap"}),
    );
    line.pair("-device", "virtio-blk-pci,drive=disk,id=root,bootindex=1");
    if plan.config_drive {
        line.pair("-add-fd", format!("fd={},set=3", fd::CONFIG));
        line.json(
            "-blockdev",
            json!({"driver": "file", "node-name": "config-file", "filename": "/dev/fdset/3", "read-only": true}),
        );
        line.json(
            "-blockdev",
            json!({"driver": "raw", "node-name": "config", "file": "config-file", "read-only": true}),
        );
        line.pair("-device", "virtio-blk-pci,drive=config,id=config-drive");
    }
}

fn cards(plan: &Plan<'_>, line: &mut Line) {
    for (index, (nic, behind)) in plan.spec.nics.iter().zip(&plan.cards).enumerate() {
        line.pair(
            "-netdev",
            match behind {
                Behind::Tap(fd) => format!("tap,id=net{index},fd={fd},vhost=off"),
                Behind::User(options) => format!("user,id=net{index}{options}"),
            },
        );
        // Without a boot ROM: nothing is ever booted from the network, and reading it costs time.
        line.pair("-device", format!("virtio-net-pci,netdev=net{index},mac={},host_mtu={},romfile=", nic.mac, nic.mtu));
    }
}

struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }
    fn pair(&mut self, name: &str, value: impl Into<String>) {
        self.0.extend([name.to_owned(), value.into()]);
    }
    fn json(&mut self, name: &str, value: serde_json::Value) {
        self.pair(name, value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_support::spec;

    fn text(plan: &Plan<'_>) -> String {
        let words = argv(plan);
        let mut text = String::new();
        for word in &words {
            text.push_str(if word.starts_with('-') && !text.is_empty() {
                "\n"
            } else if text.is_empty() {
                ""
            } else {
                " "
            });
            text.push_str(word);
        }
        text
    }

    #[test]
    fn the_whole_line_under_tcg_with_a_tap_and_a_config_drive() {
        let spec = spec();
        let plan = Plan {
            spec: &spec,
            run: Run(7),
            accel: Accel::Tcg,
            config_drive: true,
            cards: vec![Behind::Tap(fd::TAPS)],
        };
        assert_eq!(
            text(&plan),
            r#"-name guest=6d1f3c58-5a1c-4c9b-8f0e-0a5d1c2b3e4f-run-7
-uuid 6d1f3c58-5a1c-4c9b-8f0e-0a5d1c2b3e4f
-nodefaults
-no-user-config
-display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-machine pc,usb=off,dump-guest-core=off
-accel tcg,thread=multi,tb-size=128
-cpu max
-smp 1
-m 128M
-rtc base=utc
-device virtio-rng-pci
-add-fd fd=8,set=1
-add-fd fd=9,set=2
-blockdev {"driver":"file","filename":"/dev/fdset/2","node-name":"base-file","read-only":true}
-blockdev {"backing":null,"driver":"qcow2","file":"base-file","node-name":"base","read-only":true}
-blockdev {"discard":"unmap","driver":"file","filename":"/dev/fdset/1","node-name":"disk-file"}
-blockdev {"backing":"base","discard":"unmap","driver":"qcow2","file":"disk-file","node-name":"disk"}
-device virtio-blk-pci,drive=disk,id=root,bootindex=1
-add-fd fd=10,set=3
-blockdev {"driver":"file","filename":"/dev/fdset/3","node-name":"config-file","read-only":true}
-blockdev {"driver":"raw","file":"config-file","node-name":"config","read-only":true}
-device virtio-blk-pci,drive=config,id=config-drive
-netdev tap,id=net0,fd=11,vhost=off
-device virtio-net-pci,netdev=net0,mac=fa:16:3e:00:00:01,host_mtu=1500,romfile=
-add-fd fd=6,set=4
-chardev file,id=console,path=/dev/fdset/4,append=on
-serial chardev:console
-chardev socket,id=monitor,fd=7,server=on,wait=off
-mon chardev=monitor,mode=control"#
        );
    }

    #[test]
    fn kvm_raw_images_and_user_mode_cards_change_only_their_own_parts() {
        let mut spec = spec();
        spec.image.format = ImageFormat::Raw;
        let cards = vec![Behind::User(",net=10.0.0.0/24".into())];
        let line = text(&Plan { spec: &spec, run: Run(1), accel: Accel::Kvm, config_drive: false, cards });
        for part in [
            "-accel kvm\n-cpu host\n",
            "{\"driver\":\"raw\",\"file\":\"base-file\"",
            "-netdev user,id=net0,net=10.0.0.0/24\n",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(!line.contains("config-drive") && !line.contains("tcg"));
    }

    #[test]
    fn a_marker_names_its_run_and_nothing_else_does() {
        let spec = spec();
        assert_eq!(parse_marker(&marker(spec.id, Run(41))), Some((spec.id, Run(41))));
        for other in ["guest=vm1", "guest=6d1f3c58-5a1c-4c9b-8f0e-0a5d1c2b3e4f-run-", "guest=x-run-1", ""] {
            assert_eq!(parse_marker(other), None);
        }
    }
}
