//! What a new cell begins with: people and roles, flavors, a shared network, the image `tiny`. Every part is made if it
//! is missing, so that a start that was cut short is completed by the next one.

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream;
use identity::{BootstrapParams, Identity, ProjectId};
use images::{Change, ContainerFormat, DiskFormat, Image, ImageId, Images, Project, Viewer, Visibility};
use networks::Networks;
use std::path::Path;
use std::sync::Arc;

use super::Process;
use crate::args::DriverKind;
use crate::home::REGION;

/// The image that every cell has.
const IMAGE: &str = "tiny";
/// Bytes that are read from the guest image at a time.
const PIECE_BYTES: usize = 1 << 20;

pub(super) async fn seed(
    process: &Process,
    identity: &Arc<Identity>,
    networks: &Networks,
    images: &Arc<Images>,
    public_url: &str,
) -> anyhow::Result<()> {
    let home = &process.base.plan.home;
    let params = BootstrapParams {
        admin_password: home.admin_password()?,
        region: REGION.into(),
        public_url: public_url.to_owned(),
    };
    identity.bootstrap(&params).await.context("cannot set up identity")?;
    servers::bootstrap(&process.view, &process.base.world).await.context("cannot set up flavors")?;
    let project = admin_project(identity).await?;
    shared_network(process, networks, &project).await.context("cannot set up the shared network")?;
    image(process, images, &project).await.context("cannot set up the image tiny")
}

async fn admin_project(identity: &Arc<Identity>) -> anyhow::Result<ProjectId> {
    let projects = identity.all::<identity::record::Project>().await?;
    let admin = projects.into_iter().find(|project| project.name == "admin");
    Ok(admin.context("the project admin was removed")?.id)
}

/// The network's ranges are drawn once, at the cell's first start, beside all that this machine reaches then.
async fn shared_network(process: &Process, networks: &Networks, project: &ProjectId) -> anyhow::Result<()> {
    if networks.has_shared_network().await? {
        return Ok(());
    }
    let elsewhere = match process.base.plan.home.cell.driver {
        // This blocks for milliseconds, once in the cell's life and before it answers anybody.
        DriverKind::Qemu => node_net::reached_by_host()?,
        // Its guests have addresses and no packets.
        DriverKind::Fake => Vec::new(),
    };
    Ok(networks.bootstrap(project, &elsewhere).await?)
}

/// The id of the image is derived from the cell, so that a start that was cut short finds what it had begun.
async fn image(process: &Process, images: &Arc<Images>, owner: &ProjectId) -> anyhow::Result<()> {
    let cell = &process.base.plan.home.cell;
    let mut bits = [0x5a; 16];
    cell.tag.bytes().enumerate().for_each(|(at, byte)| bits[at % 16] ^= byte);
    let id = ImageId::from_uuid(ids::uuid::Builder::from_random_bytes(bits).into_uuid());
    let (content, format) = match cell.driver {
        DriverKind::Fake => (Content::Placeholder, DiskFormat::Raw),
        DriverKind::Qemu => match guest_image() {
            Some(path) => (Content::File(path), DiskFormat::Qcow2),
            None => {
                tracing::warn!("the guest image has not been built (cargo xtask guest-image): there is no image tiny");
                return Ok(());
            }
        },
    };
    let there = images.get(&Viewer::CLOUD, id).await;
    if there.as_ref().is_ok_and(|image| image.content().is_some()) {
        return Ok(());
    }
    if there.is_err() {
        let changes = vec![
            Change::Name(Some(IMAGE.into())),
            Change::Visibility(Visibility::Public),
            Change::DiskFormat(Some(format)),
            Change::ContainerFormat(Some(ContainerFormat::Bare)),
        ];
        images.create(&Viewer::CLOUD, Project::new(owner.as_str()), Some(id), changes).await?;
    }
    let _active: Image = match content {
        Content::Placeholder => {
            let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(&[0; 4096]))]);
            images.ingest(&Viewer::CLOUD, id, None, body).await?
        }
        Content::File(path) => images.ingest(&Viewer::CLOUD, id, None, pieces(&path)?).await?,
    };
    Ok(())
}

enum Content {
    Placeholder,
    File(std::path::PathBuf),
}

/// The guest image: where the environment says, or where `cargo xtask guest-image` puts it.
fn guest_image() -> Option<std::path::PathBuf> {
    if let Some(path) = std::env::var_os("MAINSTAY_TINY") {
        return Some(path.into());
    }
    let beside = std::env::current_exe().ok()?.parent()?.parent()?.join("guest/tiny.qcow2");
    beside.exists().then_some(beside)
}

fn pieces(path: &Path) -> anyhow::Result<impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + use<>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(stream::unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE_BYTES];
        match std::io::Read::read(&mut file, &mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(Bytes::from(piece)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    }))
}
