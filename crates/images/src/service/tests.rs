//! Uploads, races and deaths, on the memory store and a directory of the test's own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use store::port::Snapshot;
use store::{CommitError, Entry, Key, KeyRange, Page, ReadError, Revision, Store, Txn, View, Watch, WatchError};
use world::World;

use super::{ImageError, Images, Limits, indexes};
use crate::image::{ContainerFormat, DiskFormat, Image, ImageId, Project, Status};
use crate::rules::{Change, Viewer};
use crate::{BlobError, IngestError};

/// A directory that ends with the test.
struct Home {
    world: World,
    dir: PathBuf,
}

impl Home {
    fn new() -> Home {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mainstay-images-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Home { world: world::os::OsHost::world(tokio::runtime::Handle::current(), &dir), dir }
    }

    async fn open(&self, store: Arc<dyn Store>, limits: Limits) -> Arc<Images> {
        let view = View::open(&self.world, store, indexes()).await.unwrap();
        Images::open(&self.world, view, &self.dir.join("images"), limits).await.unwrap()
    }

    /// The files below the directory of images, by name.
    fn files(&self, below: &str) -> Vec<String> {
        let found = std::fs::read_dir(self.dir.join("images").join(below)).unwrap();
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.dir);
    }
}

fn owner() -> Viewer {
    Viewer { project: Some(Project::new("p1")), admin: false, writes: true }
}

async fn queued(images: &Images) -> Image {
    let changes = vec![Change::DiskFormat(Some(DiskFormat::Raw)), Change::ContainerFormat(Some(ContainerFormat::Bare))];
    images.create(&owner(), Project::new("p1"), None, changes).await.unwrap()
}

async fn upload(images: &Arc<Images>, id: ImageId, bytes: &'static [u8]) -> Result<Image, IngestError> {
    let body = stream::iter(bytes.chunks(7).map(|chunk| Ok::<_, String>(Bytes::from_static(chunk))));
    images.ingest(&owner(), id, None, body).await
}

/// Waits for a condition, not for a time.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "the test waits for the disk of the real world")]
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen");
}

#[tokio::test]
async fn bytes_come_back_and_the_last_image_takes_its_blob_along() {
    let home = Home::new();
    let images = home.open(Arc::new(store::memory::open(&home.world)), Limits::default()).await;
    let (one, two) = (queued(&images).await, queued(&images).await);
    let active = upload(&images, one.id, b"the bytes of a disk").await.unwrap();
    let content = active.content().unwrap().clone();
    assert_eq!(content.size_bytes, 19);
    assert_eq!(hex::encode(content.md5), "a6421c91f1f1055fe6958937d8699675");
    assert_eq!(content.sha256.to_string(), "d6b9198431a9082c23c7ea56192312a643073a13dce4c2c39b7eee8da108afed");
    upload(&images, two.id, b"the bytes of a disk").await.unwrap();
    assert_eq!(home.files("blobs"), [content.sha256.to_string()]);
    assert!(home.files("incoming").is_empty());

    let part = images.open_blob(content.sha256, Some(4..9)).await.unwrap();
    let part: Vec<Bytes> = part.bytes.try_collect().await.unwrap();
    assert_eq!(part.concat(), b"bytes");
    assert!(matches!(images.open_blob(content.sha256, Some(19..20)).await, Err(BlobError::Range { size_bytes: 19 })));

    images.delete(&owner(), one.id).await.unwrap();
    assert!(matches!(images.get(&owner(), one.id).await, Err(ImageError::NotFound)));
    let kept = images.open_blob(content.sha256, None).await.unwrap();
    images.delete(&owner(), two.id).await.unwrap();
    until("the removal of the blob", || home.files("blobs").is_empty()).await;
    let read: Vec<Bytes> = kept.bytes.try_collect().await.unwrap();
    assert_eq!(read.concat(), b"the bytes of a disk", "who has it open reads on");
}

#[tokio::test]
async fn what_is_refused_leaves_a_queued_image_and_no_file() {
    let home = Home::new();
    let limits = Limits { upload_bytes_max: 100, upload_idle_max: Duration::from_millis(50), ..Limits::default() };
    let images = home.open(Arc::new(store::memory::open(&home.world)), limits).await;
    let id = queued(&images).await.id;
    let broken = stream::iter([Ok(Bytes::from_static(b"half")), Err("the client went away")]);
    let endless = stream::iter([Ok::<_, String>(Bytes::from_static(b"first"))]).chain(stream::pending());
    let short = stream::iter([Ok::<_, String>(Bytes::from_static(b"short"))]);
    let results = [
        (upload(&images, id, b"QFI\xfb\0\0\0\x03 and so on").await, "said to be raw"),
        (upload(&images, id, &[0; 101]).await, "larger than 100 bytes"),
        (images.ingest(&owner(), id, None, broken).await, "the client went away"),
        (images.ingest(&owner(), id, None, endless).await, "nothing came"),
        (images.ingest(&owner(), id, Some(6), short).await, "6 bytes were announced, 5 came"),
    ];
    for (result, expected) in results {
        let reason = result.unwrap_err().to_string();
        assert!(reason.contains(expected), "{reason:?} should contain {expected:?}");
    }
    assert_eq!(images.get(&owner(), id).await.unwrap().status, Status::Queued);
    assert!(home.files("blobs").is_empty());
    until("the removal of leftovers", || home.files("incoming").is_empty()).await;
    upload(&images, id, b"at last").await.unwrap();
}

