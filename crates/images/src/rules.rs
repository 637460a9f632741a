//! Who may see an image, who may change it, and how. Pure: a record and a wish in, a record or a reason out.
//!
//! An image that somebody may not see is absent for them. Readers read; members of the owning project change; some wishes
//! (public, another owner) are for administrators.

use world::Wall;

use crate::image::{ContainerFormat, DiskFormat, Image, Member, MemberStatus, Project, Status, Visibility};

/// Characters in a name, a tag, or the name of a property.
pub const NAME_CHARS_MAX: usize = 255;
/// Characters in the value of a property.
pub const VALUE_CHARS_MAX: usize = 8192;
/// Tags of one image.
pub const TAGS_MAX: usize = 128;
/// Custom properties of one image.
pub const PROPERTIES_MAX: usize = 128;
/// Projects that one image is shared with.
pub const MEMBERS_MAX: usize = 128;
/// Bytes of all texts of one image together: a view holds every record in memory.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Whose eyes look at images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The project that the request is for.
    pub project: Option<Project>,
    /// Sees and changes everything.
    pub admin: bool,
    /// May change what belongs to its project; without it, only look.
    pub writes: bool,
}

impl Viewer {
    /// The cloud itself: for workflows that have checked their user already.
    pub const CLOUD: Viewer = Viewer { project: None, admin: true, writes: true };

    /// Whether the image belongs to the viewer's project.
    pub fn owns(&self, image: &Image) -> bool {
        self.project.as_ref() == Some(&image.owner)
    }

    /// What the viewer's project answered to the offer of this image, if it is shared with it.
    pub fn membership(&self, image: &Image) -> Option<MemberStatus> {
        let member = self.project.as_ref().and_then(|project| image.members.get(project));
        member.filter(|_| image.visibility == Visibility::Shared).map(|member| member.status)
    }

    /// Whether the image exists as far as this viewer can tell.
    pub fn sees(&self, image: &Image) -> bool {
        match image.visibility {
            Visibility::Public | Visibility::Community => true,
            Visibility::Shared | Visibility::Private => {
                self.admin || self.owns(image) || self.membership(image).is_some()
            }
        }
    }

    /// Whether the viewer may change the image.
    pub fn may_change(&self, image: &Image) -> Result<(), ChangeError> {
        if self.writes && (self.admin || self.owns(image)) { Ok(()) } else { Err(ChangeError::Forbidden) }
    }

    /// Whether the viewer may have its bytes.
    pub fn may_download(&self, image: &Image) -> bool {
        match image.status {
            Status::Queued | Status::Saving(_) | Status::Active(_) => true,
            Status::Deactivated(_) => self.admin,
        }
    }
}

/// One wish about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its name.
    Name(Option<String>),
    /// Who may see it.
    Visibility(Visibility),
    /// What its bytes are; only while it has none.
    DiskFormat(Option<DiskFormat>),
    /// What is around its bytes; only while it has none.
    ContainerFormat(Option<ContainerFormat>),
    /// The smallest root disk.
    MinDiskGib(u32),
    /// The smallest memory.
    MinRamMib(u32),
    /// Whether deletion is refused.
    Protected(bool),
    /// Whether lists leave it out.
    Hidden(bool),
    /// Another owner.
    Owner(Project),
    /// All tags.
    Tags(Vec<String>),
    /// One tag more.
    AddTag(String),
    /// One tag less.
    RemoveTag(String),
    /// A custom property.
    SetProperty(String, String),
    /// No longer a custom property.
    RemoveProperty(String),
    /// Withheld, or given out again.
    Deactivated(bool),
    /// Shared with one project more.
    AddMember(Project),
    /// Shared with one project less.
    RemoveMember(Project),
    /// A member's own answer.
    Answer(Project, MemberStatus),
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It is not theirs, or they may only read.
    #[error("you may not change this image")]
    Forbidden,
    /// For administrators.
    #[error("only an administrator may {what}")]
    AdminOnly {
        /// What.
        what: &'static str,
    },
    /// It has its bytes already.
    #[error("{what} cannot be changed once the image has data")]
    HasData {
        /// What.
        what: &'static str,
    },
    /// It is not in a state for that.
    #[error("the image is {status}; {needed}")]
    Status {
        /// What it is.
        status: &'static str,
        /// What it should be.
        needed: &'static str,
    },
    /// Beyond a limit.
    #[error("{what}: at most {max} are possible")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// A value that cannot be.
    #[error("{what}")]
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
    /// There is none.
    #[error("the image has no {what} {name:?}")]
    Missing {
        /// What.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// There is one already.
    #[error("the image is shared with {project} already")]
    MemberTwice {
        /// With whom.
        project: Project,
    },
    /// Sharing is for shared images.
    #[error("only an image whose visibility is \"shared\" has members; this one is {visibility}")]
    NotShared {
        /// What it is.
        visibility: &'static str,
    },
}

/// The image after `changes`, in order; all or none.
pub fn apply(image: &Image, viewer: &Viewer, changes: Vec<Change>, now: Wall) -> Result<Image, ChangeError> {
    let mut next = image.clone();
    for change in changes {
        change_one(&mut next, viewer, change, now)?;
    }
    check_limits(&next)?;
    next.updated = now;
    Ok(next)
}

