//! Which clusters of the file are spoken for: two bits each.

use crate::format::Refusal;

/// Clusters that can be kept track of: 2 × 32 MiB of memory. With the usual 64 KiB clusters that is 16 TiB.
const CLUSTERS_MAX: u64 = 1 << 28;

/// The clusters of one file.
#[derive(Debug)]
pub(super) struct Claims {
    file_bytes: u64,
    cluster_bits: u32,
    /// Used by one thing alone.
    sole: Vec<u64>,
    /// Used by compressed clusters, which may share one.
    shared: Vec<u64>,
}

impl Claims {
    pub(super) fn new(file_bytes: u64, cluster_bits: u32) -> Result<Claims, Refusal> {
        let clusters = file_bytes.div_ceil(1 << cluster_bits);
        let words = match usize::try_from(clusters.div_ceil(64)) {
            Ok(words) if clusters <= CLUSTERS_MAX => words,
            Ok(_) | Err(_) => return Err(Refusal::Header { what: "its clusters are too small for its size" }),
        };
        Ok(Claims { file_bytes, cluster_bits, sole: vec![0; words], shared: vec![0; words] })
    }

    /// A table of `bytes` at `offset` (the start of a cluster): all of it must be there.
    pub(super) fn take(&mut self, what: &'static str, offset: u64, bytes: u64) -> Result<(), Refusal> {
        self.within(what, offset.saturating_add(bytes), self.file_bytes)?;
        self.claim(what, offset, offset.saturating_add(bytes))
    }

    /// A cluster of the guest's data, of which the first `needed` bytes must be there. A file may end inside its last
    /// cluster, behind what the guest can see.
    pub(super) fn take_data(&mut self, offset: u64, needed: u64) -> Result<(), Refusal> {
        const WHAT: &str = "data";
        self.within(WHAT, offset.saturating_add(needed), self.file_bytes)?;
        if offset >= self.file_bytes {
            // Only a place kept for later (a cluster that reads as zeros): there are no bytes to claim.
            return Ok(());
        }
        self.claim(WHAT, offset, offset + 1)
    }

    /// Compressed data; its end is given in whole sectors, the file need not fill the last one.
    pub(super) fn share(&mut self, what: &'static str, start: u64, end: u64) -> Result<(), Refusal> {
        self.within(what, end, self.file_bytes.next_multiple_of(512))?;
        for cluster in self.clusters(start, end.min(self.file_bytes)) {
            if bit(&self.sole, cluster) {
                return Err(Refusal::Overlap { what, offset: cluster << self.cluster_bits });
            }
            set(&mut self.shared, cluster);
        }
        Ok(())
    }

    fn within(&self, what: &'static str, end: u64, limit: u64) -> Result<(), Refusal> {
        if end <= limit { Ok(()) } else { Err(Refusal::Truncated { what, end, file_bytes: self.file_bytes }) }
    }

    fn claim(&mut self, what: &'static str, start: u64, end: u64) -> Result<(), Refusal> {
        for cluster in self.clusters(start, end) {
            if bit(&self.sole, cluster) || bit(&self.shared, cluster) {
                return Err(Refusal::Overlap { what, offset: cluster << self.cluster_bits });
            }
            set(&mut self.sole, cluster);
        }
        Ok(())
    }

    fn clusters(&self, start: u64, end: u64) -> std::ops::Range<u64> {
        start >> self.cluster_bits..end.div_ceil(1 << self.cluster_bits)
    }
}

fn bit(words: &[u64], number: u64) -> bool {
    let word = usize::try_from(number / 64).ok().and_then(|index| words.get(index));
    word.is_some_and(|word| word >> (number % 64) & 1 == 1)
}

fn set(words: &mut [u64], number: u64) {
    if let Some(word) = usize::try_from(number / 64).ok().and_then(|index| words.get_mut(index)) {
        *word |= 1 << (number % 64);
    }
}
