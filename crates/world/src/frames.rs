//! Records as frames of bytes, so that a torn write is told from a whole one.
//!
//! Frame: length (u32, little endian), CRC-32 of the payload (u32), payload. Reading stops at the first frame that is
//! short, empty or does not match its checksum. An empty one is what a file system shows that has made a file longer and
//! lost what was written there: zeros, which would match.

use bytes::Bytes;
use planted::Bug;

/// What a frame takes beside its payload.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Appends `record` to `out` as a frame.
///
/// # Panics
/// If the record has 4 GiB or more: log records are at most a few KiB.
pub fn frame(record: &Bytes, out: &mut Vec<u8>) {
    let length = u32::try_from(record.len()).expect("log records are at most a few KiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
    out.extend_from_slice(record);
}

/// The whole records at the start of `content`, and how many bytes they take.
pub fn parse(content: &[u8]) -> (Vec<Bytes>, usize) {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some(header) = content.get(at..at + FRAME_HEADER_BYTES) {
        let word =
            |from: usize| u32::from_le_bytes([header[from], header[from + 1], header[from + 2], header[from + 3]]);
        let start = at + FRAME_HEADER_BYTES;
        let Some(payload) = content.get(start..start.saturating_add(word(0) as usize)) else { break };
        let nothing = payload.is_empty() && !planted::is(Bug::ZerosAreRecords);
        if nothing || crc32fast::hash(payload) != word(4) {
            break;
        }
        records.push(Bytes::copy_from_slice(payload));
        at = start + payload.len();
    }
    (records, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(records: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        records.iter().for_each(|record| frame(&Bytes::copy_from_slice(record.as_bytes()), &mut out));
        out
    }

    #[test]
    fn any_torn_tail_is_cut_and_the_rest_is_kept() {
        let whole = framed(&["one", "two"]).len();
        let content = framed(&["one", "two", "three"]);
        for cut in whole..content.len() {
            let (records, kept) = parse(&content[..cut]);
            assert_eq!((records.len(), kept), (2, whole), "cut at {cut}");
        }
        let mut flipped = content.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(parse(&flipped).1, whole, "a record that fails its checksum is no record");
        let mut zeros = content[..whole].to_vec();
        zeros.resize(whole + 4096, 0);
        assert_eq!(parse(&zeros).1, whole, "zeros are no records");
    }
}
