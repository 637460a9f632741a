//! The qcow2 header and its extensions: what is known, what is refused.

use crate::format::{Refusal, VIRTUAL_BYTES_MAX, be32, be64};

/// The header of version 2; every qcow2 has at least this.
pub(super) const V2_BYTES: u64 = 72;
/// The header of version 3 without the fields that were added later.
const V3_BYTES: u32 = 104;
/// As much of the fixed header as is looked at.
pub(super) const FIXED_BYTES_MAX: u64 = 112;

/// Limits that QEMU itself has.
const L1_BYTES_MAX: u64 = 32 << 20;
const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 << 20;
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// Bits of the features that a reader must know.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
/// A bit of the features that a reader may ignore: the external data file is raw.
const AUTOCLEAR_RAW_EXTERNAL: u64 = 1 << 1;

/// Types of header extensions.
const EXTENSION_END: u32 = 0;
const EXTENSION_EXTERNAL_DATA: u32 = 0x4441_5441;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;

/// What the walk needs of a header that was found sane.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) virtual_bytes: u64,
    pub(super) extended_l2: bool,
    pub(super) l1_table: u64,
    l1_entries: u32,
    pub(super) refcount_table: u64,
    pub(super) refcount_table_bytes: u64,
    header_bytes: u32,
}

impl Header {
    /// From the first bytes of a file: at least [`V2_BYTES`], at most [`FIXED_BYTES_MAX`].
    pub(super) fn parse(bytes: &[u8], file_bytes: u64) -> Result<Header, Refusal> {
        if !bytes.starts_with(b"QFI\xfb") {
            return Err(Refusal::NotQcow2);
        }
        let version = be32(bytes, 4);
        let header_bytes = match version {
            2 => 72,
            3 if file_bytes < u64::from(V3_BYTES) => {
                return Err(Refusal::Truncated { what: "header", end: u64::from(V3_BYTES), file_bytes });
            }
            3 => be32(bytes, 100),
            version => return Err(Refusal::Version { version }),
        };
        if be64(bytes, 8) != 0 || be32(bytes, 16) != 0 {
            return Err(Refusal::BackingFile);
        }
        if be32(bytes, 32) != 0 {
            return Err(Refusal::Encrypted);
        }
        let features = if version == 3 { be64(bytes, 72) } else { 0 };
        let autoclear = if version == 3 { be64(bytes, 88) } else { 0 };
        check_features(features, autoclear)?;
        let header = Header {
            version,
            cluster_bits: be32(bytes, 20),
            virtual_bytes: be64(bytes, 24),
            extended_l2: features & EXTENDED_L2 != 0,
            l1_table: be64(bytes, 40),
            l1_entries: be32(bytes, 36),
            refcount_table: be64(bytes, 48),
            refcount_table_bytes: 0,
            header_bytes,
        };
        header.check_numbers(if version == 3 { be32(bytes, 96) } else { 4 })?;
        // A single byte at 104; older version 3 headers end before it and mean zlib.
        let compression = if header_bytes > V3_BYTES { bytes.get(104).copied().unwrap_or(0) } else { 0 };
        if compression > 1 || (compression != 0) != (features & COMPRESSION_TYPE != 0) {
            return Err(Refusal::Header { what: "its compression type is not known" });
        }
        match be32(bytes, 60) {
            0 => header.with_refcount_table(be32(bytes, 56)),
            count => Err(Refusal::Snapshots { count }),
        }
    }

