//! The directory of the image service: blobs that outlive it, in memory and on simulated time.
//!
//! It keeps what `images` asks of a directory: what was written is there when the call returns, a rename happens in one
//! step or not at all, and of what was cut off nobody sees anything. Each change is a pair of boundaries.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;

use crate::disk::DiskFault;
use crate::exec::points::{Boundary, Failure};
use crate::exec::{Exec, Process};
use crate::rng::Rng;

/// How long a change takes, in microseconds: from the least to the most.
const CHANGE_US: (u64, u64) = (500, 60_000);

/// Where blobs lie that are whole.
pub const BLOBS: &str = "blobs/";

/// The directory: of the cell, and not of a process.
pub struct ImageDir {
    files: Arc<InMemory>,
    rng: Mutex<Rng>,
    fail_next: Mutex<Option<DiskFault>>,
}

impl ImageDir {
    /// One with this blob in it.
    pub(super) fn new(seed: u64, sha256: &str, content: &'static [u8]) -> Arc<ImageDir> {
        let files = Arc::new(InMemory::new());
        let path = Path::from(format!("{BLOBS}{sha256}"));
        let put = files.put(&path, Bytes::from_static(content).into()).now_or_never();
        put.and_then(Result::ok).expect("memory takes everything at once");
        Arc::new(ImageDir { files, rng: Mutex::new(Rng::new(seed, "image directory")), fail_next: Mutex::default() })
    }

    /// Everything in it, by path.
    pub async fn content(&self) -> BTreeMap<String, Bytes> {
        let metas: Vec<ObjectMeta> = self.files.list(None).try_collect().await.unwrap_or_default();
        let mut content = BTreeMap::new();
        for meta in metas {
            if let Ok(found) = self.files.get(&meta.location).await
                && let Ok(bytes) = found.bytes().await
            {
                content.insert(meta.location.to_string(), bytes);
            }
        }
        content
    }

    /// The next change fails.
    pub fn fail_next(&self, fault: DiskFault) {
        *self.fail_next.lock() = Some(fault);
    }

    /// Nothing fails any more.
    pub(super) fn heal(&self) {
        *self.fail_next.lock() = None;
    }
}

/// One process's access to it.
#[derive(Clone)]
pub(super) struct ProcessDir {
    pub(super) dir: Arc<ImageDir>,
    pub(super) exec: Exec,
    pub(super) process: Process,
}

fn failed(kind: io::ErrorKind, text: &'static str) -> Error {
    Error::Generic { store: "simulated", source: io::Error::new(kind, text).into() }
}

impl ProcessDir {
    async fn act<T>(&self, what: &str, act: impl Future<Output = Result<T>>) -> Result<T> {
        let swept = self.exec.reach(self.process, Boundary::ActBegun, what).await;
        let ordered = self.dir.fail_next.lock().take().map(|fault| match fault {
            DiskFault::Full => Failure::Refused,
            DiskFault::Failed | DiskFault::Unreadable => Failure::NotDone,
        });
        let failure = swept.or(ordered);
        let span = self.dir.rng.lock().span_nanos(CHANGE_US.0, CHANGE_US.1);
        self.exec.sleep(self.process, span).await;
        match failure {
            Some(Failure::Refused) => return Err(failed(io::ErrorKind::StorageFull, "no space")),
            Some(Failure::NotDone) => return Err(failed(io::ErrorKind::Other, "it did not work")),
            Some(Failure::DoneAndNotSaid) | None => {}
        }
        let result = act.await;
        let _the_far_side_does_not_fail = self.exec.reach(self.process, Boundary::ActDone, what).await;
        match failure {
            Some(_) => result.and(Err(failed(io::ErrorKind::Other, "it worked and said that it had not"))),
            None => result,
        }
    }
}

impl fmt::Debug for ProcessDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessDir")
    }
}

impl fmt::Display for ProcessDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated image directory")
    }
}

#[async_trait]
impl ObjectStore for ProcessDir {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.act("put a blob", self.dir.files.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.dir.files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(Upload { dir: self.clone(), upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.dir.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let dir = self.clone();
        let deleted = locations.then(move |location| {
            let dir = dir.clone();
            async move {
                let location = location?;
                dir.act("remove a blob", dir.dir.files.delete(&location)).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.dir.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.dir.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.act("copy a blob", self.dir.files.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        // In memory nothing waits: it is one step.
        self.act("name a blob", self.dir.files.rename_opts(from, to, options)).await
    }
}

/// What is being received: nobody sees it before it is whole.
#[derive(Debug)]
struct Upload {
    dir: ProcessDir,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (dir, put) = (self.dir.clone(), self.upload.put_part(data));
        async move {
            let span = dir.dir.rng.lock().span_nanos(CHANGE_US.0, CHANGE_US.1);
            dir.exec.sleep(dir.process, span).await;
            put.await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.dir.act("receive a blob", self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
