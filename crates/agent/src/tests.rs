//! A whole agent over a real log: orders through the guard, deaths of the process, coordinators that come and go.
//!
//! A process is a runtime of its own; its death is the end of that runtime, in which nothing is told to anybody.

mod cell;

use std::sync::Arc;

use driver::{Observed, Run, StopCause};
use driver_fake::{Fault, Operation};
use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::agent::v1::perform_request::Act;
use proto::agent::v1::{
    ApplyNetworksRequest, Destroy, GuestState, ListGuestsRequest, NetworkState, PerformResponse, ReadConsoleRequest,
    Snapshot,
};
use rpc::{Error, Verdict};

use cell::{Cell, Process, build, guest, network, order};

fn perform(process: &Process, node: usize, step: u64, number: u128, act: Act) -> Result<PerformResponse, Error> {
    let mut client = AgentServiceClient::new(process.channel(node));
    let request = order(step, number, act);
    process.run(async move { client.perform(request).await.map(tonic::Response::into_inner).map_err(Error::from) })
}

fn running(run: u64) -> PerformResponse {
    PerformResponse { state: GuestState::Running.into(), run }
}

#[test]
fn an_order_is_done_once_and_remembered_by_the_next_process() {
    let cell = Cell::new();
    let process = cell.start(&["n1", "n2"]);
    assert_eq!(perform(&process, 0, 1, 11, build(11)), Ok(running(1)));
    assert_eq!(perform(&process, 1, 2, 12, build(12)), Ok(running(1)));
    process.kill();

    let process = cell.start(&["n1", "n2"]);
    assert_eq!(perform(&process, 0, 1, 11, build(11)), Ok(running(1)), "the same order has the same answer");
    assert_eq!(cell.machine.guests("n1").into_iter().collect::<Vec<_>>(), [(guest(11), Observed::Running(Run(1)))]);
    assert_eq!(cell.machine.calls(Operation::Start), 2, "and nothing was done for it");
    let mut client = AgentServiceClient::new(process.channel(0));
    let list = process.run(async move { client.list_guests(ListGuestsRequest {}).await }).unwrap().into_inner();
    assert_eq!(list.guests.iter().map(|guest| (guest.run, guest.known)).collect::<Vec<_>>(), [(1, true)]);

    let destroy = Act::Destroy(Destroy { networks: vec![network().id] });
    let absent = PerformResponse { state: GuestState::Absent.into(), run: 0 };
    assert_eq!(perform(&process, 0, 3, 11, destroy), Ok(absent));
    assert!(cell.machine.guests("n1").is_empty() && cell.machine.networks("n1").is_empty());
    assert_eq!(cell.machine.guests("n2").len(), 1, "the other node of the process is another node");
}

#[test]
fn a_process_that_dies_within_a_build_goes_on_with_it() {
    let cell = Cell::new();
    cell.machine.faults(|faults| faults.fail(Operation::Start, Fault::Hang, 1));
    let process = cell.start(&["n1"]);
    let mut client = AgentServiceClient::new(process.channel(0));
    process.runtime().spawn(async move { client.perform(order(1, 11, build(11))).await });
    cell.until(|| cell.machine.calls(Operation::Start) == 1, "the guest is being started");
    process.kill();

    let process = cell.start(&["n1"]);
    // Nobody asks: what had begun is done.
    cell.until(|| cell.machine.guests("n1").get(&guest(11)) == Some(&Observed::Running(Run(2))), "the guest runs");
    assert_eq!(perform(&process, 0, 1, 11, build(11)), Ok(running(2)));
    assert_eq!(cell.machine.ran_twice(), []);
}

#[test]
fn what_cannot_be_says_why_and_leaves_nothing() {
    let cell = Cell::new();
    let process = cell.start(&["n1"]);
    cell.machine.faults(|faults| faults.disk_full = true);
    let refused = perform(&process, 0, 1, 11, build(11)).unwrap_err();
    assert_eq!((refused.verdict, refused.reason.as_str()), (Verdict::No, "no space left on the node's disk"));
    assert!(cell.machine.guests("n1").is_empty() && cell.machine.networks("n1").is_empty());

    cell.machine.faults(|faults| faults.disk_full = false);
    let mut nonsense = order(2, 12, build(12));
    nonsense.guest = bytes::Bytes::from_static(b"short");
    let mut client = AgentServiceClient::new(process.channel(0));
    let error = process.run(async move { client.perform(nonsense).await }).unwrap_err();
    assert_eq!(Error::from(error).verdict, Verdict::No);
}

#[test]
fn a_node_attends_again_and_reports_until_it_is_heard() {
    let cell = Cell::new();
    let process = cell.start(&["n1"]);
    assert_eq!(perform(&process, 0, 1, 11, build(11)), Ok(running(1)));
    cell.until(|| cell.seen.attended("n1") == 1, "it attends");
    cell.seen.hang_up();
    cell.until(|| cell.seen.attended("n1") == 2, "it attends again, and tells what is there");
    assert_eq!(cell.seen.last_attendance().guests.len(), 1);

    cell.seen.refuse_reports(3);
    assert!(cell.machine.end("n1", guest(11), StopCause::PoweredOff));
    cell.until(|| !cell.seen.reports().is_empty(), "the end is reported");
    let report = cell.seen.reports().remove(0);
    assert_eq!(
        (report.state(), report.run, report.cause.as_str()),
        (GuestState::Stopped, 1, "the guest powered itself off")
    );
    process.kill();
    let process = cell.start(&["n1"]);
    process.run(process.node(0).ready());
    cell.until(|| cell.seen.attended("n1") == 3, "it attends");
    assert_eq!(cell.seen.reports().len(), 1, "what was heard is not told again");
}

