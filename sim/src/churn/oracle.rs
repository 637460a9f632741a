//! What clients were told, and so may rely on.

use std::collections::BTreeMap;

/// Whether something was asked for, as far as its client can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// No, or it was refused: nothing may come of it.
    No,
    /// The connection broke, or the answer was "not now": it may have happened, or may not.
    Maybe,
    /// It was accepted: it must come true.
    Yes,
}

/// One server, by its name, which no other has.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its id, if its client was told.
    pub id: Option<String>,
    /// Whether it was to be made.
    pub create: Asked,
    /// Whether it was to be deleted.
    pub delete: Asked,
}

/// What is known of everything that was asked.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Servers by name.
    pub servers: BTreeMap<String, Known>,
    /// What was wrong already while it happened.
    pub complaints: Vec<String>,
}

impl Oracle {
    /// A server is being asked for.
    pub fn creating(&mut self, name: &str) {
        self.servers.insert(name.to_owned(), Known { id: None, create: Asked::Maybe, delete: Asked::No });
    }

    /// What became of it.
    pub fn created(&mut self, name: &str, create: Asked, id: Option<String>) {
        if let Some(known) = self.servers.get_mut(name) {
            (known.create, known.id) = (create, id);
        }
    }

    /// It may be deleted from now on; or it was said that it will be.
    pub fn deleting(&mut self, name: &str, asked: Asked) {
        if let Some(known) = self.servers.get_mut(name) {
            known.delete = known.delete.max(asked);
        }
    }

    /// Servers of which their clients know the id: name and id. `there`: only those that nobody has deleted.
    pub fn known(&self, there: bool) -> Vec<(String, String)> {
        let wanted = self.servers.iter().filter(|(_, known)| !there || known.delete != Asked::Yes);
        wanted.filter_map(|(name, known)| Some((name.clone(), known.id.clone()?))).collect()
    }

    /// Whether anybody has asked for this server's deletion.
    pub fn may_be_gone(&self, name: &str) -> bool {
        self.servers.get(name).is_none_or(|known| known.delete != Asked::No)
    }
}
