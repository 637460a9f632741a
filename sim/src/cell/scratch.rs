//! The files of nodes that hold exported disks: they outlive the agents, and take simulated time.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::{Files, Pieces, Writing};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::exec::points::{Boundary, Failure};
use crate::exec::{Exec, Process};
use crate::rng::Rng;

/// Bytes moved at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// How long a piece takes, in microseconds: from the least to the most.
const PIECE_US: (u64, u64) = (200, 80_000);

/// The files of all nodes.
pub struct Scratch {
    files: Mutex<BTreeMap<PathBuf, Bytes>>,
    rng: Mutex<Rng>,
}

impl Scratch {
    pub(super) fn new(seed: u64) -> Arc<Scratch> {
        Arc::new(Scratch { files: Mutex::default(), rng: Mutex::new(Rng::new(seed, "scratch")) })
    }

    /// The directory of a node.
    pub(super) fn dir(node: &str) -> PathBuf {
        Path::new("/scratch").join(node)
    }

    /// Makes a file anew.
    pub(super) fn put(&self, path: &Path, content: Bytes) {
        self.files.lock().insert(path.to_path_buf(), content);
    }

    /// What is there.
    pub fn names(&self) -> Vec<String> {
        self.files.lock().keys().map(|path| path.display().to_string()).collect()
    }
}

/// One process's access to them.
pub(super) struct ProcessFiles {
    pub(super) scratch: Arc<Scratch>,
    pub(super) exec: Exec,
    pub(super) process: Process,
}

impl ProcessFiles {
    fn span(&self) -> u64 {
        self.scratch.rng.lock().span_nanos(PIECE_US.0, PIECE_US.1)
    }
}

#[async_trait]
impl Files for ProcessFiles {
    fn clear(&self, dir: &Path) -> io::Result<()> {
        self.scratch.files.lock().retain(|path, _| !path.starts_with(dir));
        Ok(())
    }

    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Pieces> {
        let found = self.scratch.files.lock().get(path).cloned();
        let mut content = found.ok_or(io::ErrorKind::NotFound)?;
        let (sender, pieces) = tokio::sync::mpsc::channel(1);
        let (exec, process, scratch) = (self.exec.clone(), self.process, Arc::clone(&self.scratch));
        let reading = async move {
            while !content.is_empty() {
                let span = scratch.rng.lock().span_nanos(PIECE_US.0, PIECE_US.1);
                exec.sleep(process, span).await;
                let piece = content.split_to(content.len().min(PIECE_BYTES));
                if sender.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        };
        self.exec.spawn(self.process, Box::pin(reading));
        Ok(pieces)
    }

    fn write(&self, path: &Path) -> io::Result<Writing> {
        let (sender, mut pieces) = tokio::sync::mpsc::channel::<Bytes>(1);
        let (done, result) = tokio::sync::oneshot::channel();
        let (exec, process, scratch) = (self.exec.clone(), self.process, Arc::clone(&self.scratch));
        let (span, path) = (self.span(), path.to_path_buf());
        let writing = async move {
            let mut content = BytesMut::new();
            while let Some(piece) = pieces.recv().await {
                content.extend_from_slice(&piece);
            }
            exec.sleep(process, span).await;
            scratch.put(&path, content.freeze());
            let _receiver_left = done.send(Ok(()));
        };
        self.exec.spawn(self.process, Box::pin(writing));
        Ok((sender, result))
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let failure = self.exec.reach(self.process, Boundary::ActBegun, "remove an export").await;
        match failure {
            Some(Failure::Refused | Failure::NotDone) => return Err(io::Error::other("swept: it is not removed")),
            Some(Failure::DoneAndNotSaid) | None => {}
        }
        self.exec.sleep(self.process, self.span()).await;
        self.scratch.files.lock().remove(path);
        let _the_far_side_does_not_fail = self.exec.reach(self.process, Boundary::ActDone, "remove an export").await;
        match failure {
            Some(_) => Err(io::Error::other("swept: it is removed and was said not to be")),
            None => Ok(()),
        }
    }
}
