//! Who acts under a coordinator's name: the process that took it last.
//!
//! A name outlives processes, and two of one name may be alive: one that was held or cut off and taken for dead, and the
//! one that was started in its place. So a process takes its name with a record of its own, `owner/NAME`, when it starts,
//! and draws the number of its *life*. A work names the life that it was given to; nobody else drives it. Works of an
//! earlier life are taken over by raising their epochs, and only whoever has the name can do that: to one who comes back,
//! the works of the new life are another's, and when it reaches for them it finds that it has lost its name, and stops.

use bytes::Bytes;
use proto::work::state::v1 as stored;
use store::{CommitError, Key, Reader, Record, Revision, Txn, View};
use world::World;

/// Wait before the store is asked again after a failure.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// What tells the processes of one name apart: drawn by each when it starts. All zero: none.
pub type Life = [u8; 16];

/// The life that acts under `name` now, as far as this view knows; no life if no process has taken the name yet.
pub fn present(reader: &Reader<'_>, name: &str) -> Life {
    reader.get::<Owner>(&name).ok().flatten().map_or(Life::default(), |(owner, _)| owner.life)
}

/// Every name under which a coordinator has ever acted, as far as this view knows.
pub fn all(reader: &Reader<'_>) -> Vec<String> {
    let keys = reader.range(Owner::all()).map(|(key, _)| key.to_text());
    keys.filter_map(|key| key.strip_prefix(Owner::TABLE).map(str::to_owned)).collect()
}

/// The record of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name.
    pub name: String,
    /// The life of the process that has it.
    pub life: Life,
}

impl Record for Owner {
    const TABLE: &'static str = "owner/";
    type Stored = stored::Owner;

    fn id(&self) -> String {
        self.name.clone()
    }

    fn to_stored(&self) -> stored::Owner {
        stored::Owner { life: Bytes::copy_from_slice(&self.life) }
    }

    fn from_stored(stored: stored::Owner) -> Result<Owner, String> {
        let life = Life::try_from(&stored.life[..]).map_err(|error| error.to_string())?;
        // The key says whose it is; `name` is filled in from there.
        Ok(Owner { name: String::new(), life })
    }
}

/// A name, taken by this process.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    key: Key,
    revision: Revision,
    life: Life,
}

impl Name {
    /// Takes `name` from whoever had it. Waits for the store as long as it takes.
    pub(crate) async fn take(world: &World, view: &View, name: &str) -> Name {
        let own = Owner { name: name.to_owned(), life: world.random() };
        loop {
            match Name::try_take(view, &own).await {
                Ok(Some(name)) => return name,
                Ok(None) => {}
                Err(reason) => tracing::warn!(name, reason, "cannot take the name of this coordinator yet"),
            }
            world.sleep(RETRY_PAUSE).await;
        }
    }

    /// `None`: somebody has written it meanwhile.
    async fn try_take(view: &View, own: &Owner) -> Result<Option<Name>, String> {
        let key = own.key();
        let read = view.read(|reader| reader.entry(&key).map(|entry| (entry.modified, entry.record().cloned())));
        let found = read.await.map_err(|error| error.to_string())?;
        let mut txn = Txn::new();
        match found {
            // A commit with an unknown outcome that has happened.
            Some((revision, Some(value))) if value == own.encode() => {
                return Ok(Some(Name { key, revision, life: own.life }));
            }
            Some((revision, _)) => txn.replace(key.clone(), revision, own.encode()),
            None => txn.create(key.clone(), own.encode()),
        };
        match view.store().commit(txn).await {
            Ok(revision) => Ok(Some(Name { key, revision, life: own.life })),
            Err(CommitError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The life that has it.
    pub(crate) fn life(&self) -> Life {
        self.life
    }

    /// Makes `txn` depend on this process still having the name. It comes first, so that its loss is what is told.
    pub(crate) fn bind(&self, txn: &mut Txn) {
        txn.preconditions.insert(0, store::Precondition::RevisionIs(self.key.clone(), self.revision));
    }

    /// Whether a conflict on `key` says that the name is another's now.
    pub(crate) fn is_lost_by(&self, key: &Key) -> bool {
        *key == self.key
    }
}
