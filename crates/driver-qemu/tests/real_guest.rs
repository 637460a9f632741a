//! A real guest from its image to nothing: the whole life through the public API, with the agent replaced in between.
//!
//! Needs QEMU and the guest image `tiny`; both are told in the failure text if they are missing.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use driver::{
    Driver, DriverError, GuestId, GuestSpec, ImageFormat, ImageRef, ImageSource, NetworkId, NetworkSpec, NetworkState,
    Nic, Observed, PortId, PortState, Run, StopCause, Subnet, Watcher,
};
use driver_qemu::{Config, Networking, QemuDriver, Share, Tools};
use world::World;

const BOOT: Duration = Duration::from_secs(60);

struct File(PathBuf);

#[async_trait]
impl ImageSource for File {
    async fn fetch(&self, _: &ImageRef, into: &Path) -> Result<(), DriverError> {
        std::fs::copy(&self.0, into).map(drop).map_err(|error| DriverError::Failed(error.to_string()))
    }
}

struct Heard(tokio::sync::mpsc::UnboundedSender<(GuestId, Run, StopCause)>);

impl Watcher for Heard {
    fn ended(&self, guest: GuestId, run: Run, cause: StopCause) {
        self.0.send((guest, run, cause)).unwrap();
    }
}

/// The image `tiny`, as the chores of the repository build it.
fn tiny() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guest/tiny.qcow2");
    let path = std::env::var_os("MAINSTAY_TINY").map_or(built, PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: build it with `cargo xtask guest-image`, or name one in MAINSTAY_TINY",
        path.display()
    );
    path
}

fn describe(path: &Path) -> ImageRef {
    let bytes = std::fs::read(path).unwrap();
    ImageRef {
        sha256: hex::encode(ring::digest::digest(&ring::digest::SHA256, &bytes)),
        format: ImageFormat::Qcow2,
        size_bytes: bytes.len() as u64,
        virtual_size_bytes: u64::from_be_bytes(bytes[24..32].try_into().unwrap()),
    }
}

fn spec(world: &World, image: ImageRef) -> (GuestSpec, NetworkState) {
    let id = GuestId::random(world);
    let nic = Nic {
        port: PortId::random(world),
        network: NetworkId::random(world),
        mac: "fa:16:3e:00:00:01".into(),
        mtu: 1500,
    };
    let itself = NetworkSpec {
        id: nic.network,
        name: "net".into(),
        mtu: 1500,
        subnets: vec![Subnet {
            cidr: "10.9.0.0/24".parse().unwrap(),
            gateway: Some("10.9.0.1".parse().unwrap()),
            dhcp: true,
            dns: Vec::new(),
            routes: Vec::new(),
        }],
        routers: Vec::new(),
        host_access: false,
        host_address: None,
    };
    let port = PortState {
        id: nic.port,
        network: nic.network,
        guest: id,
        mac: nic.mac.clone(),
        addresses: vec!["10.9.0.5/24".parse().unwrap()],
        allowed_pairs: Vec::new(),
        host_name: "named-by-drive".into(),
        secured: true,
        rules: Vec::new(),
        metadata: driver::Documents::default(),
    };
    let network =
        NetworkState { version: 1, spec: Arc::new(itself), ports: vec![Arc::new(port)], groups: BTreeMap::new() };
    let spec = GuestSpec {
        id,
        name: "one".into(),
        vcpus: 1,
        memory_mib: 128,
        disk_gib: 1,
        image,
        nics: vec![nic],
        meta_data: format!(r#"{{"uuid": "{id}", "hostname": "named-by-drive", "name": "named-by-drive"}}"#),
        network_data: "{}".into(),
        user_data: b"#!/bin/sh\nip -4 addr show | sed -n 's/.*inet 10.9/address: 10.9/p' > /dev/ttyS0\n".to_vec(),
        config_drive: true,
    };
    (spec, network)
}

async fn open(world: &World, dir: &Path, networking: Networking) -> QemuDriver {
    let config = Config {
        state_dir: dir.to_path_buf(),
        boot_id: "a boot".into(),
        tools: Tools::default(),
        networking,
        share: Share::default(),
    };
    QemuDriver::open(world.clone(), config).await.unwrap()
}

async fn wait_for_console(world: &World, driver: &QemuDriver, guest: GuestId, text: &str) {
    let seen = async {
        while !driver.console(guest, 1 << 20).await.unwrap().contains(text) {
            world.sleep(Duration::from_millis(50)).await;
        }
    };
    if world.timeout(BOOT, seen).await.is_err() {
        panic!("no {text:?} on the console: {}", driver.console(guest, 4000).await.unwrap());
    }
}

/// Command lines and users of all processes that name the guest.
fn processes(guest: GuestId) -> Vec<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let marker = format!("guest={guest}-run-");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&marker) {
            found.push((entry.file_name().to_str().unwrap().parse().unwrap(), entry.metadata().unwrap().uid()));
        }
    }
    found
}

