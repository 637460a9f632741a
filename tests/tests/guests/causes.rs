//! What can be wrong on a node or with an image: the server says what it is, and nothing of it stays. When it is right
//! again, so is the next server.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cell_tests::{Cell, Guests};

/// Room for the flavor, as the scheduler counts it. Only what is written takes memory.
const DISK_MIB: u64 = 3 << 10;

#[test]
fn what_is_wrong_on_a_node_is_named_and_leaves_nothing() {
    let mut cell = Cell::of_guests();
    cell.give_disk(DISK_MIB);
    let broken = wrapper(&mut cell);
    let mut guests = Guests::start(cell);

    // The node's disk is full before the image is there.
    let disk = guests.cell.disk();
    disk.resize(disk.used_mebibytes() + 100);
    fails(&mut guests, "no image fits", &["no space left on the node's disk"]);
    guests.cell.disk().resize(DISK_MIB);

    let blob = only_file_in(&guests.cell.path("images/blobs"));
    let beside = guests.cell.dir().join("blob");
    std::fs::rename(&blob, &beside).expect("the image's content can be taken away");
    fails(&mut guests, "no image", &["image", "no blob"]);
    let whole = std::fs::read(&beside).expect("the image's content");
    std::fs::write(&blob, flipped(&whole)).expect("the image's content can be damaged");
    fails(&mut guests, "corrupt image", &["image is corrupt", "SHA-256"]);
    std::fs::write(&blob, &whole).expect("the image's content can be put back");

    std::fs::write(&broken, b"").expect("the test's own file");
    fails(&mut guests, "no QEMU", &["QEMU did not start", "this QEMU is broken"]);
    std::fs::remove_file(&broken).expect("the test's own file");

    // Nothing is wrong any more.
    let (first, status, fault) = guests.try_create("works");
    assert_eq!(status, "ACTIVE", "{fault}");
    guests.machine.process(&first);
    guests.delete(&first);
    guests.leaves_nothing();

    // The node's own copy of the image has been damaged since it was verified.
    let cached = guests.machine.node().join("images").join(blob.file_name().expect("a blob has a name"));
    assert!(std::fs::read(&cached).expect("the node keeps the image") == whole);
    std::fs::write(&cached, flipped(&whole)).expect("the node's copy can be damaged");
    let (second, status, fault) = guests.try_create("fetched again");
    assert_eq!(status, "ACTIVE", "{fault}");
    assert!(std::fs::read(&cached).expect("the node keeps the image") == whole, "the damaged copy was fetched again");
    guests.delete(&second);
    guests.leaves_nothing();

    // The image is there, and not one byte fits beside it.
    let disk = guests.cell.disk();
    disk.resize(disk.used_mebibytes());
    std::fs::write(guests.machine.node().join("filler"), vec![1; 8 << 20]).expect_err("the disk is full");
    fails(&mut guests, "no disk fits", &["node's disk", "full"]);
    std::fs::remove_file(guests.machine.node().join("filler")).expect("the test's own file");
    guests.cell.disk().resize(DISK_MIB);
    let (_, status, fault) = guests.try_create("has room again");
    assert_eq!(status, "ACTIVE", "{fault}");
    guests.end_empty();
}

/// A server is created, fails for a reason that has all these words, and holds nothing but its place in the quota.
fn fails(guests: &mut Guests, name: &str, words: &[&str]) {
    let (id, status, fault) = guests.try_create(name);
    println!("{name}: {status}: {fault}");
    assert_eq!(status, "ERROR", "{name}");
    let missing: Vec<_> = words.iter().filter(|word| !fault.contains(**word)).collect();
    assert!(missing.is_empty(), "{name}: the fault does not say {missing:?}: {fault}");
    guests.leaves_nothing();
    assert_eq!((guests.usages(), guests.limits()[0]), ([0, 0, 0], 1), "{name}");
    guests.delete(&id);
    assert_eq!(guests.limits(), [0, 0, 0], "{name}");
}

/// A QEMU that does not start while the file that is returned is there.
fn wrapper(cell: &mut Cell) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64"));
    let real = places.find(|place| place.exists()).expect("QEMU is installed");
    let (dir, broken) = (cell.dir().join("bin"), cell.dir().join("broken"));
    std::fs::create_dir(&dir).expect("a directory of the test's own");
    let text = format!(
        "#!/bin/sh\nif [ -e {} ] && [ \"$1\" != --version ]; then\n    echo this QEMU is broken >&2\n    exit 1\nfi\n\
         exec {} \"$@\"\n",
        broken.display(),
        real.display()
    );
    let program = dir.join("qemu-system-x86_64");
    std::fs::write(&program, text).expect("the test's own file");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("the test's own file");
    cell.search_first(&dir);
    broken
}

fn only_file_in(dir: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        std::fs::read_dir(dir).expect("the directory is there").flatten().map(|entry| entry.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// The same with some bytes in the middle turned over.
fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let middle = changed.len() / 2;
    changed[middle..middle + 16].iter_mut().for_each(|byte| *byte = !*byte);
    changed
}
