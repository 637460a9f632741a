//! All that is set, and what of it this release understands.

use std::collections::BTreeMap;
use std::fmt;

use crate::key::Spec;
use crate::keys;
use crate::scope::{Place, Scope};
use crate::value::Value;

/// A key at a scope: where one value can be set. The key may be one that this release does not know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The key's name.
    pub key: String,
    /// The scope.
    pub scope: Scope,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.scope)
    }
}

/// What is set in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The version of the key's schema that it was written under.
    pub schema: u32,
    /// The value as text.
    pub text: String,
}

/// All that is set, by key and scope.
pub type Values = BTreeMap<Slot, Held>;

/// Everything that is set, as of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// The store's revision of the newest change; 0: nothing was ever set.
    pub revision: u64,
    /// All values.
    pub values: Values,
}

/// Why something that is set is not applied by this release. It is kept all the same: another one may know better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unapplied {
    /// No such key.
    #[error("this release knows no such key")]
    UnknownKey,
    /// A schema of a later release.
    #[error("it is of version {found} of the key's schema, and this release knows up to {known}")]
    LaterSchema {
        /// What it is of.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// The key is not set at such a scope in this release.
    #[error("this release does not set this key at such a scope")]
    WrongScope,
    /// The value is not one that this release allows.
    #[error("this release takes {0}")]
    WrongValue(String),
}

/// What is set in `slot`, as this release understands it.
pub fn understand(slot: &Slot, held: &Held) -> Result<(&'static Spec, Value), Unapplied> {
    let spec = keys::find(&slot.key).ok_or(Unapplied::UnknownKey)?;
    if held.schema > spec.schema {
        return Err(Unapplied::LaterSchema { found: held.schema, known: spec.schema });
    }
    if !slot.scope.level().is_some_and(|level| spec.levels.contains(&level)) {
        return Err(Unapplied::WrongScope);
    }
    let value = spec.read(held.schema, &held.text).ok_or_else(|| Unapplied::WrongValue(spec.kind.allowed()))?;
    Ok((spec, value))
}

/// What is understood of a document, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, BTreeMap<Scope, Value>>,
}

impl Layers {
    /// What this release understands of `document`.
    pub fn of(document: &Document) -> Layers {
        let mut layers = Layers::default();
        for (slot, held) in &document.values {
            if let Ok((spec, value)) = understand(slot, held) {
                layers.values.entry(spec.name).or_default().insert(slot.scope.clone(), value);
            }
        }
        layers
    }

    /// What holds for `spec` at `place`, and the scope that says so; without one: the default.
    pub fn winner(&self, spec: &Spec, place: &Place) -> (Value, Option<Scope>) {
        let won = self
            .values
            .get(spec.name)
            .and_then(|set| place.scopes().find_map(|scope| set.get(&scope).map(|value| (value.clone(), Some(scope)))));
        won.unwrap_or_else(|| (spec.default(), None))
    }
}

#[cfg(test)]
mod tests {
    use pki::Role;

    use super::*;

    fn document(set: &[(&str, &str, u32, &str)]) -> Document {
        let slot = |key: &str, scope: &str| Slot { key: key.into(), scope: Scope::from_text(scope) };
        let held = |schema, text: &str| Held { schema, text: text.into() };
        let values = set.iter().map(|(key, scope, schema, text)| (slot(key, scope), held(*schema, text))).collect();
        Document { revision: 1, values }
    }

    fn check(set: &[(&str, &str)], place: &Place, expected: (&str, &str)) {
        let set: Vec<_> = set.iter().map(|(scope, text)| ("rpc.calls_max", *scope, 1, *text)).collect();
        let layers = Layers::of(&document(&set));
        let spec = keys::CALLS_MAX.spec();
        let (value, scope) = layers.winner(spec, place);
        let scope = scope.map_or("default".to_owned(), |scope| scope.to_string());
        assert_eq!((spec.kind.write(&value).as_str(), scope.as_str()), expected, "{set:?} at {place:?}");
    }

    #[test]
    fn the_most_specific_wins() {
        let all = Place { zone: Some("z".into()), roles: [Role::Api, Role::Store].into(), node: Some("n".into()) };
        let mut set =
            vec![("node/n", "101"), ("role/store", "102"), ("role/api", "103"), ("zone/z", "104"), ("cell", "105")];
        let elsewhere = [("node/m", "1001"), ("role/agent", "1002"), ("zone/y", "1003")];
        set.extend(elsewhere);
        check(&set, &all, ("101", "node/n"));
        check(&set[1..], &all, ("102", "role/store"));
        check(&set[2..], &all, ("103", "role/api"));
        check(&set[3..], &all, ("104", "zone/z"));
        check(&set[4..], &all, ("105", "cell"));
        check(&set[5..], &all, ("4096", "default"));
        check(&set, &Place::default(), ("105", "cell"));
    }

    #[test]
    fn what_this_release_does_not_understand_is_not_applied() {
        let unknown = document(&[
            ("rpc.calls_max", "cell", 2, "100"),
            ("rpc.calls_max", "node/n", 1, "many"),
            ("rpc.calls_max", "planet/mars", 1, "100"),
            ("rpc.colour", "cell", 1, "red"),
            ("dns.ttl_seconds", "node/n", 1, "5"),
        ]);
        let layers = Layers::of(&unknown);
        let place = Place { node: Some("n".into()), ..Place::default() };
        for spec in keys::TABLE {
            assert_eq!(layers.winner(spec, &place), (spec.default(), None), "{}", spec.name);
        }
        let why: Vec<String> = unknown
            .values
            .iter()
            .map(|(slot, held)| understand(slot, held).expect_err("not understood").to_string())
            .collect();
        assert!(why[1].contains("version 2") && why[2].contains("from 64 to"), "{why:?}");
        assert!(why[4].contains("no such key"), "{why:?}");
    }
}