fn change_one(image: &mut Image, viewer: &Viewer, change: Change, now: Wall) -> Result<(), ChangeError> {
    if let Change::Answer(project, status) = change {
        return answer(image, viewer, project, status, now);
    }
    viewer.may_change(image)?;
    match change {
        Change::Name(name) => image.name = name,
        Change::Visibility(visibility) => {
            if visibility == Visibility::Public && image.visibility != visibility && !viewer.admin {
                return Err(ChangeError::AdminOnly { what: "make an image public" });
            }
            image.visibility = visibility;
        }
        Change::DiskFormat(format) => {
            still_queued(image, image.disk_format == format, "the disk format")?;
            image.disk_format = format;
        }
        Change::ContainerFormat(format) => {
            still_queued(image, image.container_format == format, "the container format")?;
            image.container_format = format;
        }
        Change::MinDiskGib(gib) => image.min_disk_gib = gib,
        Change::MinRamMib(mib) => image.min_ram_mib = mib,
        Change::Protected(protected) => image.protected = protected,
        Change::Hidden(hidden) => image.hidden = hidden,
        Change::Owner(owner) => {
            if owner != image.owner && !viewer.admin {
                return Err(ChangeError::AdminOnly { what: "give an image to another project" });
            }
            image.owner = owner;
        }
        Change::Tags(tags) => image.tags = tags.into_iter().collect(),
        Change::AddTag(tag) => {
            image.tags.insert(tag);
        }
        Change::RemoveTag(tag) => {
            if !image.tags.remove(&tag) {
                return Err(ChangeError::Missing { what: "tag", name: tag });
            }
        }
        Change::SetProperty(name, value) => {
            image.properties.insert(name, value);
        }
        Change::RemoveProperty(name) => {
            if image.properties.remove(&name).is_none() {
                return Err(ChangeError::Missing { what: "property", name });
            }
        }
        Change::Deactivated(deactivated) => image.status = withheld(&image.status, deactivated)?,
        Change::AddMember(project) => add_member(image, project, now)?,
        Change::RemoveMember(project) => {
            if image.members.remove(&project).is_none() {
                return Err(ChangeError::Missing { what: "member", name: project.to_string() });
            }
        }
        Change::Answer(..) => {}
    }
    Ok(())
}

fn still_queued(image: &Image, same: bool, what: &'static str) -> Result<(), ChangeError> {
    match image.status {
        Status::Queued => Ok(()),
        Status::Saving(_) | Status::Active(_) | Status::Deactivated(_) if same => Ok(()),
        Status::Saving(_) | Status::Active(_) | Status::Deactivated(_) => Err(ChangeError::HasData { what }),
    }
}

fn withheld(status: &Status, deactivated: bool) -> Result<Status, ChangeError> {
    match status {
        Status::Active(content) | Status::Deactivated(content) if deactivated => {
            Ok(Status::Deactivated(content.clone()))
        }
        Status::Active(content) | Status::Deactivated(content) => Ok(Status::Active(content.clone())),
        Status::Queued | Status::Saving(_) => {
            Err(ChangeError::Status { status: status.name(), needed: "it must have data for that" })
        }
    }
}

fn add_member(image: &mut Image, project: Project, now: Wall) -> Result<(), ChangeError> {
    if image.visibility != Visibility::Shared {
        return Err(ChangeError::NotShared { visibility: image.visibility.name() });
    }
    if image.members.contains_key(&project) {
        return Err(ChangeError::MemberTwice { project });
    }
    image.members.insert(project, Member { status: MemberStatus::Pending, created: now, updated: now });
    Ok(())
}

/// Only the member itself accepts or rejects; the owner has made its offer.
fn answer(
    image: &mut Image,
    viewer: &Viewer,
    project: Project,
    status: MemberStatus,
    now: Wall,
) -> Result<(), ChangeError> {
    if !viewer.writes || !(viewer.admin || viewer.project.as_ref() == Some(&project)) {
        return Err(ChangeError::Forbidden);
    }
    match image.members.get_mut(&project) {
        Some(member) => {
            member.status = status;
            member.updated = now;
            Ok(())
        }
        None => Err(ChangeError::Missing { what: "member", name: project.to_string() }),
    }
}

/// What every image must keep to, new or changed.
pub fn check_limits(image: &Image) -> Result<(), ChangeError> {
    let names = image.name.iter().chain(&image.tags).chain(image.properties.keys());
    if names.clone().any(|name| name.chars().count() > NAME_CHARS_MAX) {
        return Err(ChangeError::Invalid { what: "names, tags and names of properties have at most 255 characters" });
    }
    if image.properties.values().any(|value| value.chars().count() > VALUE_CHARS_MAX) {
        return Err(ChangeError::Invalid { what: "values of properties have at most 8192 characters" });
    }
    if image.properties.keys().any(String::is_empty) || image.tags.iter().any(String::is_empty) {
        return Err(ChangeError::Invalid { what: "tags and names of properties must not be empty" });
    }
    for (what, count, max) in [
        ("tags", image.tags.len(), TAGS_MAX),
        ("properties", image.properties.len(), PROPERTIES_MAX),
        ("members", image.members.len(), MEMBERS_MAX),
        ("bytes of text", names.chain(image.properties.values()).map(String::len).sum(), TEXT_BYTES_MAX),
    ] {
        if count > max {
            return Err(ChangeError::TooMany { what, max });
        }
    }
    Ok(())
}