    fn check_numbers(&self, refcount_order: u32) -> Result<(), Refusal> {
        let bad = |what| Err(Refusal::Header { what });
        if !CLUSTER_BITS.contains(&self.cluster_bits) {
            return bad("its cluster size is not between 512 bytes and 2 MiB");
        }
        if self.extended_l2 && self.cluster_bits < 14 {
            return bad("its clusters are too small to have parts");
        }
        if self.version == 3 && (self.header_bytes < V3_BYTES || !self.header_bytes.is_multiple_of(8)) {
            return bad("its header length is impossible");
        }
        if u64::from(self.header_bytes) > self.cluster_bytes() {
            return bad("its header is longer than a cluster");
        }
        if refcount_order > 6 {
            return bad("its reference counts are wider than 64 bits");
        }
        if self.virtual_bytes == 0 {
            return bad("its disk has no bytes");
        }
        if self.virtual_bytes > VIRTUAL_BYTES_MAX {
            return Err(Refusal::DiskTooLarge { virtual_bytes: self.virtual_bytes });
        }
        if self.l1_bytes() > L1_BYTES_MAX {
            return bad("its L1 table is larger than 32 MiB");
        }
        if u64::from(self.l1_entries) < self.virtual_bytes.div_ceil(self.l2_covers_bytes()) {
            return bad("its L1 table does not cover the disk");
        }
        if self.l1_table == 0 || !self.l1_table.is_multiple_of(self.cluster_bytes()) {
            return bad("its L1 table is not at the start of a cluster");
        }
        Ok(())
    }

    fn with_refcount_table(mut self, clusters: u32) -> Result<Header, Refusal> {
        self.refcount_table_bytes = u64::from(clusters) << self.cluster_bits;
        if !(1..=REFCOUNT_TABLE_BYTES_MAX).contains(&self.refcount_table_bytes) {
            return Err(Refusal::Header { what: "its reference count table has an impossible size" });
        }
        if self.refcount_table == 0 || !self.refcount_table.is_multiple_of(self.cluster_bytes()) {
            return Err(Refusal::Header { what: "its reference count table is not at the start of a cluster" });
        }
        Ok(self)
    }

    /// Walks the extensions in the first cluster (less, if the file is shorter).
    pub(super) fn check_extensions(&self, cluster: &[u8]) -> Result<(), Refusal> {
        const CUT: Refusal = Refusal::Header { what: "an extension does not end within the first cluster" };
        let mut rest = usize::try_from(self.header_bytes).ok().and_then(|start| cluster.get(start..)).ok_or(CUT)?;
        // Old writers end the list with the cluster instead of an end mark.
        while rest.len() >= 8 {
            let (kind, length) = (be32(rest, 0), be32(rest, 4));
            match kind {
                EXTENSION_END => return Ok(()),
                EXTENSION_EXTERNAL_DATA => return Err(Refusal::ExternalData),
                EXTENSION_ENCRYPTION => return Err(Refusal::Encrypted),
                // Others (names of features, bitmaps, the format of a backing file that is not there) do no harm.
                _ => {}
            }
            let length =
                usize::try_from(length).ok().and_then(|length| length.checked_next_multiple_of(8)).ok_or(CUT)?;
            rest = length.checked_add(8).and_then(|whole| rest.get(whole..)).ok_or(CUT)?;
        }
        Ok(())
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub(super) fn l1_bytes(&self) -> u64 {
        u64::from(self.l1_entries) * 8
    }

    /// Bytes of the disk that one L2 table describes.
    pub(super) fn l2_covers_bytes(&self) -> u64 {
        let entry_bits = if self.extended_l2 { 4 } else { 3 };
        1 << (2 * self.cluster_bits - entry_bits)
    }
}

fn check_features(features: u64, autoclear: u64) -> Result<(), Refusal> {
    if features & !KNOWN != 0 {
        return Err(Refusal::UnknownFeature { bits: features & !KNOWN });
    }
    if features & EXTERNAL_DATA != 0 || autoclear & AUTOCLEAR_RAW_EXTERNAL != 0 {
        return Err(Refusal::ExternalData);
    }
    if features & CORRUPT != 0 {
        return Err(Refusal::Marked { mark: "corrupt" });
    }
    if features & DIRTY != 0 {
        return Err(Refusal::Marked { mark: "dirty" });
    }
    Ok(())
}