/// Ends the guest's process if the test does not come to it.
struct Cleanup(GuestId);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for (pid, _) in processes(self.0) {
            let process = rustix::process::Pid::from_raw(pid as i32).unwrap();
            let _it_may_have_ended = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
}

/// The tag of this test's devices on the node.
const TAG: &str = "qdrv";

/// What a node has: its own networks as root, QEMU's without.
fn networking() -> Networking {
    if root() { Networking::Node(node_net::Config { tag: TAG.into(), node: None }) } else { Networking::User }
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_boots_outlives_its_agent_is_exported_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = world::os::OsHost::world(tokio::runtime::Handle::current(), dir.path());
    let source = File(tiny());
    let (spec, network) = spec(&world, describe(&source.0));
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let guest = spec.id;
    let _cleanup = Cleanup(guest);
    if root() {
        node_net::destroy_all(TAG).unwrap();
    }

    // The first agent builds and starts it; each step a second time changes nothing.
    let agent = open(&world, dir.path(), networking()).await;
    agent.watch(Arc::new(Heard(told.clone())));
    agent.ensure_network(&network).await.unwrap();
    for _ in 0..2 {
        agent.ensure_prepared(&spec, &source).await.unwrap();
    }
    for _ in 0..2 {
        agent.ensure_running(&spec, Run(1)).await.unwrap();
    }
    let before = processes(guest);
    assert_eq!(before.len(), 1, "one process to a guest");
    assert!(!root() || before[0].1 >= 2_000_000_000, "it runs under a user of its own");

    // Another takes over while it boots, and finds the same process.
    drop(agent);
    let agent = open(&world, dir.path(), networking()).await;
    agent.watch(Arc::new(Heard(told.clone())));
    agent.ensure_network(&network).await.unwrap();
    let found = agent.find().await.unwrap();
    assert_eq!((found.len(), found[0].guest, found[0].observed), (1, guest, Observed::Running(Run(1))));
    agent.ensure_running(&spec, Run(1)).await.unwrap();
    assert!(
        matches!(agent.ensure_running(&spec, Run(0)).await, Err(DriverError::Refused(_))),
        "an earlier run is over"
    );
    wait_for_console(&world, &agent, guest, "address: 10.9.0.5").await;
    wait_for_console(&world, &agent, guest, "named-by-drive login:").await;
    assert_eq!(processes(guest), before);

    agent.ensure_paused(guest, true).await.unwrap();
    assert_eq!(agent.find().await.unwrap()[0].observed, Observed::Paused(Run(1)));
    let export = dir.path().join("export.qcow2");
    agent.export_disk(guest, &export).await.unwrap();
    agent.ensure_paused(guest, false).await.unwrap();
    let exported = describe(&export);
    assert_eq!(exported.virtual_size_bytes, 1 << 30);
    assert!(
        exported.size_bytes > spec.image.size_bytes / 2 && exported.size_bytes < 300 << 20,
        "{} bytes",
        exported.size_bytes
    );

    // It is stopped by its power button, which is no news for the watcher; killed from outside, it is.
    agent.ensure_stopped(guest, Some(Duration::from_secs(30))).await.unwrap();
    assert_eq!(processes(guest), []);
    assert_eq!(agent.find().await.unwrap()[0].observed, Observed::Stopped);
    assert!(agent.console(guest, 4096).await.unwrap().contains("Power down"), "its system did it itself");
    agent.ensure_running(&spec, Run(2)).await.unwrap();
    let process = rustix::process::Pid::from_raw(processes(guest)[0].0 as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    let news = world.timeout(Duration::from_secs(1), heard.recv()).await.unwrap().unwrap();
    assert_eq!(news, (guest, Run(2), StopCause::Died("its QEMU process was killed by signal 9".into())));

    for _ in 0..2 {
        agent.ensure_absent(guest).await.unwrap();
    }
    agent.ensure_no_network(network.spec.id).await.unwrap();
    assert_eq!(agent.find().await.unwrap(), []);
    assert_eq!(std::fs::read_dir(dir.path().join("guests")).unwrap().count(), 0);
    let groups = ["", "memory/", "cpu/", "pids/", "unified/"]
        .map(|part| PathBuf::from(format!("/sys/fs/cgroup/{part}mainstay/{guest}")));
    assert!(groups.iter().all(|group| !group.exists()), "no control group is left");
    assert!(heard.try_recv().is_err(), "nothing else was told");
}

#[tokio::test]
async fn a_guest_that_powers_itself_off_is_told_at_once_and_one_that_will_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let world = world::os::OsHost::world(tokio::runtime::Handle::current(), dir.path());
    let source = File(tiny());
    let (mut spec, network) = spec(&world, describe(&source.0));
    let _cleanup = Cleanup(spec.id);
    spec.user_data = [&spec.user_data[..], b"echo off it goes > /dev/ttyS0\npoweroff\n"].concat();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let agent = open(&world, dir.path(), Networking::User).await;
    agent.watch(Arc::new(Heard(told)));
    agent.ensure_network(&network).await.unwrap();
    let unprepared = agent.ensure_running(&spec, Run(1)).await;
    assert!(matches!(&unprepared, Err(DriverError::Failed(text)) if text.contains("not prepared")), "{unprepared:?}");

    agent.ensure_prepared(&spec, &source).await.unwrap();
    let mac = std::mem::replace(&mut spec.nics[0].mac, "not a mac".into());
    match agent.ensure_running(&spec, Run(1)).await {
        Err(DriverError::Refused(text)) => assert!(text.contains("mac"), "{text}"),
        other => panic!("{other:?}"),
    }
    spec.nics[0].mac = mac;
    agent.ensure_running(&spec, Run(2)).await.unwrap();
    let news = world.timeout(BOOT, heard.recv()).await.unwrap().unwrap();
    assert_eq!(news, (spec.id, Run(2), StopCause::PoweredOff));
    let console = agent.console(spec.id, 1 << 20).await.unwrap();
    assert!(console.contains("address: 10.9.0.5") && console.contains("off it goes"), "{console}");
    assert_eq!(agent.find().await.unwrap()[0].observed, Observed::Stopped);

    let export = dir.path().join("export.qcow2");
    agent.export_disk(spec.id, &export).await.unwrap();
    assert!(describe(&export).size_bytes > spec.image.size_bytes / 2);
    agent.ensure_absent(spec.id).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("guests")).unwrap().count(), 0);
}

