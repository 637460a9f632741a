//! How images are stored: the table, its message, and both conversions.

use bytes::Bytes;
use proto::image::state::v1 as stored;
use store::Record;
use world::Wall;

use crate::image::{
    ContainerFormat, Content, DiskFormat, Image, Member, MemberStatus, Project, Sha256, Status, Upload, Visibility,
};

impl Record for Image {
    const TABLE: &'static str = "image/";
    type Stored = stored::Image;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> stored::Image {
        let (status, content, upload) = status_to(&self.status);
        stored::Image {
            id: self.id.to_string(),
            name: self.name.clone(),
            owner: self.owner.as_str().to_owned(),
            status: status.into(),
            visibility: visibility_to(self.visibility).into(),
            disk_format: disk_format_to(self.disk_format).into(),
            container_format: container_format_to(self.container_format).into(),
            min_disk_gib: self.min_disk_gib,
            min_ram_mib: self.min_ram_mib,
            content,
            tags: self.tags.iter().cloned().collect(),
            properties: self
                .properties
                .iter()
                .map(|(name, value)| stored::Property { name: name.clone(), value: value.clone() })
                .collect(),
            protected: self.protected,
            hidden: self.hidden,
            created_us: self.created.as_micros(),
            updated_us: self.updated.as_micros(),
            members: self.members.iter().map(|(project, member)| member_to(project, member)).collect(),
            upload,
        }
    }

    fn from_stored(image: stored::Image) -> Result<Image, String> {
        let (visibility, disk_format) = (image.visibility(), image.disk_format());
        let (container_format, status) = (image.container_format(), image.status());
        Ok(Image {
            id: image.id.parse().map_err(|error: ids::BadId| error.to_string())?,
            name: image.name,
            owner: Project::new(image.owner),
            status: status_from(status, image.content, image.upload)?,
            visibility: visibility_from(visibility)?,
            disk_format: disk_format_from(disk_format),
            container_format: container_format_from(container_format),
            min_disk_gib: image.min_disk_gib,
            min_ram_mib: image.min_ram_mib,
            tags: image.tags.into_iter().collect(),
            properties: image.properties.into_iter().map(|property| (property.name, property.value)).collect(),
            protected: image.protected,
            hidden: image.hidden,
            created: Wall::from_micros(image.created_us),
            updated: Wall::from_micros(image.updated_us),
            members: image.members.into_iter().map(member_from).collect::<Result<_, _>>()?,
        })
    }
}

fn status_to(status: &Status) -> (stored::Status, Option<stored::Content>, Option<stored::Upload>) {
    match status {
        Status::Queued => (stored::Status::Queued, None, None),
        Status::Saving(upload) => {
            let upload = stored::Upload { token: upload.token.clone(), run: upload.run.clone() };
            (stored::Status::Saving, None, Some(upload))
        }
        Status::Active(content) => (stored::Status::Active, Some(content_to(content)), None),
        Status::Deactivated(content) => (stored::Status::Deactivated, Some(content_to(content)), None),
    }
}

fn status_from(
    status: stored::Status,
    content: Option<stored::Content>,
    upload: Option<stored::Upload>,
) -> Result<Status, String> {
    match (status, content, upload) {
        (stored::Status::Queued, None, None) => Ok(Status::Queued),
        (stored::Status::Saving, None, Some(upload)) => {
            Ok(Status::Saving(Upload { token: upload.token, run: upload.run }))
        }
        (stored::Status::Active, Some(content), None) => Ok(Status::Active(content_from(content)?)),
        (stored::Status::Deactivated, Some(content), None) => Ok(Status::Deactivated(content_from(content)?)),
        (status, content, upload) => Err(format!(
            "status {} does not go with content {} and upload {}",
            status.as_str_name(),
            content.is_some(),
            upload.is_some()
        )),
    }
}

