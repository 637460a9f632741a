//! From a wish and the present state to one transaction, or to a refusal that says what is allowed. Pure.
//!
//! Every transaction rewrites the head, which must be as it was read: so changes happen one after the other, whatever
//! they touch, and one whose outcome is unknown can be sent again.

use store::{DecodeError, Key, Reader, Record, Revision, Txn};
use world::Wall;

use crate::document::{Document, Held, Slot, Values};
use crate::key::Spec;
use crate::keys;
use crate::scope::Level;
use crate::source;
use crate::stored::{Change, Head, Line, Set};

/// Changes that the history holds.
pub const HISTORY_MAX: u64 = 1000;
/// Values that may be set at a time: all of them go to every process.
pub const VALUES_MAX: usize = 4096;
/// Values that one change may touch: with the head (twice), the entry of the history and the one that makes room for it,
/// what a transaction may hold.
pub const LINES_MAX: usize = 96;

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This value here.
    Set(Slot, String),
    /// Nothing set here.
    Unset(Slot),
    /// Everything as it was at this revision of the store.
    RollBack(u64),
}

/// Why a wish is not granted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such key.
    #[error("there is no key {key:?}{}", did_you_mean(*nearest))]
    UnknownKey {
        /// What was named.
        key: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// The key cannot be set there.
    #[error("{key} cannot be set for {scope}: it can be set for {}", levels(allowed))]
    WrongScope {
        /// The key.
        key: &'static str,
        /// Where it was to be set.
        scope: String,
        /// Where it can be set.
        allowed: &'static [Level],
    },
    /// Nothing can have such a name.
    #[error(
        "{scope:?} names nothing: a name has 1 to {} bytes, no slash and no control characters",
        crate::scope::NAME_BYTES_MAX
    )]
    BadName {
        /// What was named.
        scope: String,
    },
    /// The key does not take such a value.
    #[error("{key} cannot be {text:?}: it takes {allowed}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What it was to be.
        text: String,
        /// What it takes.
        allowed: String,
    },
    /// Too much is set.
    #[error(
        "{VALUES_MAX} values are set already, and all of them go to every process: unset some first, or set one for \
             the zone, the role or the cell in place of many"
    )]
    TooMany,
    /// The history does not reach so far.
    #[error(
        "the history holds the last {HISTORY_MAX} changes, and reaches back to revision {reaches}: {wanted} is older"
    )]
    TooOld {
        /// Where to go back to.
        wanted: u64,
        /// The oldest that one can go back to.
        reaches: u64,
    },
    /// That has not been yet.
    #[error("revision {wanted} is still to come: the store is at {now}")]
    NotYet {
        /// Where to go back to.
        wanted: u64,
        /// The store's revision.
        now: u64,
    },
    /// More than one transaction holds.
    #[error(
        "{lines} values differ from what they were at revision {wanted}, and one change can touch {LINES_MAX}: go back \
             in steps, to revisions between"
    )]
    TooLarge {
        /// Where to go back to.
        wanted: u64,
        /// How many values would change.
        lines: usize,
    },
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None => "; `mainstay config get --all` lists them".to_owned(),
    }
}

/// The kinds of scopes, as the end of a sentence.
pub fn levels(allowed: &[Level]) -> String {
    let said = |level: &Level| match level {
        Level::Cell => "the cell",
        Level::Zone => "a zone",
        Level::Role => "a role",
        Level::Node => "a node",
    };
    let all: Vec<&str> = allowed.iter().map(said).collect();
    match all.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// Who changes something, and when.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Who.
    pub who: String,
    /// When.
    pub at: Wall,
    /// Drawn for this change.
    pub token: [u8; 16],
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Planned {
    /// Nothing: it is so already.
    Nothing(Document),
    /// This, which is the change of this number.
    Write { txn: Txn, number: u64, lines: Vec<Line> },
}

/// What came of looking at a wish.
pub(crate) type Looked = Result<Result<Planned, Refusal>, DecodeError>;

/// How `wish` is granted in the state that `reader` shows.
pub(crate) fn plan(reader: &Reader<'_>, wish: &Wish, stamp: &Stamp) -> Looked {
    let document = source::document(reader);
    let target = match target(reader, &document, wish)? {
        Ok(target) => target,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let lines = difference(&document.values, &target);
    if lines.is_empty() {
        return Ok(Ok(Planned::Nothing(document)));
    }
    // What there was too much of already (set by another release) may be made less.
    if target.len() > VALUES_MAX && target.len() > document.values.len() {
        return Ok(Err(Refusal::TooMany));
    }
    let rolled_back_to = match wish {
        Wish::RollBack(wanted) if lines.len() > LINES_MAX => {
            return Ok(Err(Refusal::TooLarge { wanted: *wanted, lines: lines.len() }));
        }
        Wish::RollBack(wanted) => Some(*wanted),
        Wish::Set(..) | Wish::Unset(_) => None,
    };
    write(reader, lines, rolled_back_to, stamp).map(Ok)
}

/// All that is to be set once `wish` is granted.
fn target(reader: &Reader<'_>, document: &Document, wish: &Wish) -> Result<Result<Values, Refusal>, DecodeError> {
    let mut values = document.values.clone();
    match wish {
        Wish::Set(slot, text) => match check(slot, text) {
            Ok(held) => drop(values.insert(slot.clone(), held)),
            Err(refusal) => return Ok(Err(refusal)),
        },
        Wish::Unset(slot) => {
            // What this release does not know can be removed where it is set, by its exact name.
            if values.remove(slot).is_none()
                && let Err(refusal) = check_slot(slot)
            {
                return Ok(Err(refusal));
            }
        }
        Wish::RollBack(wanted) => return earlier(reader, values, *wanted),
    }
    Ok(Ok(values))
}

/// Whether `text` can be set in `slot`; the value in its canonical form.
pub fn check(slot: &Slot, text: &str) -> Result<Held, Refusal> {
    let spec = check_slot(slot)?;
    let value = spec.kind.parse(text).ok_or_else(|| Refusal::BadValue {
        key: spec.name,
        text: text.to_owned(),
        allowed: spec.kind.allowed(),
    })?;
    Ok(Held { schema: spec.schema, text: spec.kind.write(&value) })
}

/// The key of this name.
pub fn known(key: &str) -> Result<&'static Spec, Refusal> {
    let unknown = || Refusal::UnknownKey { key: key.to_owned(), nearest: keys::nearest(key) };
    keys::find(key).ok_or_else(unknown)
}

fn check_slot(slot: &Slot) -> Result<&'static Spec, Refusal> {
    let spec = known(&slot.key)?;
    let level = slot.scope.level();
    if !level.is_some_and(|level| spec.levels.contains(&level)) {
        let scope = level.map_or_else(|| slot.scope.to_string(), |level| levels(&[level]));
        return Err(Refusal::WrongScope { key: spec.name, scope, allowed: spec.levels });
    }
    if !slot.scope.is_named_well() {
        return Err(Refusal::BadName { scope: slot.scope.to_string() });
    }
    Ok(spec)
}

