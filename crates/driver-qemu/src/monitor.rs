//! The agent's side of a QEMU's monitor: one task to a running guest.
//!
//! The task keeps a connection (QEMU serves one at a time, and an agent that restarts takes it up again), sends the
//! commands of its [`Monitor`] handles, publishes events, and sees the process end: by its pidfd, so at once and
//! without polling. Dropping all handles ends the task and changes nothing for the guest.
//!
//! A command waits while there is no connection; every caller bounds its own patience.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot};
use world::World;

use crate::process::{Exit, Process};
use crate::qmp::{self, Event, Line, Shutdown};

/// A line may not be longer: QEMU's longest answers that we ask for are a few KiB.
const LINE_BYTES_MAX: usize = 1 << 20;
const COMMANDS_WAITING_MAX: usize = 16;
const EVENTS_WAITING_MAX: usize = 64;
const RECONNECT_AFTER: Duration = Duration::from_millis(300);
/// How long what QEMU said last is waited for once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandError {
    /// QEMU refused it, for this reason.
    Refused(String),
    /// QEMU ended, or the connection broke while the command was under way.
    Gone,
    /// No answer in time.
    Silent,
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CommandError::Refused(reason) => write!(f, "QEMU refused: {reason}"),
            CommandError::Gone => write!(f, "QEMU has ended or closed its monitor"),
            CommandError::Silent => write!(f, "QEMU's monitor does not answer"),
        }
    }
}

struct Request {
    name: &'static str,
    arguments: Value,
    /// Passed along with the line.
    descriptor: Option<OwnedFd>,
    reply: oneshot::Sender<Result<Value, CommandError>>,
}

/// A handle to a running QEMU.
#[derive(Clone)]
pub(crate) struct Monitor {
    world: World,
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<Event>,
}

/// How a run ended, as far as monitor and kernel know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) exit: Exit,
    pub(crate) shutdown: Option<Shutdown>,
}

impl Monitor {
    /// A handle, and the task that serves it. The task returns how the process ended, or `None` when it was dropped.
    pub(crate) fn new(
        world: &World,
        socket: PathBuf,
        process: Process,
    ) -> (Monitor, impl Future<Output = Option<Ending>> + Send + 'static) {
        let (requests, inbox) = mpsc::channel(COMMANDS_WAITING_MAX);
        let (events, _) = broadcast::channel(EVENTS_WAITING_MAX);
        let monitor = Monitor { world: world.clone(), requests, events: events.clone() };
        let served = Served { world: world.clone(), socket, process, events, shutdown: None, next_id: 0 };
        (monitor, served.run(inbox))
    }

    pub(crate) async fn execute(
        &self,
        name: &'static str,
        arguments: Value,
        patience: Duration,
    ) -> Result<Value, CommandError> {
        self.send(name, arguments, None, patience).await
    }

