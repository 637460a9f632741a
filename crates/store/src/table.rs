//! Typed records: what a crate declares to keep something in the store.
//!
//! A stored value is one version byte and then the protobuf message of that version. A record is rewritten only by
//! code that knows its version: decoding a newer one is an error, never a guess.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::port::{Entry, Key, KeyRange, Revision};

/// Stored bytes cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer release wrote it.
    #[error("a {table} record has version {found}, this release reads up to {known}: upgrade this process")]
    TooNew {
        /// The table.
        table: &'static str,
        /// The version found.
        found: u8,
        /// The newest version known here.
        known: u8,
    },
    /// The bytes are no such record.
    #[error("a {table} record is damaged: {reason}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// A domain type that has a table.
///
/// The key is `TABLE` + `id`, so `TABLE` ends with `/` and no table's name begins another's.
pub trait Record: Sized {
    /// The prefix of its keys, with the `/` at the end. Persisted: never reused for something else.
    const TABLE: &'static str;
    /// The version that is written.
    const VERSION: u8 = 1;
    /// The protobuf message of the newest version.
    type Stored: Message + Default;

    /// What stands behind the prefix in the key.
    fn id(&self) -> String;
    /// To the stored form.
    fn to_stored(&self) -> Self::Stored;
    /// From the stored form; the reason if it makes no sense.
    fn from_stored(stored: Self::Stored) -> Result<Self, String>;

    /// The key of the record with this id.
    fn key_of(id: &impl std::fmt::Display) -> Key {
        Key::from(format!("{}{id}", Self::TABLE))
    }

    /// The key of this record.
    fn key(&self) -> Key {
        Self::key_of(&self.id())
    }

    /// All keys of the table.
    fn all() -> KeyRange {
        KeyRange::prefix(Self::TABLE.as_bytes())
    }

    /// The bytes to store.
    fn encode(&self) -> Bytes {
        let stored = self.to_stored();
        let mut out = BytesMut::with_capacity(1 + stored.encoded_len());
        out.put_u8(Self::VERSION);
        stored.encode(&mut out).expect("a BytesMut grows as needed");
        out.freeze()
    }

    /// From stored bytes.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let damaged = |reason: String| DecodeError::Damaged { table: Self::TABLE, reason };
        let (version, message) = bytes.split_first().ok_or_else(|| damaged("it is empty".into()))?;
        if *version > Self::VERSION {
            return Err(DecodeError::TooNew { table: Self::TABLE, found: *version, known: Self::VERSION });
        }
        let stored = Self::Stored::decode(message).map_err(|error| damaged(error.to_string()))?;
        Self::from_stored(stored).map_err(damaged)
    }

    /// From an entry, with the revision at which it was written.
    fn decode_entry(entry: &Entry) -> Result<(Self, Revision), DecodeError> {
        let bytes = entry
            .record()
            .ok_or_else(|| DecodeError::Damaged { table: Self::TABLE, reason: "it is a counter".into() })?;
        Ok((Self::decode(bytes)?, entry.modified))
    }
}
