//! The configuration as the store has it: what is set, how it came to be, and every change from now on.

use std::sync::Arc;

use store::{DecodeError, Reader, Record, Revision, View};

use crate::document::Document;
use crate::stored::{Change, Head, Set};

/// All that is set in the state that `reader` shows. A record that this release cannot read is left out, and left alone.
pub fn document(reader: &Reader<'_>) -> Document {
    let values = reader.all::<Set>().filter_map(|found| match found {
        Ok((set, _)) => Some((set.slot, set.held)),
        Err(error) => {
            tracing::warn!(%error, "a configured value cannot be read; it is left alone and not applied");
            None
        }
    });
    Document { revision: revision(reader).as_u64(), values: values.collect() }
}

/// The history, the oldest change first, each with its revision.
pub fn history(reader: &Reader<'_>) -> Result<Vec<(Change, Revision)>, DecodeError> {
    reader.all::<Change>().collect()
}

/// The oldest revision that can be gone back to.
pub fn reaches(reader: &Reader<'_>) -> Result<Revision, DecodeError> {
    Ok(reader.get::<Head>(&Head::ID)?.map_or(Revision::ZERO, |(head, _)| head.forgotten))
}

fn revision(reader: &Reader<'_>) -> Revision {
    reader.entry(&Head::key_of(&Head::ID)).map_or(Revision::ZERO, |entry| entry.modified)
}

/// Follows the configuration in a view.
pub struct Source {
    view: Arc<View>,
    /// The configuration's revision that was told last.
    told: Option<Revision>,
}

impl Source {
    /// From the view's present state on.
    pub fn new(view: &Arc<View>) -> Source {
        Source { view: Arc::clone(view), told: None }
    }

    /// The present configuration the first time, then each newer one; of several that came meanwhile only the newest. May be
    /// dropped while it waits; nothing is lost by that.
    pub async fn next(&mut self) -> Document {
        loop {
            let (seen, now) = self.view.peek(|reader| (reader.revision(), revision(reader)));
            if self.told.is_none_or(|told| now > told) {
                let document = self.view.peek(document);
                self.told = Some(Revision::from_u64(document.revision));
                return document;
            }
            self.view.advanced(seen).await;
        }
    }
}
