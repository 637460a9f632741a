//! Whole files in and out, on threads of their own: a disk must not hold up the node's tasks.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

/// Bytes moved at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces between the disk and the network.
const PIECES_AHEAD: usize = 4;

/// The pieces of the file at `path`, in order. The last is followed by nothing, a failure by nothing either.
pub(crate) fn read(path: &Path) -> std::io::Result<mpsc::Receiver<std::io::Result<Bytes>>> {
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

/// Writes what is sent to a new file at `path`; when the sender is dropped, the file is synced and the result told.
pub(crate) fn write(path: &Path) -> std::io::Result<(mpsc::Sender<Bytes>, oneshot::Receiver<std::io::Result<()>>)> {
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
