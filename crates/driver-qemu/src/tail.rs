//! From a pipe to a bounded file: what a guest's serial port and its QEMU say.
//!
//! A guest outlives the agent, so its output must neither need the agent nor grow without end. It goes into a named
//! pipe whose other end QEMU itself holds open too: while the agent is away up to 1 MiB waits there, and what does not
//! fit is dropped by QEMU, which never blocks on it. An agent that is there moves everything into a file, and keeps
//! that file and the one before it, half a MiB each. What is still in the pipe is lost only if QEMU ends while no
//! agent is there.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use world::World;

/// Bytes of one of the two files.
const SEGMENT_BYTES: u64 = 512 << 10;
/// Bytes that wait in the pipe at most; the kernel's limit for users other than root.
const PIPE_BYTES: usize = 1 << 20;
/// Bytes that are moved at a time, and the rest after it. A serial port speaks byte by byte; this makes a hundred moves
/// a second of it, and lets a guest that only talks cost little of the node.
const BITE_BYTES: usize = 64 << 10;
const REST: Duration = Duration::from_millis(10);

/// Where one such stream passes.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pipe: PathBuf,
    log: PathBuf,
}

impl Stream {
    /// The stream `name` in `dir`.
    pub(crate) fn new(dir: &Path, name: &str) -> Stream {
        Stream { pipe: dir.join(format!("{name}.pipe")), log: dir.join(format!("{name}.log")) }
    }

    /// Makes the pipe if it is not there.
    pub(crate) fn create(&self) -> std::io::Result<()> {
        match rustix::fs::mknodat(rustix::fs::CWD, &self.pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The two descriptors that QEMU inherits: one that only keeps the pipe alive, one to write to.
    pub(crate) fn ends(&self) -> std::io::Result<(OwnedFd, OwnedFd)> {
        let open = |access| rustix::fs::open(&self.pipe, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let hold = open(OFlags::RDWR)?;
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(&hold, PIPE_BYTES) {
            tracing::debug!(%error, "the pipe stays at its default size");
        }
        Ok((hold, open(OFlags::WRONLY)?))
    }

    /// Removes what was moved so far: it is about an earlier process.
    pub(crate) fn forget(&self) -> std::io::Result<()> {
        for path in [&self.log, &older(&self.log)] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Starts to move what comes into the file.
    pub(crate) fn follow(&self, world: &World) -> std::io::Result<Follower> {
        self.create()?;
        // Opened for both ways, the pipe never reports its end: QEMU may come later than we do.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(&self.pipe)?;
        let (finish, finished) = oneshot::channel();
        let (done, drained) = oneshot::channel();
        let mover = Mover { log: self.log.clone(), world: world.clone(), receiver };
        world.spawn("tail", async move {
            mover.run(finished).await;
            let _nobody_waits = done.send(());
        });
        Ok(Follower { finish, drained })
    }

    /// The last `bytes` that came through.
    pub(crate) fn last(&self, bytes: usize) -> std::io::Result<Vec<u8>> {
        let mut out = tail_of(&older(&self.log), bytes)?;
        out.extend(tail_of(&self.log, bytes)?);
        let surplus = out.len().saturating_sub(bytes);
        out.drain(..surplus);
        Ok(out)
    }

    /// The last line that says something, for a fault message.
    pub(crate) fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.last(4096).ok()?).into_owned();
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(|line| line.chars().take(400).collect())
    }
}

/// A stream that is being moved. Dropped, it stops where it is, and the rest waits in the pipe.
pub(crate) struct Follower {
    finish: oneshot::Sender<()>,
    drained: oneshot::Receiver<()>,
}

impl Follower {
    /// Moves what is left in the pipe, whose writer has ended.
    pub(crate) async fn finish(self) {
        let _it_has_ended = self.finish.send(());
        let _it_has_ended = self.drained.await;
    }
}

struct Mover {
    log: PathBuf,
    world: World,
    receiver: pipe::Receiver,
}

impl Mover {
    async fn run(self, mut finished: oneshot::Receiver<()>) {
        let mut buffer = vec![0; BITE_BYTES];
        loop {
            tokio::select! {
                biased;
                end = &mut finished => {
                    // Told to finish: the writer has ended, so what is there is all there is. Dropped: stop here.
                    if end.is_ok() {
                        self.drain(&mut buffer);
                    }
                    return;
                }
                ready = self.receiver.readable() => {
                    if ready.is_err() {
                        return;
                    }
                }
            }
            if self.bite(&mut buffer) > 0 {
                self.world.sleep(REST).await;
            }
        }
    }

    /// Moves what is there, and returns how much that was.
    fn bite(&self, buffer: &mut [u8]) -> usize {
        let Ok(count) = self.receiver.try_read(buffer) else { return 0 };
        self.keep(&buffer[..count]);
        count
    }

    /// Moves all that is there. Asks the kernel itself: the runtime may not have noticed yet that something came.
    fn drain(&self, buffer: &mut [u8]) {
        while let Ok(count @ 1..) = rustix::io::read(&self.receiver, &mut *buffer) {
            self.keep(&buffer[..count]);
        }
    }

    fn keep(&self, bytes: &[u8]) {
        if let Err(error) = append(&self.log, bytes) {
            tracing::warn!(log = %self.log.display(), %error, "output of a guest is lost");
        }
    }
}

fn older(log: &Path) -> PathBuf {
    log.with_extension("log.1")
}

fn append(log: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().create(true).append(true).open(log)?;
    if file.metadata()?.len() + bytes.len() as u64 > SEGMENT_BYTES {
        std::fs::rename(log, older(log))?;
        file = File::options().create(true).append(true).open(log)?;
    }
    file.write_all(bytes)
}

fn tail_of(path: &Path, bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes as u64)))?;
    let mut out = Vec::new();
    file.take(bytes as u64).read_to_end(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guest_that_only_talks_fills_neither_disk_nor_pipe_and_its_last_words_stay() {
        let dir = tempfile::tempdir().unwrap();
        let world = world::os::OsHost::world(tokio::runtime::Handle::current(), dir.path());
        let stream = Stream::new(dir.path(), "console");
        stream.create().unwrap();
        let (_hold, write) = stream.ends().unwrap();
        let mut write = File::from(write);

        // The agent is away: the writer gets an error instead of being held up.
        let mut taken = 0;
        while let Ok(count) = write.write(&[b'.'; 4096]) {
            taken += count;
            assert!(taken <= PIPE_BYTES, "the pipe takes more than it may");
        }
        // It comes back, and finds what had room.
        let follower = stream.follow(&world).unwrap();
        let mut sent = 0;
        while sent < 3 * SEGMENT_BYTES as usize {
            match write.write(&[b'x'; 4096]) {
                Ok(count) => sent += count,
                Err(_full) => tokio::task::yield_now().await,
            }
        }
        follower.finish().await;
        let follower = stream.follow(&world).unwrap();
        write.write_all(b"\nthe end\n\n").unwrap();
        follower.finish().await;

        let size = |path: &Path| path.metadata().unwrap().len();
        assert!(size(&stream.log) + size(&older(&stream.log)) <= 2 * SEGMENT_BYTES);
        assert_eq!(stream.last(9).unwrap(), b"the end\n\n");
        let kept = stream.last(1 << 20).unwrap().len();
        assert!(kept >= SEGMENT_BYTES as usize - BITE_BYTES, "only {kept} bytes are kept");
        assert!(stream.last_line().unwrap().ends_with("the end"));
    }
}
