//! Guests' disks, through `qemu-img`: overlays, the check of an image, export.
//!
//! Formats are always stated. An overlay names its image by a relative path, so the state directory may be moved;
//! QEMU itself never follows that name ([`crate::argv`] hands it both files).

use std::path::{Path, PathBuf};
use std::process::Stdio;

use driver::{DriverError, ImageRef};
use serde::Deserialize;

use crate::argv::format_name;
use crate::layout::{failed, rename_synced};

/// The programs that this driver starts.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The emulator.
    pub qemu: PathBuf,
    /// The tool for disk images that comes with it.
    pub qemu_img: PathBuf,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { qemu: "qemu-system-x86_64".into(), qemu_img: "qemu-img".into() }
    }
}

#[derive(Deserialize)]
struct Info {
    #[serde(rename = "virtual-size")]
    virtual_size: u64,
    #[serde(rename = "backing-filename")]
    backing: Option<String>,
    #[serde(rename = "format-specific")]
    specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Specific {
    #[serde(default)]
    data: serde_json::Value,
}

impl Tools {
    /// The same programs by their whole paths, where the environment's search path has them: guests are started with a
    /// search path of their own, and must get the program whose version was asked for.
    #[must_use]
    pub(crate) fn found(&self) -> Tools {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = |program: &Path| {
            let dirs = std::env::split_paths(&path).filter(|_| program.components().count() == 1);
            let mut places = dirs.map(|dir| dir.join(program));
            places.find(|place| place.is_file()).unwrap_or_else(|| program.to_path_buf())
        };
        Tools { qemu: found(&self.qemu), qemu_img: found(&self.qemu_img) }
    }

    /// Refuses an image that is not what was said, or that would reach beyond its own bytes.
    pub(crate) async fn check_image(&self, path: &Path, image: &ImageRef) -> Result<(), DriverError> {
        let arguments = ["info", "-f", format_name(image.format), "--output=json"].map(String::from);
        let text = self.image_tool("the image is corrupt", arguments.into(), &[path]).await?;
        let info: Info =
            serde_json::from_str(&text).map_err(|error| DriverError::Failed(format!("qemu-img info: {error}")))?;
        let outside = info.specific.as_ref().is_some_and(|specific| specific.data.get("data-file").is_some());
        if info.backing.is_some() || outside {
            return Err(DriverError::Refused("the image refers to another file; it must stand alone".into()));
        }
        // A raw image is rounded up to whole sectors.
        let rounded = image.virtual_size_bytes.next_multiple_of(512);
        if info.virtual_size != image.virtual_size_bytes && info.virtual_size != rounded {
            return Err(DriverError::Refused(format!(
                "the image describes a disk of {} bytes, not of {} as registered",
                info.virtual_size, image.virtual_size_bytes
            )));
        }
        Ok(())
    }

    /// The size of a disk that may be in use.
    pub(crate) async fn virtual_bytes(&self, disk: &Path) -> Result<u64, DriverError> {
        let arguments = ["info", "-U", "-f", "qcow2", "--output=json"].map(String::from);
        let text = self.image_tool("cannot look at the guest's disk", arguments.into(), &[disk]).await?;
        let info: Info =
            serde_json::from_str(&text).map_err(|error| DriverError::Failed(format!("qemu-img info: {error}")))?;
        Ok(info.virtual_size)
    }

    /// Makes the guest's disk over `base`, unless it is there. It comes into being by a rename, whole.
    pub(crate) async fn ensure_overlay(
        &self,
        disk: &Path,
        base: &Path,
        image: &ImageRef,
        disk_gib: u64,
    ) -> Result<(), DriverError> {
        let bytes = overlay_bytes(image, disk_gib)?;
        if disk.exists() {
            return Ok(());
        }
        let fresh = disk.with_extension("new");
        let name = base.file_name().and_then(|name| name.to_str()).expect("images are named by their hash");
        let mut arguments =
            ["create", "-q", "-f", "qcow2", "-F", format_name(image.format), "-b"].map(String::from).to_vec();
        arguments.push(format!("../../images/{name}"));
        arguments.push(fresh.to_str().ok_or_else(not_text)?.to_owned());
        arguments.push(bytes.to_string());
        self.image_tool("cannot make the guest's disk", arguments, &[]).await?;
        let durable =
            std::fs::File::open(&fresh).and_then(|file| file.sync_all()).and_then(|()| rename_synced(&fresh, disk));
        durable.map_err(|error| failed("cannot make the guest's disk", &error))
    }

