//! Where image content lies on a node, between its driver and the network: whole files, in and out.
//!
//! What is moved, to whom, and what an error means is decided by those who call this; a [`Files`] only has the bytes. The
//! product's are [`OnDisk`], on threads of their own: a disk must not hold up the node's tasks.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

/// The pieces of a file, in order. The last is followed by nothing, a failure by nothing either.
pub type Pieces = mpsc::Receiver<std::io::Result<Bytes>>;

/// Where pieces go; and, when that is dropped, what came of the file.
pub type Writing = (mpsc::Sender<Bytes>, oneshot::Receiver<std::io::Result<()>>);

/// The files of a node that hold image content.
#[async_trait]
pub trait Files: Send + Sync {
    /// Empties the directory, if it is there.
    fn clear(&self, dir: &Path) -> std::io::Result<()>;

    /// Makes the directory, unless it is there.
    fn make_dir(&self, dir: &Path) -> std::io::Result<()>;

    /// Reads the file at `path`.
    fn read(&self, path: &Path) -> std::io::Result<Pieces>;

    /// Makes the file at `path` anew; its content is durable when the result says so.
    fn write(&self, path: &Path) -> std::io::Result<Writing>;

    /// Removes the file at `path`, if it is there.
    async fn remove(&self, path: &Path) -> std::io::Result<()>;
}

/// The machine's own files.
pub struct OnDisk;

#[async_trait]
impl Files for OnDisk {
    fn clear(&self, dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn make_dir(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn read(&self, path: &Path) -> std::io::Result<Pieces> {
        read(path)
    }

    fn write(&self, path: &Path) -> std::io::Result<Writing> {
        write(path)
    }

    async fn remove(&self, path: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Bytes moved at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces between the disk and the network.
const PIECES_AHEAD: usize = 4;

fn read(path: &Path) -> std::io::Result<Pieces> {
    let mut file = File::open(path)?;
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    std::thread::Builder::new().name("agent read".into()).spawn(move || {
        loop {
            let mut piece = BytesMut::zeroed(PIECE_BYTES);
            let item = match file.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => {
                    piece.truncate(length);
                    Ok(piece.freeze())
                }
                Err(error) => Err(error),
            };
            let ends = item.is_err();
            // Nobody waits for the rest, or there is none.
            if sender.blocking_send(item).is_err() || ends {
                return;
            }
        }
    })?;
    Ok(pieces)
}

/// When the sender is dropped, the file is synced and the result told.
fn write(path: &Path) -> std::io::Result<Writing> {
    let mut file = File::create(path)?;
    let (sender, mut pieces) = mpsc::channel::<Bytes>(PIECES_AHEAD);
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("agent write".into()).spawn(move || {
        let mut write = || {
            while let Some(piece) = pieces.blocking_recv() {
                file.write_all(&piece)?;
            }
            file.sync_all()
        };
        let result = write();
        let _receiver_left = done.send(result);
    })?;
    Ok((sender, result))
}