    pub(crate) async fn send(
        &self,
        name: &'static str,
        arguments: Value,
        descriptor: Option<OwnedFd>,
        patience: Duration,
    ) -> Result<Value, CommandError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { name, arguments, descriptor, reply };
        let exchange = async {
            self.requests.send(request).await.map_err(|_| CommandError::Gone)?;
            answer.await.unwrap_or(Err(CommandError::Gone))
        };
        self.world.timeout(patience, exchange).await.unwrap_or(Err(CommandError::Silent))
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

/// Binds the socket on which QEMU will listen, in place of an older one.
pub(crate) fn bind(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let (_dir, short) = shortened(path)?;
    std::os::unix::net::UnixListener::bind(short)
}

/// The same place by a name that fits into a socket address (108 bytes) however deep the state directory lies.
fn shortened(path: &Path) -> std::io::Result<(File, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let dir = File::from(rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((dir, short))
}

struct Served {
    world: World,
    socket: PathBuf,
    process: Process,
    events: broadcast::Sender<Event>,
    shutdown: Option<Shutdown>,
    next_id: u64,
}

/// Why one connection is over.
enum Over {
    /// All handles were dropped.
    Dropped,
    /// The process has ended.
    Ended,
    /// The connection broke; the process lives.
    Broken(String),
}

impl Served {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) -> Option<Ending> {
        loop {
            match self.connection(&mut inbox).await {
                Over::Dropped => return None,
                Over::Ended => return Some(Ending { exit: self.process.reap(), shutdown: self.shutdown }),
                Over::Broken(reason) => {
                    tracing::debug!(socket = %self.socket.display(), reason, "no monitor connection")
                }
            }
            let process = self.process.clone();
            tokio::select! {
                biased;
                _ = process.ended() => {}
                () = self.world.sleep(RECONNECT_AFTER) => {}
            }
        }
    }

    async fn connection(&mut self, inbox: &mut mpsc::Receiver<Request>) -> Over {
        let process = self.process.clone();
        let mut ended = std::pin::pin!(process.ended());
        let connect = async {
            let (_dir, short) = shortened(&self.socket)?;
            UnixStream::connect(short).await
        };
        let stream = match connect.await {
            Ok(stream) => stream,
            // Nobody listens where a living QEMU would: most likely it has ended. If not, it is only waited for.
            Err(error) => {
                let soon = self.world.timeout(Duration::from_millis(1), ended.as_mut()).await;
                return if soon.is_ok() { Over::Ended } else { Over::Broken(error.to_string()) };
            }
        };
        let (read, write) = stream.into_split();
        let mut lines = Lines { read, buffer: Vec::new() };
        let mut waiting = BTreeMap::new();
        let mut ready = false;
        // A command that came before QEMU was ready to take one.
        let mut held = None;
        loop {
            tokio::select! {
                biased;
                line = lines.next() => match line {
                    Ok(line) => match self.take(&line, &mut waiting, &mut ready, &write).await {
                        Ok(()) => {}
                        Err(reason) => return Over::Broken(reason),
                    },
                    Err(reason) => {
                        // A closed monitor is what an ending QEMU leaves first.
                        let soon = self.world.timeout(RECONNECT_AFTER, ended.as_mut()).await;
                        return if soon.is_ok() { Over::Ended } else { Over::Broken(reason) };
                    }
                },
                _ = ended.as_mut() => {
                    let world = self.world.clone();
                    let rest = async {
                        while let Ok(line) = lines.next().await {
                            let _nobody_reads_answers = self.take(&line, &mut waiting, &mut ready, &write).await;
                        }
                    };
                    let _all_was_read = world.timeout(LAST_WORDS, rest).await;
                    return Over::Ended;
                }
                request = inbox.recv(), if held.is_none() => match request {
                    None => return Over::Dropped,
                    Some(request) => held = Some(request),
                },
            }
            if ready && let Some(request) = held.take() {
                self.next_id += 1;
                let line = qmp::command(self.next_id, request.name, &request.arguments);
                if let Err(error) = write_line(&write, &line, request.descriptor.as_ref()).await {
                    let _caller_left = request.reply.send(Err(CommandError::Gone));
                    return Over::Broken(error.to_string());
                }
                waiting.insert(self.next_id, request.reply);
            }
        }
    }

    async fn take(
        &mut self,
        line: &[u8],
        waiting: &mut BTreeMap<u64, oneshot::Sender<Result<Value, CommandError>>>,
        ready: &mut bool,
        write: &OwnedWriteHalf,
    ) -> Result<(), String> {
        match qmp::parse(line).map_err(|bad| format!("QEMU's monitor said something unknown: {}", bad.0))? {
            Line::Greeting => {
                let hello = qmp::command(0, "qmp_capabilities", &Value::Null);
                write_line(write, &hello, None).await.map_err(|error| error.to_string())?;
            }
            Line::Return(0, _) => *ready = true,
            Line::Error(0, reason) => return Err(reason),
            Line::Return(id, value) => drop(waiting.remove(&id).map(|reply| reply.send(Ok(value)))),
            Line::Error(id, reason) => {
                drop(waiting.remove(&id).map(|reply| reply.send(Err(CommandError::Refused(reason)))))
            }
            Line::Event(event) => {
                if let Event::Shutdown(reason) = &event {
                    self.shutdown = Some(reason.clone());
                }
                let _nobody_listens = self.events.send(event);
            }
        }
        Ok(())
    }
}

async fn write_line(write: &OwnedWriteHalf, line: &[u8], descriptor: Option<&OwnedFd>) -> std::io::Result<()> {
    let stream: &UnixStream = write.as_ref();
    let mut sent = 0;
    while sent < line.len() {
        let attempt = stream.async_io(Interest::WRITABLE, || {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
            let descriptors = descriptor.filter(|_| sent == 0).map(|one| [one.as_fd()]);
            if let Some(descriptors) = &descriptors {
                control.push(rustix::net::SendAncillaryMessage::ScmRights(descriptors));
            }
            let bytes = [std::io::IoSlice::new(&line[sent..])];
            Ok(rustix::net::sendmsg(stream, &bytes, &mut control, rustix::net::SendFlags::NOSIGNAL)?)
        });
        sent += attempt.await?;
    }
    Ok(())
}

/// Lines from QEMU. `next` may be dropped at any point without losing anything.
struct Lines {
    read: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.truncate(line.trim_ascii_end().len());
                return Ok(line);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err("QEMU's monitor sent a line without end".into());
            }
            match self.read.read_buf(&mut self.buffer).await {
                Ok(0) => return Err("QEMU closed its monitor".into()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
