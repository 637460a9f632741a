//! The document between processes: the one place that knows both forms.

use bytes::Bytes;
use prost::{DecodeError, Message};
use proto::config::v1 as wire;

use crate::document::{Document, Held, Slot};
use crate::scope::Scope;

impl From<&Document> for wire::Document {
    fn from(document: &Document) -> wire::Document {
        let entry = |(slot, held): (&Slot, &Held)| wire::Entry {
            key: slot.key.clone(),
            scope: slot.scope.to_string(),
            schema: held.schema,
            value: held.text.clone(),
        };
        wire::Document { revision: document.revision, entries: document.values.iter().map(entry).collect() }
    }
}

impl From<wire::Document> for Document {
    fn from(told: wire::Document) -> Document {
        let value = |entry: wire::Entry| {
            let slot = Slot { key: entry.key, scope: Scope::from_text(&entry.scope) };
            (slot, Held { schema: entry.schema, text: entry.value })
        };
        Document { revision: told.revision, values: told.entries.into_iter().map(value).collect() }
    }
}

/// The document as bytes, for who passes it on without looking into it.
pub fn encode(document: &Document) -> Bytes {
    wire::Document::from(document).encode_to_vec().into()
}

/// The document that [`encode`] made into `bytes`.
///
/// # Errors
/// If they are no document.
pub fn decode(bytes: &[u8]) -> Result<Document, DecodeError> {
    wire::Document::decode(bytes).map(Document::from)
}