#[test]
fn a_log_that_grows_is_rewritten_and_loses_nothing() {
    let cell = Cell::new();
    let process = cell.start(&["n1", "n2"]);
    let (rounds, guests) = (10, 40);
    for round in 0..rounds {
        let builds: Vec<_> = (0..guests)
            .map(|number| {
                let mut client = AgentServiceClient::new(process.channel(0));
                let order = order(round * 1000 + number, u128::from(number) + 10, build(u128::from(number) + 10));
                process.runtime().spawn(async move { client.perform(order).await })
            })
            .collect();
        process.run(async {
            for build in builds {
                build.await.unwrap().unwrap();
            }
        });
        for number in 0..guests - 2 {
            let destroy = Act::Destroy(Destroy { networks: Vec::new() });
            perform(&process, 0, round * 1000 + 500 + number, u128::from(number) + 10, destroy).unwrap();
        }
    }
    let bytes = std::fs::metadata(cell.log_path()).unwrap().len();
    let written = rounds * guests * cell::USER_DATA_BYTES as u64;
    assert!(bytes < written / 2, "{bytes} bytes are left of at least {written}");
    process.kill();
    // A node that is not started is kept through rewrites too: n1 only.
    let process = cell.start(&["n1"]);
    process.run(process.node(0).ready());
    assert_eq!(process.node(0).notes().len(), 2);
    assert_eq!(cell.machine.ran_twice(), []);
}

#[test]
fn networks_are_told_of_without_an_order_and_remembered() {
    let cell = Cell::new();
    let process = cell.start(&["n1"]);
    let apply = |process: &Process, revision| {
        let mut client = AgentServiceClient::new(process.channel(0));
        let newer = NetworkState { revision, name: format!("net {revision}"), ..network() };
        let request = ApplyNetworksRequest { networks: vec![newer], ..ApplyNetworksRequest::default() };
        process.run(async move { client.apply_networks(request).await })
    };
    apply(&process, 2).unwrap();
    assert!(cell.machine.networks("n1").is_empty(), "no guest is on it");
    perform(&process, 0, 1, 11, build(11)).unwrap();
    cell.machine.faults(|faults| faults.fail(Operation::Network, Fault::Failed("busy".into()), 1));
    assert_eq!(Error::from(apply(&process, 3).unwrap_err()).verdict, Verdict::Unknown);
    apply(&process, 3).unwrap();
    process.kill();
    cell.machine.boot("n1");
    let _process = cell.start(&["n1"]);
    cell.until(|| cell.machine.networks("n1").len() == 1, "the network is made again after a boot");
}

#[test]
fn images_are_fetched_and_verified_and_snapshots_uploaded() {
    let cell = Cell::on_disk();
    let process = cell.start(&["n1"]);
    cell.seen.hold(b"abd");
    let refused = perform(&process, 0, 1, 11, build(11)).unwrap_err();
    assert!(refused.reason.contains("corrupt"), "{refused}");
    cell.seen.hold(b"longer than it says");
    let refused = perform(&process, 0, 2, 11, build(11)).unwrap_err();
    assert!(refused.reason.contains("corrupt"), "{refused}");
    cell.seen.hold(b"");
    let refused = perform(&process, 0, 3, 11, build(11)).unwrap_err();
    assert!(refused.reason.contains("no such image"), "{refused}");
    cell.seen.hold(b"abc");
    assert!(perform(&process, 0, 4, 11, build(11)).is_ok());

    let image = bytes::Bytes::from_static(&[7; 16]);
    let snapshot = Act::Snapshot(Snapshot { image: image.clone() });
    assert!(perform(&process, 0, 5, 11, snapshot).is_ok());
    let uploads = cell.seen.uploads();
    assert_eq!(
        uploads.iter().map(|(id, content)| (id, &content[..4])).collect::<Vec<_>>(),
        [(&image, &b"QFI\xfb"[..])]
    );
    assert_eq!(std::fs::read_dir(cell.scratch()).unwrap().count(), 0, "nothing is left of it");

    let mut client = AgentServiceClient::new(process.channel(0));
    let request =
        ReadConsoleRequest { guest: bytes::Bytes::copy_from_slice(guest(11).as_uuid().as_bytes()), bytes_max: 12 };
    let text = process.run(async move { client.read_console(request).await }).unwrap().into_inner().text;
    assert_eq!(text, "fake login: ");
}

#[test]
fn a_disk_that_an_earlier_run_exported_is_removed() {
    let cell = Cell::new();
    let left = cell.scratch().join("snapshot-left");
    std::fs::create_dir_all(cell.scratch()).unwrap();
    std::fs::write(&left, b"half a disk").unwrap();
    let _process = cell.start(&["n1"]);
    assert!(!left.exists(), "nobody would ever ask for it again");
}

#[test]
fn nodes_are_shared_and_sendable() {
    fn check<T: Send + Sync>(_: Option<Arc<T>>) {}
    check::<crate::Node>(None);
    check::<crate::Journal>(None);
}
