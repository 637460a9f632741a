//! Agents that share a machine: what each calls its own.
//!
//! The first agent of a home gives the cell's own names to what it makes, as the only one always did: its guests hold on to
//! their devices over every upgrade. One that comes beside it gives names with its node's name in them. Which of the
//! two it is, is decided once, before it has made anything, and kept beside what it makes.

use std::path::Path;

use anyhow::Context;

use crate::home::{Home, write_private};

/// Whose directory has this file has names of its own.
const MARK: &str = "own-names";
/// The driver's, once it has been opened.
const GUESTS: &str = "guests";

/// Decides for the agent in `dir`, which is there. Of two new ones that look at the same time each may find the other:
/// then both have names of their own.
pub fn settle(home: &Home, dir: &Path) -> anyhow::Result<()> {
    if dir.join(MARK).exists() || dir.join(GUESTS).exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(home.path("agents")).context("cannot list the agents")?;
    for entry in entries {
        if entry?.path().file_name() != dir.file_name() {
            return write_private(&dir.join(MARK), b"");
        }
    }
    Ok(())
}

/// The name that the agent in `dir` puts into its names; `None`: those are the cell's.
pub fn own_name(dir: &Path) -> Option<String> {
    let name = dir.file_name().filter(|_| dir.join(MARK).exists())?;
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::{Wish, make_dir};

    #[tokio::test]
    async fn the_first_has_the_cells_names_and_who_was_there_keeps_its_own() {
        let place = tempfile::tempdir().unwrap();
        let world = world::os::OsHost::world(tokio::runtime::Handle::current(), place.path());
        let wish = Wish { listen: None, driver: None, nodes: None, resume_guests_after_boot: None };
        let home = Home::open_or_create(&world, &place.path().join("home"), &wish).unwrap();
        let start = |name: &str| {
            let dir = home.path("agents").join(name);
            make_dir(&dir).unwrap();
            settle(&home, &dir).unwrap();
            let own = own_name(&dir);
            make_dir(&dir.join(GUESTS)).unwrap();
            own
        };
        assert_eq!(start("node-1"), None);
        assert_eq!(start("node-2").as_deref(), Some("node-2"));
        assert_eq!((start("node-1"), start("node-2").as_deref()), (None, Some("node-2")), "for good");
        // A cell of one node from before there were several.
        std::fs::remove_dir_all(home.path("agents")).unwrap();
        make_dir(&home.path("agents/node-1/guests")).unwrap();
        make_dir(&home.path("agents/node-2")).unwrap();
        assert_eq!(start("node-1"), None);
        assert_eq!(start("node-2").as_deref(), Some("node-2"));
    }
}
