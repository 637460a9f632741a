//! What a machine keeps, and what it loses.

use std::path::Path;
use std::sync::Arc;

use driver::{Driver, DriverError, GuestId, GuestSpec, ImageFormat, ImageRef, ImageSource, Observed, Run};
use ids::uuid::Uuid;
use world::World;

use crate::{FakeMachine, Fault, Operation};

/// SHA-256 of the three bytes `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

struct Holds(&'static [u8]);

#[async_trait::async_trait]
impl ImageSource for Holds {
    async fn fetch(&self, _image: &ImageRef, into: &Path) -> Result<(), DriverError> {
        std::fs::write(into, self.0).map_err(|error| DriverError::Failed(error.to_string()))
    }
}

fn guest(number: u128) -> GuestSpec {
    GuestSpec {
        id: GuestId::from_uuid(Uuid::from_u128(number)),
        name: "g".into(),
        vcpus: 1,
        memory_mib: 64,
        disk_gib: 1,
        image: ImageRef { sha256: ABC.into(), format: ImageFormat::Raw, size_bytes: 3, virtual_size_bytes: 512 },
        nics: Vec::new(),
        meta_data: String::new(),
        network_data: String::new(),
        user_data: Vec::new(),
        config_drive: false,
    }
}

fn world(dir: &Path) -> World {
    world::os::OsHost::world(tokio::runtime::Handle::current(), dir)
}

#[tokio::test]
async fn guests_outlive_the_process_and_not_the_boot() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path());
    let open = |boot: &str| FakeMachine::open(&world, &dir.path().join("fake"), boot).unwrap();
    let (one, two, three) = (guest(1), guest(2), guest(3));
    {
        let node = open("b1").driver("n1");
        for spec in [&one, &two, &three] {
            node.ensure_prepared(spec, &Holds(b"abc")).await.unwrap();
            node.ensure_running(spec, Run(7)).await.unwrap();
        }
        node.ensure_paused(two.id, true).await.unwrap();
        node.ensure_absent(three.id).await.unwrap();
    }
    // As a writer that died within a line leaves it.
    let book = dir.path().join("fake/guests");
    let text = std::fs::read_to_string(&book).unwrap() + &format!("n1 {} abs", one.id);
    std::fs::write(&book, text).unwrap();

    let seen: Vec<_> = open("b1").guests("n1").into_iter().collect();
    assert_eq!(seen, [(one.id, Observed::Running(Run(7))), (two.id, Observed::Paused(Run(7)))]);
    let seen: Vec<_> = open("b2").guests("n1").into_iter().collect();
    assert_eq!(seen, [(one.id, Observed::Stopped), (two.id, Observed::Stopped)]);
}

#[tokio::test]
async fn a_corrupt_image_is_refused_and_fetched_again_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let machine = FakeMachine::open(&world(dir.path()), &dir.path().join("fake"), "b").unwrap();
    let node = machine.driver("n1");
    let refused = node.ensure_prepared(&guest(1), &Holds(b"abd")).await.unwrap_err();
    assert!(matches!(&refused, DriverError::Refused(reason) if reason.contains("corrupt")), "{refused:?}");
    node.ensure_prepared(&guest(1), &Holds(b"abc")).await.unwrap();
}

#[tokio::test]
async fn faults_come_as_ordered_and_a_second_start_of_a_run_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let machine = FakeMachine::new(&world(dir.path()));
    let node: Arc<dyn Driver> = machine.driver("n1");
    let spec = guest(1);
    machine.faults(|faults| faults.fail(Operation::Start, Fault::DoneButFailed("late".into()), 1));
    node.ensure_prepared(&spec, &Holds(b"")).await.unwrap();
    assert_eq!(node.ensure_running(&spec, Run(1)).await, Err(DriverError::Failed("late".into())));
    node.ensure_running(&spec, Run(1)).await.unwrap();
    assert_eq!(machine.ran_twice(), [], "a guest that runs under its number is left");
    node.ensure_stopped(spec.id, None).await.unwrap();
    node.ensure_running(&spec, Run(1)).await.unwrap();
    assert_eq!(machine.ran_twice(), [(spec.id, Run(1))]);
}

#[test]
fn the_exported_disk_is_a_whole_qcow2() {
    let file = crate::qcow2::empty(crate::qcow2::EMPTY_DISK_BYTES);
    let word = |at: usize| u64::from_be_bytes(file[at..at + 8].try_into().unwrap());
    assert_eq!((&file[..4], word(24)), (&b"QFI\xfb"[..], 1 << 30));
    // Every structure that the header points to lies inside the file.
    for at in [40, 48, usize::try_from(word(48)).unwrap()] {
        assert!(word(at) > 0 && word(at) + 65536 <= file.len() as u64, "{at}");
    }
}
