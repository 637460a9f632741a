//! The configuration of a cell: typed keys, what is set for them, and how a change reaches those who use it.
//!
//! Think of one table of [`keys`], each with a type, a range, a default and the scopes at which it may be set. What is set
//! lies in the store. A process is handed the whole [`Document`] whenever it changes, keeps it in its [`Settings`], and
//! asks those at the moment at which it needs a value: nothing is applied by a restart.
//!
//! - [`keys`]: the table. [`key`], [`value`], [`scope`]: what a key is, what it can hold, where it can be set. **Of all
//!   that is set, the most specific wins: node, then role, then zone, then cell, then the key's default.**
//! - [`document`]: all that is set, and what of it a release understands. [`explain`] says why a value is what it is.
//! - [`plan`]: from a wish and the present state to one transaction, or a refusal that says what is allowed. Pure.
//!   [`mod@change`]: the shell that commits it. [`stored`]: the tables, and the history of changes.
//! - [`source`]: the document and its changes, for whoever serves configuration. [`wire`]: its form between processes.
//! - [`settings`]: what a process runs. [`permits`]: a bound that may change while it is in use.
//!
//! Deliberately absent: files, environment variables, any way in which the document travels, and what a value does.

pub mod change;
pub mod document;
pub mod explain;
pub mod key;
pub mod keys;
pub mod permits;
pub mod plan;
pub mod scope;
pub mod settings;
pub mod source;
pub mod stored;
pub mod value;
pub mod wire;

pub use change::{Changed, change};
pub use document::{Document, Held, Slot};
pub use key::{Key, Spec};
pub use permits::{Permit, Permits};
pub use plan::{Refusal, Wish};
pub use scope::{Level, Place, Scope};
pub use settings::Settings;
pub use source::Source;
pub use value::{Kind, Ratio, Unit, Value};

#[cfg(test)]
mod tests;