/// One agent after the other is killed while it starts the guest; each time the next one finds what is there, goes on
/// from it, and there is exactly one process.
#[test]
fn agents_that_are_killed_while_they_start_a_guest_never_start_two() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let (Ok(dir), Ok(run)) = (std::env::var("KILLED_AGENT_DIR"), std::env::var("KILLED_AGENT_RUN")) {
        return runtime.block_on(agent_to_be_killed(Path::new(&dir), Run(run.parse().unwrap())));
    }
    let dir = tempfile::tempdir().unwrap();
    let world = world::os::OsHost::world(runtime.handle().clone(), dir.path());
    let (spec, network) = spec(&world, describe(&tiny()));
    let _cleanup = Cleanup(spec.id);
    std::fs::write(dir.path().join("ids"), format!("{} {} {}", spec.id, spec.nics[0].port, spec.nics[0].network))
        .unwrap();
    let mut found = Vec::new();
    for (run, delay_ms) in (1..).zip([30, 60, 100, 150, 200, 250, 300, 400, 600]) {
        let mut agent = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "agents_that_are_killed_while_they_start_a_guest_never_start_two"])
            .env("KILLED_AGENT_DIR", dir.path())
            .env("KILLED_AGENT_RUN", run.to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        runtime.block_on(world.sleep(Duration::from_millis(delay_ms)));
        agent.kill().unwrap();
        agent.wait().unwrap();
        runtime.block_on(async {
            let agent = open(&world, &dir.path().join("state"), Networking::User).await;
            found.push(agent.find().await.unwrap().first().map(|one| one.observed));
            agent.ensure_network(&network).await.unwrap();
            agent.ensure_prepared(&spec, &File(tiny())).await.unwrap();
            agent.ensure_running(&spec, Run(run)).await.unwrap();
            assert_eq!(processes(spec.id).len(), 1, "after {delay_ms} ms");
            // The last agent's orders still stand when the next one comes: odd runs go on running.
            if run % 2 == 0 {
                agent.ensure_stopped(spec.id, None).await.unwrap();
                assert_eq!(processes(spec.id), []);
            }
        });
    }
    println!("what was found after each kill: {found:?}");
    runtime.block_on(async {
        let agent = open(&world, &dir.path().join("state"), Networking::User).await;
        agent.ensure_absent(spec.id).await.unwrap();
        assert_eq!((processes(spec.id), agent.find().await.unwrap()), (vec![], vec![]));
    });
    assert!(found.iter().any(|one| matches!(one, Some(Observed::Running(_)))), "no kill came after a start: {found:?}");
}

async fn agent_to_be_killed(dir: &Path, run: Run) {
    let world = world::os::OsHost::world(tokio::runtime::Handle::current(), dir);
    let (mut spec, mut network) = spec(&world, describe(&tiny()));
    let ids = std::fs::read_to_string(dir.join("ids")).unwrap();
    let [guest, port, of] = ids.split(' ').collect::<Vec<_>>()[..] else { panic!("{ids}") };
    (spec.id, spec.nics[0].port, spec.nics[0].network) =
        (guest.parse().unwrap(), port.parse().unwrap(), of.parse().unwrap());
    let port = Arc::make_mut(&mut network.ports[0]);
    (port.network, port.id, port.guest) = (spec.nics[0].network, spec.nics[0].port, spec.id);
    Arc::make_mut(&mut network.spec).id = spec.nics[0].network;
    let agent = open(&world, &dir.join("state"), Networking::User).await;
    agent.ensure_network(&network).await.unwrap();
    agent.ensure_prepared(&spec, &File(tiny())).await.unwrap();
    agent.ensure_running(&spec, run).await.unwrap();
    std::future::pending::<()>().await;
}
