//! The walk over a qcow2: header, extensions, reference count table, L1 table, every L2 table.
//!
//! Each step claims the clusters that it names, so that nothing lies outside the file and nothing lies on anything else.
//! That also bounds the walk: a table is read only after its clusters were claimed, and each can be claimed once, so a
//! hostile image cannot make us read more bytes than it has.

mod claims;
mod header;

use std::collections::VecDeque;
use std::ops::Range;

use self::claims::Claims;
use self::header::Header;
use super::{Facts, Refusal, Step, be64};

/// Bytes of the reference count and L1 tables that are read at once.
const TABLE_CHUNK_BYTES: u64 = 64 * 1024;

/// Offset bits of an L1, L2 or reference count entry.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const READS_ZERO: u64 = 1;

#[derive(Debug)]
enum State {
    Header,
    /// The first cluster, which holds the header's extensions.
    Extensions(Header),
    Walk(Walk),
}

/// Where the walk is, once the header is known to be sane.
#[derive(Debug)]
struct Walk {
    header: Header,
    claims: Claims,
    at: Place,
}

#[derive(Debug)]
enum Place {
    /// In the reference count table, this many bytes behind its start.
    RefcountTable(u64),
    /// In the L1 table, this many bytes behind its start.
    L1(u64),
    /// In the L2 tables (their guest offset, their place) that one piece of the L1 table named; then on in the L1 table.
    L2 { tables: VecDeque<(u64, u64)>, then: u64 },
}

#[derive(Debug)]
pub(super) struct Check {
    file_bytes: u64,
    state: State,
}

impl Check {
    pub(super) fn new(file_bytes: u64) -> Check {
        Check { file_bytes, state: State::Header }
    }

    pub(super) fn wants(&mut self) -> Result<Step, Refusal> {
        match &self.state {
            State::Header if self.file_bytes < header::V2_BYTES => Err(Refusal::NotQcow2),
            State::Header => Ok(Step::Read(0..header::FIXED_BYTES_MAX.min(self.file_bytes))),
            State::Extensions(header) => Ok(Step::Read(0..header.cluster_bytes().min(self.file_bytes))),
            State::Walk(walk) => Ok(walk.wants()),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match &mut self.state {
            State::Header => self.state = State::Extensions(Header::parse(bytes, self.file_bytes)?),
            State::Extensions(header) => {
                header.check_extensions(bytes)?;
                self.state = State::Walk(Walk::begin(header.clone(), self.file_bytes)?);
            }
            State::Walk(walk) => walk.feed(bytes)?,
        }
        Ok(())
    }
}

impl Walk {
    fn begin(header: Header, file_bytes: u64) -> Result<Walk, Refusal> {
        let mut claims = Claims::new(file_bytes, header.cluster_bits)?;
        claims.take("header", 0, header.cluster_bytes().min(file_bytes))?;
        claims.take("reference count table", header.refcount_table, header.refcount_table_bytes)?;
        claims.take("L1 table", header.l1_table, header.l1_bytes())?;
        Ok(Walk { header, claims, at: Place::RefcountTable(0) })
    }