    /// Makes an empty qcow2 file for a disk of `bytes`.
    pub(crate) async fn create_empty(&self, into: &Path, bytes: u64) -> Result<(), DriverError> {
        let mut arguments = ["create", "-q", "-f", "qcow2"].map(String::from).to_vec();
        arguments.push(into.to_str().ok_or_else(not_text)?.to_owned());
        arguments.push(bytes.to_string());
        self.image_tool("cannot make the exported disk", arguments, &[]).await.map(drop)
    }

    /// Writes a disk that nobody uses, and what is under it, as one qcow2 file.
    pub(crate) async fn flatten(&self, disk: &Path, into: &Path) -> Result<(), DriverError> {
        let arguments = ["convert", "-q", "-f", "qcow2", "-O", "qcow2"].map(String::from).to_vec();
        self.image_tool("cannot export the guest's disk", arguments, &[disk, into]).await.map(drop)
    }

    async fn image_tool(&self, what: &str, arguments: Vec<String>, files: &[&Path]) -> Result<String, DriverError> {
        let mut command = tokio::process::Command::new(&self.qemu_img);
        command.args(arguments).args(files).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| missing(&self.qemu_img, &error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if said.contains("No space left on device") {
            return Err(DriverError::Refused(format!("{what}: no space left on the node's disk")));
        }
        Err(DriverError::Refused(format!("{what}: {said}")))
    }

    /// The emulator's version: major, minor, micro.
    pub(crate) async fn version(&self) -> Result<(u64, u64, u64), DriverError> {
        let mut command = tokio::process::Command::new(&self.qemu);
        command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| missing(&self.qemu, &error))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        parse_version(&text).ok_or_else(|| {
            DriverError::Refused(format!("{} does not tell its version: {}", self.qemu.display(), text.trim()))
        })
    }
}

fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let mut parts = text.split("version ").nth(1)?.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut number = || parts.next().and_then(Result::ok);
    Some((number()?, number()?, number().unwrap_or(0)))
}

fn overlay_bytes(image: &ImageRef, disk_gib: u64) -> Result<u64, DriverError> {
    let flavor = disk_gib << 30;
    match disk_gib {
        0 => Ok(image.virtual_size_bytes),
        _ if flavor < image.virtual_size_bytes => Err(DriverError::Refused(format!(
            "the flavor's disk of {disk_gib} GiB is smaller than the image's disk of {} bytes",
            image.virtual_size_bytes
        ))),
        _ => Ok(flavor),
    }
}

fn not_text() -> DriverError {
    DriverError::Refused("the state directory's path is not UTF-8".into())
}

/// A program could not be started.
pub(crate) fn missing(program: &Path, error: &std::io::Error) -> DriverError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return DriverError::Refused(format!("{} is not installed on this node", program.display()));
    }
    failed(&format!("cannot start {}", program.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_program_says() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright";
        assert_eq!(parse_version(debian), Some((7, 2, 22)));
        assert_eq!(parse_version("QEMU emulator version 10.1.0"), Some((10, 1, 0)));
        assert_eq!(parse_version("no emulator"), None);
    }

    #[test]
    fn a_disk_is_never_smaller_than_what_it_starts_from() {
        let mut image = crate::tests_support::spec().image;
        image.virtual_size_bytes = (1 << 30) + 1;
        assert_eq!(overlay_bytes(&image, 0), Ok((1 << 30) + 1));
        assert_eq!(overlay_bytes(&image, 2), Ok(2 << 30));
        assert!(matches!(overlay_bytes(&image, 1), Err(DriverError::Refused(text)) if text.contains("1 GiB")));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let tools = Tools { qemu: "no-such-qemu".into(), qemu_img: "no-such-img".into() };
        let refused = DriverError::Refused("no-such-qemu is not installed on this node".into());
        assert_eq!(tools.version().await, Err(refused));
    }
}
