//! A log in a file: framed records, one thread that writes and syncs for all who wait.
//!
//! Opening reads [`frames`](crate::frames) until the first that is not whole, and cuts the file there: that tail was never
//! acknowledged.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::frames::{FRAME_HEADER_BYTES, frame, parse};
use crate::{DiskError, Log, Tally};

/// Requests that may wait for the log's thread. Beyond it an append waits for a place, which bounds memory.
const WAITING_APPENDS_MAX: usize = 1024;
/// What is logged may be secret: orders carry what users gave their guests.
const OWNERS_ONLY: u32 = 0o600;

enum Request {
    Append(Vec<Bytes>, oneshot::Sender<Result<(), DiskError>>),
    Rewrite(Vec<Bytes>, oneshot::Sender<Result<(), DiskError>>),
}

/// What the logs of a process have done.
#[derive(Default)]
pub(super) struct Counts {
    appends: AtomicU64,
    syncs: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
}

impl Counts {
    pub(super) fn tally(&self) -> Tally {
        Tally {
            appends: self.appends.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            spent: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }

    fn wrote(&self, appends: usize, bytes: usize, since: Instant) {
        let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for (counter, more) in
            [(&self.appends, appends as u64), (&self.syncs, 1), (&self.bytes, bytes as u64), (&self.nanos, nanos)]
        {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }
}

pub(super) struct FileLog {
    requests: mpsc::Sender<Request>,
    bytes: Arc<AtomicU64>,
    name: String,
}

impl FileLog {
    pub(super) fn open(dir: &Path, name: &str, counts: &Arc<Counts>) -> Result<(FileLog, Vec<Bytes>), DiskError> {
        let failed = |error: std::io::Error| classify(name, &error);
        std::fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(OWNERS_ONLY);
        let mut file = options.open(&path).map_err(failed)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        let (records, whole) = parse(&content);
        if whole < content.len() {
            file.set_len(whole as u64).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(failed)?;
        sync_dir(dir).map_err(failed)?;

        let (requests, inbox) = mpsc::channel(WAITING_APPENDS_MAX);
        let bytes = Arc::new(AtomicU64::new(whole as u64));
        let writer = Writer {
            file,
            path,
            dir: dir.to_path_buf(),
            name: name.to_owned(),
            bytes: Arc::clone(&bytes),
            counts: Arc::clone(counts),
            broken: None,
        };
        std::thread::Builder::new().name(format!("log {name}")).spawn(move || writer.run(inbox)).map_err(failed)?;
        Ok((FileLog { requests, bytes, name: name.to_owned() }, records))
    }

    async fn ask(&self, request: Request, answer: oneshot::Receiver<Result<(), DiskError>>) -> Result<(), DiskError> {
        let gone = || DiskError::Failed { log: self.name.clone(), reason: "the log's thread has ended".into() };
        self.requests.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Log for FileLog {
    async fn append(&self, records: Vec<Bytes>) -> Result<(), DiskError> {
        let (done, answer) = oneshot::channel();
        self.ask(Request::Append(records, done), answer).await
    }

    async fn rewrite(&self, records: Vec<Bytes>) -> Result<(), DiskError> {
        let (done, answer) = oneshot::channel();
        self.ask(Request::Rewrite(records, done), answer).await
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

struct Writer {
    file: File,
    path: PathBuf,
    dir: PathBuf,
    name: String,
    bytes: Arc<AtomicU64>,
    counts: Arc<Counts>,
    /// The first failure: what lies behind it in the file is unknown, so nothing may be written after it.
    broken: Option<DiskError>,
}

impl Writer {
    #[expect(clippy::disallowed_methods, reason = "how long the disk takes is measured where it is used")]
    fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut next = inbox.blocking_recv();
        while let Some(request) = next.take() {
            match request {
                Request::Rewrite(records, done) => {
                    let begun = Instant::now();
                    let result = self.guarded(|writer| writer.rewrite(&records));
                    let bytes = records.iter().map(|record| record.len() + FRAME_HEADER_BYTES).sum();
                    self.counts.wrote(1, bytes, begun);
                    let _caller_left = done.send(result);
                }
                Request::Append(records, done) => {
                    let mut frames = Vec::new();
                    records.iter().for_each(|record| frame(record, &mut frames));
                    let mut waiting = vec![done];
                    while next.is_none() {
                        match inbox.try_recv() {
                            Ok(Request::Append(records, done)) => {
                                records.iter().for_each(|record| frame(record, &mut frames));
                                waiting.push(done);
                            }
                            Ok(rewrite @ Request::Rewrite(..)) => next = Some(rewrite),
                            Err(_) => break,
                        }
                    }
                    let begun = Instant::now();
                    let result = self.guarded(|writer| writer.append(&frames));
                    self.counts.wrote(waiting.len(), frames.len(), begun);
                    waiting.into_iter().for_each(|done| drop(done.send(result.clone())));
                }
            }
            if next.is_none() {
                next = inbox.blocking_recv();
            }
        }
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Writer) -> std::io::Result<()>) -> Result<(), DiskError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        act(self).map_err(|error| {
            let error = classify(&self.name, &error);
            match &error {
                // Nothing of the refused append stayed in the file: when there is room again, the log goes on.
                DiskError::Full { .. } => {}
                DiskError::Failed { .. } => self.broken = Some(error.clone()),
            }
            error
        })
    }

    fn append(&mut self, frames: &[u8]) -> std::io::Result<()> {
        let start = self.bytes.load(Ordering::Relaxed);
        if let Err(error) = self.file.write_all(frames) {
            self.take_back(start)?;
            return Err(error);
        }
        self.file.sync_data()?;
        self.bytes.store(start + frames.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// A full disk leaves a torn frame: it is cut, and the next append begins where it began. Else that would land behind
    /// a gap, and reading ends at a gap.
    fn take_back(&mut self, start: u64) -> std::io::Result<()> {
        self.file.set_len(start)?;
        self.file.seek(SeekFrom::Start(start))?;
        Ok(())
    }

    fn rewrite(&mut self, records: &[Bytes]) -> std::io::Result<()> {
        let mut frames = Vec::new();
        records.iter().for_each(|record| frame(record, &mut frames));
        let fresh = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNERS_ONLY).open(&fresh)?;
        file.write_all(&frames)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        sync_dir(&self.dir)?;
        self.file = file;
        self.bytes.store(frames.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn classify(name: &str, error: &std::io::Error) -> DiskError {
    if error.kind() == std::io::ErrorKind::StorageFull {
        DiskError::Full { log: name.to_owned() }
    } else {
        DiskError::Failed { log: name.to_owned(), reason: error.to_string() }
    }
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_refused_append_the_log_goes_on_without_a_gap() {
        let framed = |record: &'static str| {
            let mut out = Vec::new();
            frame(&Bytes::from_static(record.as_bytes()), &mut out);
            out
        };
        let dir = std::env::temp_dir().join(format!("mainstay-log-full-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("wal");
        let mut writer = Writer {
            file: File::create(&path).unwrap(),
            path: path.clone(),
            dir: dir.clone(),
            name: "wal".into(),
            bytes: Arc::default(),
            counts: Arc::default(),
            broken: None,
        };
        writer.append(&framed("one")).unwrap();
        // What a full disk took of the next one before it refused the rest.
        writer.file.write_all(&framed("refused")[..10]).unwrap();
        writer.take_back(framed("one").len() as u64).unwrap();
        writer.append(&framed("two")).unwrap();
        let (records, _) = parse(&std::fs::read(&path).unwrap());
        assert_eq!(records, [Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn what_was_appended_is_read_back_after_a_rewrite_too() {
        let dir = std::env::temp_dir().join(format!("mainstay-log-{}", std::process::id()));
        let counts = Arc::default();
        let (log, records) = FileLog::open(&dir, "wal", &counts).unwrap();
        assert!(records.is_empty());
        log.append(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).await.unwrap();
        log.rewrite(vec![Bytes::from_static(b"b")]).await.unwrap();
        log.append(vec![Bytes::from_static(b"c")]).await.unwrap();
        drop(log);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.join("wal")).unwrap().permissions());
        assert_eq!(mode & 0o777, OWNERS_ONLY);
        let tally = counts.tally();
        assert_eq!((tally.appends, tally.syncs, tally.bytes), (3, 3, 2 * 9 + 9 + 9));
        let (log, records) = FileLog::open(&dir, "wal", &counts).unwrap();
        assert_eq!(records, [Bytes::from_static(b"b"), Bytes::from_static(b"c")]);
        assert_eq!(log.bytes(), 2 * 9);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
