//! The texts of the repository: every file that is tracked, or would be if it were added now.

use std::fs;

use crate::{house, run};

/// One text.
pub(crate) struct File {
    /// From the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All of them, ordered by path. Files that are not text are left out.
pub(crate) struct Sources {
    files: Vec<File>,
}

impl Sources {
    pub(crate) fn read() -> anyhow::Result<Sources> {
        let list = run::output(run::command("git").args(["ls-files", "-z", "-c", "-o", "--exclude-standard"]))?;
        let mut files = Vec::new();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            // A file may be deleted and that not yet be committed; others are not text.
            let Ok(bytes) = fs::read(house::root().join(path)) else { continue };
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File { path: path.to_owned(), text });
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Sources { files })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.ending(".rs")
    }

    pub(super) fn ending(&self, end: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}