/// All that was set at revision `wanted`: the present, with every later change taken back, the newest first.
fn earlier(reader: &Reader<'_>, mut values: Values, wanted: u64) -> Result<Result<Values, Refusal>, DecodeError> {
    let (head, _) = head(reader)?;
    let now = reader.revision().as_u64();
    if wanted > now {
        return Ok(Err(Refusal::NotYet { wanted, now }));
    }
    let reaches = head.forgotten.as_u64();
    if wanted < reaches {
        return Ok(Err(Refusal::TooOld { wanted, reaches }));
    }
    let later = source::history(reader)?.into_iter().filter(|(_, revision)| revision.as_u64() > wanted);
    let lines: Vec<Line> = later.flat_map(|(change, _)| change.lines).collect();
    for line in lines.into_iter().rev() {
        match line.old {
            Some(held) => drop(values.insert(line.slot, held)),
            None => drop(values.remove(&line.slot)),
        }
    }
    Ok(Ok(values))
}

fn head(reader: &Reader<'_>) -> Result<(Head, Option<Revision>), DecodeError> {
    let found = reader.get::<Head>(&Head::ID)?;
    Ok(found.map_or((Head::default(), None), |(head, revision)| (head, Some(revision))))
}

fn difference(present: &Values, target: &Values) -> Vec<Line> {
    let changed = target.iter().filter(|(slot, held)| present.get(slot) != Some(held));
    let gone = present.iter().filter(|(slot, _)| !target.contains_key(slot));
    let changed = changed.map(|(slot, held)| Line {
        slot: slot.clone(),
        old: present.get(slot).cloned(),
        new: Some(held.clone()),
    });
    let gone = gone.map(|(slot, held)| Line { slot: slot.clone(), old: Some(held.clone()), new: None });
    changed.chain(gone).collect()
}

fn write(
    reader: &Reader<'_>,
    lines: Vec<Line>,
    rolled_back_to: Option<u64>,
    stamp: &Stamp,
) -> Result<Planned, DecodeError> {
    let (head, at) = head(reader)?;
    let number = head.changes.saturating_add(1);
    let mut txn = Txn::new();
    let mut next = Head { changes: number, ..head };
    if let Some(oldest) = number.checked_sub(HISTORY_MAX).filter(|oldest| *oldest > 0) {
        let key: Key = Change::key_of(&Change::id_of(oldest));
        if let Some(entry) = reader.entry(&key) {
            next.forgotten = entry.modified;
            txn.delete(key);
        }
    }
    match at {
        Some(revision) => txn.replace(next.key(), revision, next.encode()),
        None => txn.create(next.key(), next.encode()),
    };
    for line in &lines {
        match &line.new {
            Some(held) => {
                let set = Set { slot: line.slot.clone(), held: held.clone() };
                txn.put(set.key(), set.encode());
            }
            None => drop(txn.delete(Set::key_of(&line.slot))),
        }
    }
    let change = Change {
        number,
        at: stamp.at,
        who: stamp.who.clone(),
        lines: lines.clone(),
        rolled_back_to,
        token: stamp.token,
    };
    txn.put(change.key(), change.encode());
    Ok(Planned::Write { txn, number, lines })
}
