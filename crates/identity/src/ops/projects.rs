//! Projects.

use store::{Reader, Record, Txn};

use super::{claim, hang_on, rename, set};
use crate::check;
use crate::error::Error;
use crate::index::{CREDENTIALS_BY_PROJECT, GRANTS_BY_TARGET};
use crate::record::{ApplicationCredential, Domain, NameOf, Project, Target};
use crate::service::{Decided, Identity, require};

const KIND: (NameOf, &str) = (NameOf::Project, "project");
/// Projects above a project.
const DEPTH_MAX: usize = 5;

/// What may be changed; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct ProjectPatch {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// The tags.
    pub tags: Option<Vec<String>>,
}

impl Identity {
    /// A new project.
    pub async fn create_project(&self, project: Project) -> Result<Project, Error> {
        check_project(&project)?;
        self.change(|reader| {
            let mut txn = Txn::new();
            hang_on::<Domain>(reader, &mut txn, &project.domain)?;
            check_parents(reader, &mut txn, &project)?;
            claim(reader, &mut txn, KIND, (project.domain.as_str(), &project.name), project.id.as_str())?;
            txn.create(project.key(), project.encode());
            Decided::plain(txn, project.clone())
        })
        .await
    }

    /// Changes a project.
    pub async fn update_project(&self, id: &str, patch: &ProjectPatch) -> Result<Project, Error> {
        self.change(|reader| {
            let (mut project, revision) = require::<Project>(reader, "project", &id)?;
            let old = project.name.clone();
            set(&mut project.name, &patch.name);
            set(&mut project.description, &patch.description);
            set(&mut project.enabled, &patch.enabled);
            set(&mut project.tags, &patch.tags);
            check_project(&project)?;
            let mut txn = Txn::new();
            rename(reader, &mut txn, KIND, project.domain.as_str(), (&old, &project.name), id)?;
            txn.replace(project.key(), revision, project.encode());
            Decided::rights("a project was changed", txn, project)
        })
        .await
    }

    /// Removes a project, with its assignments and application credentials. Projects below it forbid that.
    pub async fn delete_project(&self, id: &str) -> Result<(), Error> {
        self.remove_project(id, true).await
    }

    pub(crate) async fn remove_project(&self, id: &str, leaves_only: bool) -> Result<(), Error> {
        let leaf = |reader: &Reader<'_>, project: &Project| {
            for found in reader.all::<Project>() {
                if leaves_only && found?.0.parent.as_ref() == Some(&project.id) {
                    let text =
                        format!("Cannot delete the project {} since it is not a leaf in the hierarchy.", project.id);
                    return Err(Error::Refused(text));
                }
            }
            Ok(())
        };
        let hanging = |reader: &Reader<'_>, project: &Project| {
            let at = Target::Project(project.id.clone()).part();
            let mut keys: Vec<_> = reader.keys_by(GRANTS_BY_TARGET, &at).cloned().collect();
            for found in reader.by::<ApplicationCredential>(CREDENTIALS_BY_PROJECT, project.id.as_str()) {
                keys.extend(super::credentials::keys_of(&found?.0));
            }
            Ok(keys)
        };
        let names = |project: &Project| vec![NameOf::Project.key(project.domain.as_str(), &project.name)];
        self.remove::<Project>(id, leaf, hanging, names).await
    }
}

fn check_project(project: &Project) -> Result<(), Error> {
    check::name(&project.name, check::NAME_CHARS_MAX)?;
    check::text("description", &project.description)?;
    check::tags(&project.tags)
}

fn check_parents(reader: &Reader<'_>, txn: &mut Txn, project: &Project) -> Result<(), Error> {
    let mut parent = project.parent.clone();
    for depth in 0..=DEPTH_MAX {
        let Some(id) = parent else { return Ok(()) };
        let above = hang_on::<Project>(reader, txn, &id)?;
        if above.domain != project.domain {
            return Err(Error::Invalid("the parent is in another domain".to_owned()));
        }
        if !above.enabled && depth == 0 {
            return Err(Error::Refused(format!("cannot create a project below {id}, which is disabled")));
        }
        parent = above.parent;
    }
    Err(Error::Refused(format!("projects are at most {DEPTH_MAX} deep")))
}