#[tokio::test]
async fn of_two_uploads_one_wins_and_a_deleted_image_keeps_nothing() {
    let home = Home::new();
    let images = home.open(Arc::new(store::memory::open(&home.world)), Limits::default()).await;
    let id = queued(&images).await.id;
    let (one, other) = tokio::join!(upload(&images, id, b"one"), upload(&images, id, b"other"));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert!(matches!(one.and(other), Err(IngestError::NotQueued { .. })));
    assert_eq!(home.files("blobs").len(), 1);

    let id = queued(&images).await.id;
    let (sender, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = stream::unfold(body, |mut body| async { body.recv().await.map(|bytes| (Ok::<_, String>(bytes), body)) });
    let viewer = owner();
    let uploading = images.ingest(&viewer, id, None, body);
    let deleting = async {
        sender.send(Bytes::from_static(b"too late")).await.unwrap();
        images.delete(&owner(), id).await.unwrap();
        drop(sender);
    };
    let (uploaded, ()) = tokio::join!(uploading, deleting);
    assert!(matches!(uploaded, Err(IngestError::Gone)), "{uploaded:?}");
    assert_eq!(home.files("blobs").len(), 1);
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let error = |kind: std::io::ErrorKind| object_store::Error::Generic {
        store: "test",
        source: Box::new(std::io::Error::from(kind)),
    };
    assert!(matches!(BlobError::from(error(std::io::ErrorKind::StorageFull)), BlobError::Full));
    assert!(matches!(BlobError::from(error(std::io::ErrorKind::PermissionDenied)), BlobError::Failed(_)));
}

/// A store that stops answering at its `last` commit: before doing it, or after.
struct Mortal {
    inner: Arc<dyn Store>,
    commits: AtomicUsize,
    last: usize,
    done: bool,
    died: tokio::sync::Notify,
}

#[async_trait]
impl Store for Mortal {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.inner.get(key).await
    }
    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.inner.range(range, limit).await
    }
    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        self.inner.watch(range, after).await
    }
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.inner.snapshot().await
    }
    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        if number >= self.last {
            if number == self.last && self.done {
                self.inner.commit(txn).await?;
            }
            self.died.notify_one();
            std::future::pending::<()>().await;
            return Err(CommitError::Unknown { reason: "dead".into() });
        }
        self.inner.commit(txn).await
    }
}

/// Kills the service around each commit of: create, upload, refused upload, delete. After each death a new service on the
/// same store and directory must find every image queued or active with its blob, and no other file.
#[tokio::test]
async fn a_death_around_any_commit_leaves_nothing_half_done() {
    let mut deaths = 0;
    for last in 1..=6 {
        for done in [false, true] {
            let home = Home::new();
            let inner: Arc<dyn Store> = Arc::new(store::memory::open(&home.world));
            let died = tokio::sync::Notify::new();
            let mortal = Arc::new(Mortal { inner: Arc::clone(&inner), commits: 0.into(), last, done, died });
            let images = home.open(Arc::clone(&mortal) as Arc<dyn Store>, Limits::default()).await;
            let life = async {
                let image = queued(&images).await;
                upload(&images, image.id, b"QFI\xfb").await.unwrap_err();
                upload(&images, image.id, b"bytes").await.unwrap();
                images.delete(&owner(), image.id).await.unwrap();
            };
            let (life, death) = (std::pin::pin!(life), std::pin::pin!(mortal.died.notified()));
            match futures_util::future::select(life, death).await {
                futures_util::future::Either::Left(((), _)) => panic!("it lived through commit {last}"),
                futures_util::future::Either::Right(((), _)) => deaths += 1,
            }
            let images = home.open(inner, Limits::default()).await;
            let all = images.list(|_| true).await.unwrap();
            let mut blobs = Vec::new();
            for image in &all {
                match &image.status {
                    Status::Queued => {
                        let active = upload(&images, image.id, b"again").await.unwrap();
                        blobs.push(active.content().unwrap().sha256.to_string());
                    }
                    Status::Active(content) => blobs.push(content.sha256.to_string()),
                    Status::Saving(_) | Status::Deactivated(_) => panic!("{last} {done}: {image:?}"),
                }
            }
            assert_eq!(home.files("blobs"), blobs, "{last} {done}");
            assert!(home.files("incoming").is_empty(), "{last} {done}");
        }
    }
    assert_eq!(deaths, 12);
}

/// A store that does what it is told and then, every time, says that it does not know.
struct Forgetful(Arc<dyn Store>, AtomicUsize);

#[async_trait]
impl Store for Forgetful {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.0.get(key).await
    }
    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.0.range(range, limit).await
    }
    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        self.0.watch(range, after).await
    }
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.0.snapshot().await
    }
    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        let result = self.0.commit(txn).await;
        let forgets = self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if forgets { Err(CommitError::Unknown { reason: "forgotten".into() }) } else { result }
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_by_asking_again() {
    let home = Home::new();
    let inner: Arc<dyn Store> = Arc::new(store::memory::open(&home.world));
    let images = home.open(Arc::new(Forgetful(inner, 0.into())), Limits::default()).await;
    let image = queued(&images).await;
    let tag = vec![Change::AddTag("t".into())];
    images.update(&owner(), image.id, |_| Ok::<_, std::convert::Infallible>(tag.clone())).await.unwrap();
    upload(&images, image.id, b"bytes").await.unwrap();
    images.delete(&owner(), image.id).await.unwrap();
    until("the removal of the blob", || home.files("blobs").is_empty()).await;
}
