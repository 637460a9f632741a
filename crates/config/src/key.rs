//! What a key is: a name with a type, a range, a default, a schema version, and the scopes at which it may be set.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::scope::Level;
use crate::value::{Kind, Ratio, Unit, Value};

/// All that is known of a key but the Rust type of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// What it can hold.
    pub kind: Kind,
    /// What holds where nothing is set.
    pub default: Value<&'static str>,
    /// The version of its schema that this release writes, and the newest that it understands.
    pub schema: u32,
    /// The kinds of scopes at which it may be set.
    pub levels: &'static [Level],
}

impl Spec {
    /// What holds where nothing is set.
    pub fn default(&self) -> Value {
        self.default.into()
    }

    /// The value that `text` says under `schema`, if this release understands it.
    pub fn read(&self, schema: u32, text: &str) -> Option<Value> {
        if schema > self.schema { None } else { self.kind.parse(text) }
    }
}

/// A key whose values are of type `T`.
#[derive(Debug)]
pub struct Key<T> {
    spec: Spec,
    of: PhantomData<fn() -> T>,
}

/// A type with a range and a default within it.
#[derive(Clone, Copy)]
pub(crate) struct Shape<T> {
    kind: Kind,
    default: Value<&'static str>,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    pub(crate) const fn new(
        name: &'static str,
        doc: &'static str,
        shape: Shape<T>,
        schema: u32,
        levels: &'static [Level],
    ) -> Key<T> {
        let Shape { kind, default, .. } = shape;
        Key { spec: Spec { name, doc, kind, default, schema, levels }, of: PhantomData }
    }

    /// All that is known of it.
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }
}

impl<T> Shape<T> {
    const fn new(kind: Kind, default: Value<&'static str>) -> Shape<T> {
        Shape { kind, default, of: PhantomData }
    }
}

/// A number of something.
pub(crate) const fn integer(unit: &'static str, least: u64, most: u64, default: u64) -> Shape<u64> {
    Shape::new(Kind::Integer { unit, least, most }, Value::Integer(default))
}

/// A factor; all in thousandths.
pub(crate) const fn ratio(least: u64, most: u64, default: u64) -> Shape<Ratio> {
    let kind = Kind::Ratio { least: Ratio::from_milli(least), most: Ratio::from_milli(most) };
    Shape::new(kind, Value::Ratio(Ratio::from_milli(default)))
}

/// A span of time, counted in `unit`.
pub(crate) const fn duration(unit: Unit, least: u64, most: u64, default: Duration) -> Shape<Duration> {
    Shape::new(Kind::Duration { unit, least, most }, Value::Duration(default))
}

/// One of a few words.
pub(crate) const fn choice(of: &'static [&'static str], default: &'static str) -> Shape<&'static str> {
    Shape::new(Kind::Choice { of }, Value::Choice(default))
}

/// A Rust type that values of some kind have.
pub trait Typed: Sized {
    /// From a value, if it is of that kind.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! typed {
    ($($type:ty: $variant:ident($bound:ident) => $out:expr;)*) => {$(
        impl Typed for $type {
            fn from_value(value: &Value) -> Option<$type> {
                if let Value::$variant($bound) = value { Some($out) } else { None }
            }
        }
    )*};
}

typed! {
    u64: Integer(number) => *number;
    Ratio: Ratio(ratio) => *ratio;
    Duration: Duration(span) => *span;
    bool: Boolean(yes) => *yes;
    &'static str: Choice(word) => word;
    Arc<str>: Text(text) => Arc::clone(text);
}
