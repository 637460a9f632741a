//! What an image is said to have is there, and nothing else is.
//!
//! An image without its bytes is lost data that was acknowledged; bytes without an image fill a disk that nobody looks at.
//! The first holds at any moment. What an upload that was cut off left, a record that is `saving` or a blob that nobody
//! names, is promised to be gone only after the next start of the image service, and is looked for only then; and so is a
//! disk that a node exported, after the next start of its agent.

use images::{Image, Status};

use super::{Scene, all};
use crate::cell::{BLOBS, sha256};

pub(super) fn check(scene: &Scene<'_>) -> Vec<String> {
    let images = match all::<Image>(scene.reader) {
        Ok(images) => images,
        Err(error) => return vec![format!("an image record cannot be read: {error}")],
    };
    let mut complaints = Vec::new();
    let mut unnamed = scene.files.images.clone();
    for image in &images {
        match &image.status {
            Status::Queued => {}
            Status::Saving(_) if scene.files.restarted => {
                complaints.push(format!("image {} is saving for ever", image.id))
            }
            Status::Saving(_) => {}
            Status::Active(content) | Status::Deactivated(content) => {
                let path = format!("{BLOBS}{}", content.sha256);
                unnamed.remove(&path);
                match scene.files.images.get(&path) {
                    None => complaints.push(format!("image {} is {} and has no bytes", image.id, image.status.name())),
                    Some(bytes) if sha256(bytes) != content.sha256 || bytes.len() as u64 != content.size_bytes => {
                        complaints.push(format!("image {} has other bytes than it says", image.id));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    if scene.files.restarted {
        complaints.extend(unnamed.into_keys().map(|path| format!("{path} is left, and no image names it")));
        complaints.extend(scene.files.exports.iter().map(|path| format!("the exported disk {path} is left")));
    }
    complaints
}
