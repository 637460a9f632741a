//! The node's cache of images, by content.
//!
//! An image comes into being by a rename, after its bytes have been verified against size, hash and what its own
//! header says: no backing file, no outside data file, the promised format and size. Beside it stands what it looked
//! like then; an image that looks different later (cut off, written to) is fetched again. Guests that want one image
//! at a time wait for one fetch.
//!
//! Absent: eviction.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::{DriverError, ImageRef, ImageSource};
use serde::{Deserialize, Serialize};

use crate::disk::Tools;
use crate::layout::{Layout, failed, off_thread, rename_synced, write_whole};

/// Bytes that must stay free on the node beside a new image.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// What an image file looked like when it was verified.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Seen {
    fn of(path: &Path) -> std::io::Result<Seen> {
        let meta = path.metadata()?;
        Ok(Seen { bytes: meta.len(), modified_s: meta.mtime(), modified_ns: meta.mtime_nsec() })
    }
}

pub(crate) struct Images {
    layout: Layout,
    fetches: parking_lot::Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Images {
    /// The cache under `layout`. Fetches that an earlier process left half done are removed.
    pub(crate) fn open(layout: &Layout) -> std::io::Result<Images> {
        for entry in std::fs::read_dir(layout.images())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part" || extension == "new") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(Images { layout: layout.clone(), fetches: parking_lot::Mutex::default() })
    }

    /// The verified file of `image`, fetched if it is not there.
    pub(crate) async fn ensure(
        &self,
        image: &ImageRef,
        source: &dyn ImageSource,
        tools: &Tools,
    ) -> Result<PathBuf, DriverError> {
        if image.sha256.len() != 64 || !image.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DriverError::Refused(format!("{:?} is not the hash of an image", image.sha256)));
        }
        let turn = Arc::clone(self.fetches.lock().entry(image.sha256.clone()).or_default());
        let _turn = turn.lock().await;
        let path = self.layout.image(&image.sha256);
        if self.intact(&path, image) {
            return Ok(path);
        }
        self.room_for(image)?;
        let part = path.with_extension("part");
        let result = self.fetch(image, source, tools, &part, &path).await;
        if result.is_err() {
            let _may_not_exist = std::fs::remove_file(&part);
        }
        result.map(|()| path)
    }

    fn intact(&self, path: &Path, image: &ImageRef) -> bool {
        let recorded: Option<Seen> =
            std::fs::read(path.with_extension("seen")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let now = Seen::of(path).ok();
        let intact = now.is_some() && now == recorded && now.is_some_and(|seen| seen.bytes == image.size_bytes);
        if path.exists() && !intact {
            tracing::warn!(
                image = image.sha256,
                "the cached image has changed since it was verified; it is fetched again"
            );
        }
        intact
    }

    fn room_for(&self, image: &ImageRef) -> Result<(), DriverError> {
        let free =
            crate::host::free_bytes(self.layout.root()).map_err(|error| failed("cannot look at the disk", &error))?;
        if free < image.size_bytes.saturating_add(FREE_BYTES_MIN) {
            return Err(DriverError::Refused(format!(
                "no space left on the node's disk: the image takes {} MiB, {} MiB are free, and {} MiB must stay so",
                image.size_bytes >> 20,
                free >> 20,
                FREE_BYTES_MIN >> 20
            )));
        }
        Ok(())
    }

    async fn fetch(
        &self,
        image: &ImageRef,
        source: &dyn ImageSource,
        tools: &Tools,
        part: &Path,
        path: &Path,
    ) -> Result<(), DriverError> {
        source.fetch(image, part).await?;
        let (file, wanted) = (part.to_path_buf(), image.clone());
        off_thread("verify an image", move || verify(&file, &wanted)).await?;
        tools.check_image(part, image).await?;
        let keep = |error: std::io::Error| failed("cannot keep the image", &error);
        rename_synced(part, path).map_err(keep)?;
        let seen = serde_json::to_vec(&Seen::of(path).map_err(keep)?).expect("three numbers have a JSON form");
        write_whole(&path.with_extension("seen"), &seen).map_err(keep)
    }
}

/// Compares size and hash, and makes the file durable.
fn verify(path: &Path, image: &ImageRef) -> Result<(), DriverError> {
    let unreadable = |error: std::io::Error| failed("cannot read the fetched image", &error);
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        hash.update(&buffer[..count]);
    }
    let found = hex::encode(hash.finish());
    if bytes != image.size_bytes || found != image.sha256 {
        return Err(DriverError::Refused(format!(
            "the image is corrupt: {bytes} bytes with SHA-256 {found} instead of {} bytes with {}",
            image.size_bytes, image.sha256
        )));
    }
    file.sync_all().map_err(|error| failed("cannot keep the image", &error))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use driver::ImageFormat;

    use super::*;

    struct Counted {
        content: Vec<u8>,
        fetches: AtomicUsize,
    }

    #[async_trait]
    impl ImageSource for Counted {
        async fn fetch(&self, _: &ImageRef, into: &Path) -> Result<(), DriverError> {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            std::fs::write(into, &self.content).map_err(|error| failed("cannot write", &error))
        }
    }

    fn image_of(content: &[u8]) -> ImageRef {
        let sha256 = hex::encode(ring::digest::digest(&ring::digest::SHA256, content));
        let bytes = content.len() as u64;
        ImageRef { sha256, format: ImageFormat::Raw, size_bytes: bytes, virtual_size_bytes: bytes }
    }

    #[tokio::test]
    async fn one_fetch_serves_all_and_damage_is_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(&Layout::create(dir.path()).unwrap()).unwrap();
        let source = Counted { content: vec![1; 4096], fetches: AtomicUsize::new(0) };
        let (image, tools) = (image_of(&source.content), Tools::default());
        let (one, two) = tokio::join!(images.ensure(&image, &source, &tools), images.ensure(&image, &source, &tools));
        assert_eq!((one.clone(), source.fetches.load(Ordering::Relaxed)), (two, 1));
        std::fs::write(one.clone().unwrap(), b"cut").unwrap();
        assert_eq!(images.ensure(&image, &source, &tools).await, one);
        assert_eq!((source.fetches.load(Ordering::Relaxed), std::fs::read(one.unwrap()).unwrap()), (2, source.content));
    }

    #[tokio::test]
    async fn a_wrong_image_is_refused_with_the_reason_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(&Layout::create(dir.path()).unwrap()).unwrap();
        let tools = Tools::default();
        let refused = async |content: &[u8], image: &ImageRef| {
            let source = Counted { content: content.to_vec(), fetches: AtomicUsize::new(0) };
            match images.ensure(image, &source, &tools).await {
                Err(DriverError::Refused(text)) => text,
                other => panic!("{other:?}"),
            }
        };
        let text = refused(&[2; 4096], &image_of(&[1; 4096])).await;
        assert!(text.contains("corrupt"), "{text}");
        let mut lying = image_of(&[1; 4096]);
        lying.virtual_size_bytes = 512;
        let text = refused(&[1; 4096], &lying).await;
        assert!(text.contains("512"), "{text}");
        let mut no_qcow2 = image_of(&[1; 4096]);
        no_qcow2.format = ImageFormat::Qcow2;
        refused(&[1; 4096], &no_qcow2).await;
        let mut huge = image_of(&[1; 4096]);
        huge.size_bytes = 1 << 60;
        let text = refused(&[1; 4096], &huge).await;
        assert!(text.contains("no space left"), "{text}");
        assert_eq!(std::fs::read_dir(dir.path().join("images")).unwrap().count(), 0);
    }
}
