//! What the cell begins with: a flavor, the shared network, an image, and the only tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use identity::{Caller, ProjectScope};
use images::{ContainerFormat, Content, DiskFormat, Image, ImageId, Project, Sha256, Status, Visibility};
use networks::Networks;
use placement::quota::Limits;
use servers::Flavor;
use store::{CommitError, Record, Txn, View};
use world::{Wall, World};

/// The flavor that every server has.
pub const FLAVOR: &str = "small";
/// The tenant's project.
pub const PROJECT: &str = "tenant";
/// Servers that the tenant may have at first: more than the nodes can hold, so that both limits are met.
pub const INSTANCES: u64 = 20;
/// The id of the image.
pub const IMAGE: &str = "00000000-0000-4000-8000-000000000001";

/// The tenant, with a token that does not expire.
pub fn caller() -> Caller {
    let domain = || ("default".parse().expect("a plain word is an id"), "Default".to_owned());
    Caller {
        user_id: "user".parse().expect("a plain word is an id"),
        user_name: "user".into(),
        user_domain: domain(),
        project: Some(ProjectScope {
            id: PROJECT.parse().expect("a plain word is an id"),
            name: PROJECT.into(),
            domain: domain(),
        }),
        domain: None,
        roles: vec!["member".into(), "reader".into()],
        issued: Wall::default(),
        expires: Wall::from_micros(u64::MAX),
        audit_ids: Vec::new(),
        methods: vec!["password".into()],
        application_credential: None,
    }
}

/// Makes what is missing.
pub(super) async fn seed(world: &World, view: &Arc<View>, networks: &Networks) -> Result<(), String> {
    let project = PROJECT.parse().expect("a plain word is an id");
    networks.bootstrap(&project, &[]).await.map_err(|error| error.to_string())?;
    let flavor = Flavor::plain(FLAVOR, FLAVOR, 1, 512, 1);
    let image = image(world);
    // Servers alone are counted: nothing else is to be the reason of a refusal.
    let own = [("instances", INSTANCES.cast_signed()), ("cores", -1), ("ram", -1)];
    let own = own.map(|(resource, limit)| (resource.to_owned(), limit));
    let limits = Limits { project: PROJECT.into(), limits: BTreeMap::from(own) };
    let records = [(flavor.key(), flavor.encode()), (image.key(), image.encode()), (limits.key(), limits.encode())];
    for (key, value) in records {
        let mut txn = Txn::new();
        txn.create(key, value);
        match view.store().commit(txn).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// The bytes of the image. Nodes do not fetch them: the fake machine keeps none.
pub(super) const IMAGE_BYTES: &[u8] = b"tiny";

/// The hash of a blob.
pub(crate) fn sha256(bytes: &[u8]) -> Sha256 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Sha256(digest.as_ref().try_into().expect("a SHA-256 has 32 bytes"))
}

fn image(world: &World) -> Image {
    let (size_bytes, sha256) = (IMAGE_BYTES.len() as u64, sha256(IMAGE_BYTES));
    let content = Content { size_bytes, virtual_bytes: 512, sha256, sha512: [0; 64], md5: [0; 16] };
    Image {
        id: IMAGE.parse::<ImageId>().expect("the constant is a UUID"),
        name: Some("tiny".into()),
        owner: Project::new(PROJECT),
        status: Status::Active(content),
        visibility: Visibility::Public,
        disk_format: Some(DiskFormat::Raw),
        container_format: Some(ContainerFormat::Bare),
        min_disk_gib: 0,
        min_ram_mib: 0,
        tags: BTreeSet::new(),
        properties: BTreeMap::new(),
        protected: false,
        hidden: false,
        created: world.wall(),
        updated: world.wall(),
        members: BTreeMap::new(),
    }
}