    fn wants(&self) -> Step {
        let chunk = |start: u64, done: u64, total: u64| -> Range<u64> {
            start + done..start + total.min(done.saturating_add(TABLE_CHUNK_BYTES))
        };
        match &self.at {
            Place::RefcountTable(done) => {
                Step::Read(chunk(self.header.refcount_table, *done, self.header.refcount_table_bytes))
            }
            Place::L1(done) if *done >= self.header.l1_bytes() => {
                Step::Accepted(Facts { virtual_bytes: self.header.virtual_bytes })
            }
            Place::L1(done) => Step::Read(chunk(self.header.l1_table, *done, self.header.l1_bytes())),
            Place::L2 { tables, then } => match tables.front() {
                Some((_, table)) => Step::Read(*table..*table + self.header.cluster_bytes()),
                // Never reached: `feed` leaves this place with the last table. Going on with the L1 table is right.
                None => Step::Read(chunk(self.header.l1_table, *then, self.header.l1_bytes())),
            },
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        match &mut self.at {
            Place::RefcountTable(done) => {
                *done += bytes.len() as u64;
                let ended = *done >= self.header.refcount_table_bytes;
                self.refcount_entries(bytes)?;
                if ended {
                    self.at = Place::L1(0);
                }
            }
            Place::L1(done) => {
                let (first, then) = (*done / 8, *done + bytes.len() as u64);
                let tables = self.l1_entries(first, bytes)?;
                self.at = if tables.is_empty() { Place::L1(then) } else { Place::L2 { tables, then } };
            }
            Place::L2 { tables, then } => {
                let then = *then;
                let Some((guest, _)) = tables.pop_front() else { return Ok(()) };
                let ended = tables.is_empty();
                self.l2_entries(guest, bytes)?;
                if ended {
                    self.at = Place::L1(then);
                }
            }
        }
        Ok(())
    }

    fn refcount_entries(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        const TABLE: &str = "reference count table";
        for entry in entries(bytes, 8).map(|entry| be64(entry, 0)).filter(|entry| *entry != 0) {
            if !entry.is_multiple_of(self.header.cluster_bytes()) {
                return Err(Refusal::Entry { table: TABLE, entry, what: "it is not at the start of a cluster" });
            }
            self.claims.take("reference count block", entry, self.header.cluster_bytes())?;
        }
        Ok(())
    }

    fn l1_entries(&mut self, first: u64, bytes: &[u8]) -> Result<VecDeque<(u64, u64)>, Refusal> {
        let mut tables = VecDeque::new();
        for (index, entry) in (first..).zip(entries(bytes, 8).map(|entry| be64(entry, 0))) {
            let damaged = |what| Refusal::Entry { table: "L1 table", entry, what };
            if entry & !(OFFSET_MASK | COPIED) != 0 {
                return Err(damaged("reserved bits are set"));
            }
            let table = entry & OFFSET_MASK;
            if table == 0 {
                continue;
            }
            if !table.is_multiple_of(self.header.cluster_bytes()) {
                return Err(damaged("it is not at the start of a cluster"));
            }
            self.claims.take("L2 table", table, self.header.cluster_bytes())?;
            tables.push_back((index.saturating_mul(self.header.l2_covers_bytes()), table));
        }
        Ok(tables)
    }

    fn l2_entries(&mut self, guest: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let width = if self.header.extended_l2 { 16 } else { 8 };
        let cluster_bytes = self.header.cluster_bytes();
        for (index, raw) in (0_u64..).zip(entries(bytes, width)) {
            let (entry, subclusters) = (be64(raw, 0), self.header.extended_l2.then(|| be64(raw, 8)));
            if entry == 0 && subclusters.unwrap_or(0) & u64::from(u32::MAX) == 0 {
                continue;
            }
            let guest = guest.saturating_add(index.saturating_mul(cluster_bytes));
            if entry & COMPRESSED != 0 {
                self.compressed(entry, subclusters)?;
            } else {
                self.standard(entry, subclusters, self.header.virtual_bytes.saturating_sub(guest).min(cluster_bytes))?;
            }
        }
        Ok(())
    }

    fn compressed(&mut self, entry: u64, subclusters: Option<u64>) -> Result<(), Refusal> {
        let damaged = |what| Refusal::Entry { table: "L2 tables", entry, what };
        if subclusters.is_some_and(|bits| bits != 0) {
            return Err(damaged("a compressed cluster has no parts"));
        }
        if entry & COPIED != 0 {
            return Err(damaged("a compressed cluster is never marked as copied"));
        }
        // The sector count sits above the offset; how many bits it has depends on the cluster size.
        let shift = 62 - (self.header.cluster_bits - 8);
        let start = entry & ((1 << shift) - 1);
        let sectors = ((entry & !COMPRESSED) >> shift) + 1;
        self.claims.share("compressed cluster", start, (start & !511) + sectors * 512)
    }

    /// `visible`: the bytes of this cluster that lie inside the guest's disk.
    fn standard(&mut self, entry: u64, subclusters: Option<u64>, visible: u64) -> Result<(), Refusal> {
        let damaged = |what| Refusal::Entry { table: "L2 tables", entry, what };
        let flags = if self.header.version >= 3 && subclusters.is_none() { READS_ZERO } else { 0 };
        if entry & !(OFFSET_MASK | COPIED | flags) != 0 {
            return Err(damaged("reserved bits are set"));
        }
        let place = entry & OFFSET_MASK;
        if !place.is_multiple_of(self.header.cluster_bytes()) {
            return Err(damaged("it is not at the start of a cluster"));
        }
        let needed = match subclusters {
            None if entry & READS_ZERO != 0 => 0,
            None => visible,
            Some(bits) => {
                let (present, zero) = (bits & u64::from(u32::MAX), bits >> 32);
                if present & zero != 0 {
                    return Err(damaged("a part is both present and zero"));
                }
                if present != 0 && place == 0 {
                    return Err(damaged("parts are present, but the cluster is not"));
                }
                let parts = u64::from(64 - present.leading_zeros());
                (parts * (self.header.cluster_bytes() / 32)).min(visible)
            }
        };
        if place == 0 {
            return Ok(());
        }
        self.claims.take_data(place, needed)
    }
}

fn entries(bytes: &[u8], width: usize) -> std::slice::ChunksExact<'_, u8> {
    bytes.chunks_exact(width)
}
