//! The smallest honest qcow2: a disk of zeros, nothing allocated.

/// Size of the disk that an export describes.
pub(crate) const EMPTY_DISK_BYTES: u64 = 1024 * 1024 * 1024;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: usize = 1 << CLUSTER_BITS;
/// Bytes of disk that one entry of the first table stands for.
const L1_ENTRY_BYTES: u64 = (CLUSTER as u64 / 8) * CLUSTER as u64;

/// A version 3 file: header, table of reference counts, one block of them, first-level table; one cluster each.
pub(crate) fn empty(disk_bytes: u64) -> Vec<u8> {
    let mut file = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let l1_entries = u32::try_from(disk_bytes.div_ceil(L1_ENTRY_BYTES)).unwrap_or(u32::MAX);
    put(0, b"QFI\xfb");
    put(4, &3u32.to_be_bytes());
    put(20, &CLUSTER_BITS.to_be_bytes());
    put(24, &disk_bytes.to_be_bytes());
    put(36, &l1_entries.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1u32.to_be_bytes());
    // Reference counts of 2⁴ bits; the header is 104 bytes long.
    put(96, &4u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    (0..4).for_each(|cluster| put(2 * CLUSTER + 2 * cluster, &1u16.to_be_bytes()));
    file
}
