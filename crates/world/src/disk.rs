//! The local disk as the shells need it: append-only logs, and nothing else.
//!
//! A log is the only thing a daemon keeps on a disk by itself (the store's engine and the drivers own their files). It
//! is small on purpose, so that the simulator can lose exactly what a power cut would lose: every record that no
//! completed [`Log::append`] covers, and any suffix of a torn write.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// A disk operation failed. The log must be considered damaged from here on: end the process and open it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space is left. Nothing of the refused append will be read back.
    #[error("no space left on the disk that holds {log}")]
    Full {
        /// The log's name.
        log: String,
    },
    /// Any other failure of the disk; whether the last append is durable is unknown.
    #[error("disk failure at {log}: {reason}")]
    Failed {
        /// The log's name.
        log: String,
        /// What the operating system said.
        reason: String,
    },
}

/// What logs have done since the process began, for whoever counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Appends that were asked for.
    pub appends: u64,
    /// Syncs that they shared.
    pub syncs: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Time that was spent writing and syncing.
    pub spent: Duration,
}

/// Opens logs by name.
#[async_trait]
pub trait Disk: Send + Sync {
    /// What all logs together have done; nothing where nobody counts.
    fn tally(&self) -> Tally {
        Tally::default()
    }

    /// Opens or creates the log `name` and returns it with all its whole records, oldest first. A torn tail is cut off.
    async fn open_log(&self, name: &str) -> Result<(Arc<dyn Log>, Vec<Bytes>), DiskError>;
}

/// An append-only sequence of records.
#[async_trait]
pub trait Log: Send + Sync {
    /// Appends `records` in order and returns when they are durable. Appends that wait at the same time share one sync.
    async fn append(&self, records: Vec<Bytes>) -> Result<(), DiskError>;

    /// Replaces the whole content by `records`, atomically: after a crash the log holds either the old or the new.
    async fn rewrite(&self, records: Vec<Bytes>) -> Result<(), DiskError>;

    /// Bytes that the log takes on disk; for deciding when to [`Log::rewrite`].
    fn bytes(&self) -> u64;
}