fn content_to(content: &Content) -> stored::Content {
    stored::Content {
        size_bytes: content.size_bytes,
        virtual_bytes: content.virtual_bytes,
        sha256: Bytes::copy_from_slice(&content.sha256.0),
        sha512: Bytes::copy_from_slice(&content.sha512),
        md5: Bytes::copy_from_slice(&content.md5),
    }
}

fn content_from(content: stored::Content) -> Result<Content, String> {
    fn hash<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
        bytes.try_into().map_err(|_| format!("a hash has {} bytes instead of {N}", bytes.len()))
    }
    Ok(Content {
        size_bytes: content.size_bytes,
        virtual_bytes: content.virtual_bytes,
        sha256: Sha256(hash(&content.sha256)?),
        sha512: hash(&content.sha512)?,
        md5: hash(&content.md5)?,
    })
}

fn member_to(project: &Project, member: &Member) -> stored::Member {
    let status = match member.status {
        MemberStatus::Pending => stored::MemberStatus::Pending,
        MemberStatus::Accepted => stored::MemberStatus::Accepted,
        MemberStatus::Rejected => stored::MemberStatus::Rejected,
    };
    stored::Member {
        project: project.as_str().to_owned(),
        status: status.into(),
        created_us: member.created.as_micros(),
        updated_us: member.updated.as_micros(),
    }
}

fn member_from(member: stored::Member) -> Result<(Project, Member), String> {
    let status = match member.status() {
        stored::MemberStatus::Pending => MemberStatus::Pending,
        stored::MemberStatus::Accepted => MemberStatus::Accepted,
        stored::MemberStatus::Rejected => MemberStatus::Rejected,
        stored::MemberStatus::Unspecified => return Err("a member has no status".into()),
    };
    let (created, updated) = (Wall::from_micros(member.created_us), Wall::from_micros(member.updated_us));
    Ok((Project::new(member.project), Member { status, created, updated }))
}

fn visibility_to(visibility: Visibility) -> stored::Visibility {
    match visibility {
        Visibility::Private => stored::Visibility::Private,
        Visibility::Shared => stored::Visibility::Shared,
        Visibility::Community => stored::Visibility::Community,
        Visibility::Public => stored::Visibility::Public,
    }
}

fn visibility_from(visibility: stored::Visibility) -> Result<Visibility, String> {
    match visibility {
        stored::Visibility::Private => Ok(Visibility::Private),
        stored::Visibility::Shared => Ok(Visibility::Shared),
        stored::Visibility::Community => Ok(Visibility::Community),
        stored::Visibility::Public => Ok(Visibility::Public),
        stored::Visibility::Unspecified => Err("it has no visibility".into()),
    }
}

fn disk_format_to(format: Option<DiskFormat>) -> stored::DiskFormat {
    match format {
        None => stored::DiskFormat::Unspecified,
        Some(DiskFormat::Raw) => stored::DiskFormat::Raw,
        Some(DiskFormat::Qcow2) => stored::DiskFormat::Qcow2,
    }
}

fn disk_format_from(format: stored::DiskFormat) -> Option<DiskFormat> {
    match format {
        stored::DiskFormat::Unspecified => None,
        stored::DiskFormat::Raw => Some(DiskFormat::Raw),
        stored::DiskFormat::Qcow2 => Some(DiskFormat::Qcow2),
    }
}

fn container_format_to(format: Option<ContainerFormat>) -> stored::ContainerFormat {
    match format {
        None => stored::ContainerFormat::Unspecified,
        Some(ContainerFormat::Bare) => stored::ContainerFormat::Bare,
    }
}

fn container_format_from(format: stored::ContainerFormat) -> Option<ContainerFormat> {
    match format {
        stored::ContainerFormat::Unspecified => None,
        stored::ContainerFormat::Bare => Some(ContainerFormat::Bare),
    }
}

/// The terms of the index over blobs: the hash of the blob that a stored image names.
pub(crate) fn blob_terms(bytes: &Bytes) -> Vec<String> {
    let image = Image::decode(bytes).ok();
    image.as_ref().and_then(Image::content).map(|content| content.sha256.to_string()).into_iter().collect()
}
