//! Why a value is what it is: all that is set for a key, and which of it wins at a place. Pure.

use crate::document::{Document, Held, Layers, understand};
use crate::key::Spec;
use crate::scope::{Place, Scope};

/// What is set for a key at one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Where.
    pub scope: Scope,
    /// What.
    pub held: Held,
    /// Whether it reaches the place that was asked about.
    pub reaches: bool,
    /// Why this release does not apply it, if it does not.
    pub unapplied: Option<String>,
}

/// What holds for a key at a place, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The value as text.
    pub value: String,
    /// The scope that says so; nothing: it is the default.
    pub winner: Option<Scope>,
    /// All that is set, the most specific first.
    pub layers: Vec<Layer>,
}

/// What holds for `spec` at `place`, and why.
pub fn explain(document: &Document, spec: &Spec, place: &Place) -> Explanation {
    let mut layers: Vec<Layer> = document
        .values
        .iter()
        .filter(|(slot, _)| slot.key == spec.name)
        .map(|(slot, held)| Layer {
            scope: slot.scope.clone(),
            held: held.clone(),
            reaches: place.scopes().any(|scope| scope == slot.scope),
            unapplied: understand(slot, held).err().map(|why| why.to_string()),
        })
        .collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.scope.level()));
    let all = Layers::of(document);
    let (value, winner) = all.winner(spec, place);
    Explanation { value: spec.kind.write(&value), winner, layers }
}
