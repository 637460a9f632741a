//! Whole files go through one `check`; the real tool provides good ones where it is installed.

use proptest::prelude::*;

use super::{Check, Refusal, Step};
use crate::image::DiskFormat;

/// The verdict over a whole file, and how many bytes were read for it.
fn run(format: DiskFormat, file: &[u8]) -> (Result<u64, Refusal>, u64) {
    let (mut check, mut read) = (Check::new(format, file.len() as u64), 0);
    loop {
        match check.wants() {
            Ok(Step::Accepted(facts)) => return (Ok(facts.virtual_bytes), read),
            Ok(Step::Read(range)) => {
                assert!(!range.is_empty() && range.end <= file.len() as u64 && range.end - range.start <= 2 << 20);
                read += range.end - range.start;
                let wanted = &file[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
                if let Err(refusal) = check.feed(wanted) {
                    return (Err(refusal), read);
                }
            }
            Err(refusal) => return (Err(refusal), read),
        }
    }
}

fn check(format: DiskFormat, file: &[u8], expected: &str) {
    let verdict = match run(format, file).0 {
        Ok(bytes) => format!("disk of {bytes} bytes"),
        Err(refusal) => refusal.to_string(),
    };
    assert!(verdict.contains(expected), "{verdict:?} should contain {expected:?}");
}

const CLUSTER: usize = 4096;

/// A small qcow2 of six clusters: header, reference count table and block, L1, L2, one cluster of data.
fn small() -> Vec<u8> {
    let mut file = vec![0; 6 * CLUSTER];
    put(&mut file, 0, b"QFI\xfb");
    put(&mut file, 4, &3_u32.to_be_bytes());
    put(&mut file, 20, &12_u32.to_be_bytes());
    put(&mut file, 24, &(1_u64 << 20).to_be_bytes());
    put(&mut file, 36, &1_u32.to_be_bytes());
    put(&mut file, 40, &(3 * CLUSTER as u64).to_be_bytes());
    put(&mut file, 48, &(CLUSTER as u64).to_be_bytes());
    put(&mut file, 56, &1_u32.to_be_bytes());
    put(&mut file, 96, &4_u32.to_be_bytes());
    put(&mut file, 100, &104_u32.to_be_bytes());
    put(&mut file, CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    put(&mut file, 3 * CLUSTER, &((1 << 63) | (4 * CLUSTER as u64)).to_be_bytes());
    put(&mut file, 4 * CLUSTER, &((1 << 63) | (5 * CLUSTER as u64)).to_be_bytes());
    file
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The small image with these bytes put at this place.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = small();
    put(&mut file, at, bytes);
    file
}

#[test]
fn a_sane_qcow2_is_taken() {
    check(DiskFormat::Qcow2, &small(), "disk of 1048576 bytes");
}

#[test]
fn a_raw_image_must_not_look_like_anything_else() {
    let refused = "said to be raw, but its bytes are";
    check(DiskFormat::Raw, b"anything at all", "disk of 15 bytes");
    check(DiskFormat::Raw, b"", "disk of 0 bytes");
    check(DiskFormat::Raw, &small(), refused);
    check(DiskFormat::Raw, b"KDMV\x01\0\0\0", refused);
    check(DiskFormat::Raw, b"# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0", refused);
    check(DiskFormat::Raw, &[[0_u8; 64].as_slice(), b"\x7f\x10\xda\xbe"].concat(), refused);
    check(DiskFormat::Raw, &[[7_u8; 4096].as_slice(), b"conectix", &[0; 504]].concat(), "VHD");
}

#[test]
fn a_qcow2_that_lies_or_leans_on_others_is_refused() {
    check(DiskFormat::Qcow2, b"", "does not begin with a qcow2 header");
    check(DiskFormat::Qcow2, &[0; 4096], "does not begin with a qcow2 header");
    check(DiskFormat::Qcow2, &with(4, &1_u32.to_be_bytes()), "version 1");
    check(DiskFormat::Qcow2, &with(8, &512_u64.to_be_bytes()), "backing file");
    check(DiskFormat::Qcow2, &with(16, &11_u32.to_be_bytes()), "backing file");
    check(DiskFormat::Qcow2, &with(32, &2_u32.to_be_bytes()), "encrypted");
    check(DiskFormat::Qcow2, &with(60, &1_u32.to_be_bytes()), "1 internal snapshots");
    check(DiskFormat::Qcow2, &with(72, &(1_u64 << 2).to_be_bytes()), "external file");
    check(DiskFormat::Qcow2, &with(72, &(1_u64 << 1).to_be_bytes()), "marked corrupt");
    check(DiskFormat::Qcow2, &with(72, &(1_u64 << 40).to_be_bytes()), "features that are not known");
    check(DiskFormat::Qcow2, &with(104, &[0x44, 0x41, 0x54, 0x41, 0, 0, 0, 8]), "external file");
    check(DiskFormat::Qcow2, &with(104, &[1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff]), "an extension does not end");
}

#[test]
fn a_qcow2_with_impossible_numbers_is_refused() {
    check(DiskFormat::Qcow2, &with(20, &8_u32.to_be_bytes()), "cluster size");
    check(DiskFormat::Qcow2, &with(20, &63_u32.to_be_bytes()), "cluster size");
    check(DiskFormat::Qcow2, &with(24, &0_u64.to_be_bytes()), "no bytes");
    check(DiskFormat::Qcow2, &with(24, &u64::MAX.to_be_bytes()), "at most");
    check(DiskFormat::Qcow2, &with(24, &(1_u64 << 40).to_be_bytes()), "does not cover the disk");
    check(DiskFormat::Qcow2, &with(36, &u32::MAX.to_be_bytes()), "larger than 32 MiB");
    check(DiskFormat::Qcow2, &with(40, &4097_u64.to_be_bytes()), "L1 table is not at the start");
    check(DiskFormat::Qcow2, &with(40, &(1_u64 << 50).to_be_bytes()), "L1 table reaches");
    check(DiskFormat::Qcow2, &with(56, &0_u32.to_be_bytes()), "impossible size");
    check(DiskFormat::Qcow2, &with(96, &7_u32.to_be_bytes()), "wider than 64 bits");
}

#[test]
fn tables_must_lie_inside_the_file_and_on_nothing_else() {
    let (l1, l2, refcounts) = (3 * CLUSTER, 4 * CLUSTER, CLUSTER);
    let cluster = |number: u64| (number * CLUSTER as u64).to_be_bytes();
    check(DiskFormat::Qcow2, &with(refcounts, &cluster(9)), "reference count block reaches");
    check(DiskFormat::Qcow2, &with(refcounts, &cluster(0).map(|_| 1)), "not at the start of a cluster");
    check(DiskFormat::Qcow2, &with(l1, &cluster(9)), "L2 table reaches");
    check(DiskFormat::Qcow2, &with(l1, &cluster(3)), "where something else lies already");
    check(DiskFormat::Qcow2, &with(l1, &1_u64.to_be_bytes()), "reserved bits");
    check(DiskFormat::Qcow2, &with(l2, &cluster(9)), "data reaches");
    check(DiskFormat::Qcow2, &with(l2, &cluster(4)), "where something else lies already");
    check(DiskFormat::Qcow2, &with(l2 + 8, &cluster(5)), "where something else lies already");
    check(
        DiskFormat::Qcow2,
        &with(l2, &((1_u64 << 62) | (6 * CLUSTER as u64)).to_be_bytes()),
        "compressed cluster reaches",
    );
    check(DiskFormat::Qcow2, &small()[..5 * CLUSTER + 100], "cut off: its data reaches");
}

proptest! {
    #[test]
    fn damage_is_judged_without_panic_and_within_the_file(
        damage in prop::collection::vec((0..6 * CLUSTER, any::<u64>(), 0..8_usize), 1..8),
        length in 0..=6 * CLUSTER,
    ) {
        let mut file = small();
        for (at, value, kind) in damage {
            // Mostly hit the places that mean something; mostly with numbers that could be offsets.
            let at = match kind { 0..3 => at % 112, 3 => CLUSTER + at % 64, 4 => 3 * CLUSTER + at % 8, 5 => 4 * CLUSTER + at % 512, _ => at };
            let value = if kind % 2 == 0 { value } else { (value % 8) * CLUSTER as u64 };
            for (offset, byte) in value.to_be_bytes().into_iter().enumerate() {
                if let Some(there) = file.get_mut(at + offset) { *there = byte; }
            }
        }
        file.truncate(length);
        let (_, read) = run(DiskFormat::Qcow2, &file);
        // Each cluster is read once, and the first one up to three times (header, extensions, and once by itself).
        prop_assert!(read <= file.len() as u64 * 2 + 112);
    }
}

/// Runs the real tool, of the Debian package qemu-utils.
fn qemu_img(dir: &std::path::Path, script: &[&[&str]]) {
    for arguments in script {
        let output = std::process::Command::new("qemu-img").args(*arguments).current_dir(dir).output();
        let output = output.expect("qemu-img is installed by the test command");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_qemu_img_writes_is_taken_and_half_of_it_is_not() {
    let dir = std::env::temp_dir().join(format!("mainstay-format-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    // Data, holes, and an odd end: 3 MiB and 1,536 bytes.
    let mut seed = 1_u32;
    let mut raw: Vec<u8> = (0..(3 << 20) + 1536)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .collect();
    raw[200_000..900_000].fill(0);
    std::fs::write(dir.join("raw"), &raw).unwrap();
    let options = [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=2M",
        "extended_l2=on",
        "lazy_refcounts=on",
        "preallocation=metadata",
        "preallocation=full",
        "refcount_bits=1",
        "refcount_bits=64",
        "compression_type=zstd",
    ];
    for option in options {
        for compressed in [&[][..], &["-c"][..]] {
            if !compressed.is_empty() && option.starts_with("preallocation") {
                continue;
            }
            let convert: Vec<&str> =
                [&["convert", "-f", "raw", "-O", "qcow2", "-o", option][..], compressed, &["raw", "q"][..]].concat();
            let create = ["create", "-q", "-f", "qcow2", "-o", option, "fresh", "70000000000"];
            let create: &[&str] =
                if option == "preallocation=full" || option == "cluster_size=512" { &["--version"] } else { &create };
            qemu_img(&dir, &[&convert, create]);
            let file = std::fs::read(dir.join("q")).unwrap();
            eprintln!("{option} {compressed:?}: {} bytes", file.len());
            check(DiskFormat::Qcow2, &file, &format!("disk of {} bytes", raw.len()));
            let half = run(DiskFormat::Qcow2, &file[..file.len() / 2]).0;
            assert!(matches!(half, Err(Refusal::Truncated { .. })), "{option}: {half:?}");
            check(DiskFormat::Raw, &file, "qcow2");
            if create.len() > 1 && option != "preallocation=metadata" {
                check(DiskFormat::Qcow2, &std::fs::read(dir.join("fresh")).unwrap(), "disk of 70000000000 bytes");
            }
        }
    }
    let secrets: &[&[&str]] = &[
        &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "raw", "overlay"],
        &["create", "-q", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "external", "1M"],
        &["create", "-q", "-f", "vmdk", "vmdk", "1M"],
        &["create", "-q", "-f", "vdi", "vdi", "1M"],
        &["create", "-q", "-f", "vpc", "vpc", "1M"],
        &["create", "-q", "-f", "vhdx", "vhdx", "1M"],
        &["create", "-q", "-f", "qcow2", "snap", "1M"],
        &["snapshot", "-c", "one", "snap"],
    ];
    qemu_img(&dir, secrets);
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    check(DiskFormat::Qcow2, &read("overlay"), "backing file");
    check(DiskFormat::Qcow2, &read("external"), "external file");
    check(DiskFormat::Qcow2, &read("snap"), "internal snapshots");
    for name in ["vmdk", "vdi", "vpc", "vhdx"] {
        check(DiskFormat::Raw, &read(name), "said to be raw");
        check(DiskFormat::Qcow2, &read(name), "does not begin with a qcow2 header");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
