//! Who is calling: what a verified token says.
//!
//! A [`Caller`] is a fact about one token at the moment of its verification; it is shared between all requests that
//! carry that token, and forgotten soon.

use world::Wall;

use crate::name::{DomainId, ProjectId, UserId};

/// A project with the names that people know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectScope {
    /// The project.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its domain: id and name.
    pub domain: (DomainId, String),
}

/// The owner of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user_id: UserId,
    /// The user's name.
    pub user_name: String,
    /// The user's domain: id and name.
    pub user_domain: (DomainId, String),
    /// The project that the token is for, if it is for one.
    pub project: Option<ProjectScope>,
    /// The domain that the token is for, if it is for one.
    pub domain: Option<(DomainId, String)>,
    /// The names of the roles that the user has there, implied ones included, sorted.
    pub roles: Vec<String>,
    /// When the token was issued.
    pub issued: Wall,
    /// From when on it is no longer good.
    pub expires: Wall,
    /// The token's audit ids: its own, then that of the first of its chain if it was got with another token.
    pub audit_ids: Vec<String>,
    /// How the user proved who it is: `password`, `token`, `application_credential`.
    pub methods: Vec<String>,
    /// The application credential that was used, if one was.
    pub application_credential: Option<String>,
}

/// A token that is not for a project was used for something that belongs to projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this token is not for a project: ask for one with a project in its scope")]
pub struct NoProject;

/// The caller lacks a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs the role {role} in the project or domain that the token is for")]
pub struct NotPermitted {
    /// The role.
    pub role: &'static str,
}

/// A token is not accepted, or cannot be judged now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It is damaged, expired, revoked, or was never issued here.
    #[error("the token is not valid: {0}")]
    Invalid(&'static str),
    /// It cannot be verified at the moment; it may be sent again.
    #[error("tokens cannot be verified now: {0}")]
    NotNow(String),
}

impl Caller {
    /// The project that the token is for.
    pub fn project(&self) -> Result<&ProjectId, NoProject> {
        self.project.as_ref().map(|scope| &scope.id).ok_or(NoProject)
    }

    /// Whether the token is for the cloud itself: it has roles, and is for no project and no domain.
    pub fn is_system(&self) -> bool {
        self.project.is_none() && self.domain.is_none() && !self.roles.is_empty()
    }

    /// Whether the token is for exactly this project.
    pub fn is_in(&self, project: &ProjectId) -> bool {
        self.project.as_ref().is_some_and(|scope| scope.id == *project)
    }

    /// Whether the caller has this role where the token is for; a higher role includes the lower ones.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|have| have == role)
    }

    /// Whether the caller may see and change everything.
    pub fn is_admin(&self) -> bool {
        self.has_role("admin")
    }

    /// Refuses a caller who is no admin.
    pub fn require_admin(&self) -> Result<(), NotPermitted> {
        self.require("admin")
    }

    /// Refuses a caller without `role`.
    pub fn require(&self, role: &'static str) -> Result<(), NotPermitted> {
        if self.has_role(role) { Ok(()) } else { Err(NotPermitted { role }) }
    }

    /// Whether the caller may see what belongs to `project`: its members and readers may, and every admin.
    pub fn may_see(&self, project: &ProjectId) -> bool {
        self.is_admin() || (self.is_in(project) && self.has_role("reader"))
    }

    /// Whether the caller may change what belongs to `project`: its members may, and every admin.
    pub fn may_change(&self, project: &ProjectId) -> bool {
        self.is_admin() || (self.is_in(project) && self.has_role("member"))
    }
}
