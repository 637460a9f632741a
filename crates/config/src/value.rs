//! What a key can hold: types with ranges and units, read from text and written as text.
//!
//! Text is the stored form: a person can read it in the store, and a release that does not know a key can still show it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A factor, exact to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u64);

impl Ratio {
    /// So many thousandths.
    pub const fn from_milli(milli: u64) -> Ratio {
        Ratio(milli)
    }

    /// In thousandths.
    pub const fn as_milli(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Option<Ratio> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        if part.is_empty() || part.len() > 3 {
            return None;
        }
        let milli = digits(part)? * 10_u64.pow(3 - u32::try_from(part.len()).ok()?);
        Some(Ratio(digits(whole)?.checked_mul(1000)?.checked_add(milli)?))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A number without sign, blanks or other liberties that `parse` would take.
fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// What a span of time is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Hours.
    Hours,
}

impl Unit {
    /// Its name, in the plural.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Millis => "milliseconds",
            Unit::Seconds => "seconds",
            Unit::Hours => "hours",
        }
    }

    const fn millis(self) -> u64 {
        match self {
            Unit::Millis => 1,
            Unit::Seconds => 1000,
            Unit::Hours => 3_600_000,
        }
    }

    const fn span(self, count: u64) -> Duration {
        Duration::from_millis(count.saturating_mul(self.millis()))
    }

    fn count(self, span: Duration) -> u64 {
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX) / self.millis()
    }
}

/// The type of a key, with its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of something.
    Integer {
        /// Of what, in the plural.
        unit: &'static str,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A factor.
    Ratio {
        /// The least.
        least: Ratio,
        /// The most.
        most: Ratio,
    },
    /// A span of time.
    Duration {
        /// What it is counted in.
        unit: Unit,
        /// The least, in that unit.
        least: u64,
        /// The most, in that unit.
        most: u64,
    },
    /// Yes or no.
    Boolean,
    /// One of a few words.
    Choice {
        /// The words.
        of: &'static [&'static str],
    },
    /// Printable text.
    Text {
        /// The most bytes.
        bytes_max: usize,
    },
}

/// A value; `T` is how text is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<T = Arc<str>> {
    /// A number of something.
    Integer(u64),
    /// A factor.
    Ratio(Ratio),
    /// A span of time.
    Duration(Duration),
    /// Yes or no.
    Boolean(bool),
    /// One of a few words.
    Choice(&'static str),
    /// Printable text.
    Text(T),
}

impl From<Value<&'static str>> for Value {
    fn from(value: Value<&'static str>) -> Value {
        match value {
            Value::Integer(number) => Value::Integer(number),
            Value::Ratio(ratio) => Value::Ratio(ratio),
            Value::Duration(span) => Value::Duration(span),
            Value::Boolean(yes) => Value::Boolean(yes),
            Value::Choice(word) => Value::Choice(word),
            Value::Text(text) => Value::Text(text.into()),
        }
    }
}

impl Kind {
    /// The value that `text` says, if this kind allows it.
    pub fn parse(&self, text: &str) -> Option<Value> {
        match *self {
            Kind::Integer { least, most, .. } => {
                digits(text).filter(|number| (least..=most).contains(number)).map(Value::Integer)
            }
            Kind::Ratio { least, most } => {
                Ratio::parse(text).filter(|ratio| (least..=most).contains(ratio)).map(Value::Ratio)
            }
            Kind::Duration { unit, least, most } => {
                let count = digits(text).filter(|count| (least..=most).contains(count))?;
                Some(Value::Duration(unit.span(count)))
            }
            Kind::Boolean => match text {
                "true" => Some(Value::Boolean(true)),
                "false" => Some(Value::Boolean(false)),
                _ => None,
            },
            Kind::Choice { of } => of.iter().find(|word| **word == text).map(|word| Value::Choice(word)),
            Kind::Text { bytes_max } => {
                let fine = text.len() <= bytes_max && !text.chars().any(char::is_control);
                fine.then(|| Value::Text(text.into()))
            }
        }
    }

    /// `value` as the text that [`Kind::parse`] reads.
    pub fn write(&self, value: &Value) -> String {
        match value {
            Value::Integer(number) => number.to_string(),
            Value::Ratio(ratio) => ratio.to_string(),
            Value::Duration(span) => match *self {
                Kind::Duration { unit, .. } => unit.count(*span).to_string(),
                Kind::Integer { .. } | Kind::Ratio { .. } | Kind::Boolean | Kind::Choice { .. } | Kind::Text { .. } => {
                    Unit::Millis.count(*span).to_string()
                }
            },
            Value::Boolean(yes) => yes.to_string(),
            Value::Choice(word) => (*word).to_owned(),
            Value::Text(text) => text.to_string(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Integer { .. } => "integer",
            Kind::Ratio { .. } => "ratio",
            Kind::Duration { .. } => "duration",
            Kind::Boolean => "boolean",
            Kind::Choice { .. } => "choice",
            Kind::Text { .. } => "text",
        }
    }

    /// What it is counted in; empty where nothing is counted.
    pub fn unit(&self) -> &'static str {
        match self {
            Kind::Integer { unit, .. } => unit,
            Kind::Duration { unit, .. } => unit.name(),
            Kind::Ratio { .. } | Kind::Boolean | Kind::Choice { .. } | Kind::Text { .. } => "",
        }
    }

    /// What it allows, without its unit.
    pub fn range(&self) -> String {
        match self {
            Kind::Integer { least, most, .. } | Kind::Duration { least, most, .. } => format!("{least} to {most}"),
            Kind::Ratio { least, most } => format!("{least} to {most}"),
            Kind::Boolean => "true, false".into(),
            Kind::Choice { of } => of.join(", "),
            Kind::Text { bytes_max } => format!("up to {bytes_max} bytes"),
        }
    }

    /// What it allows, as the end of a sentence that begins with "it takes".
    pub fn allowed(&self) -> String {
        match self {
            Kind::Integer { unit, least, most } => format!("a whole number of {unit} from {least} to {most}"),
            Kind::Ratio { least, most } => {
                format!("a ratio from {least} to {most}, with at most three digits after the point")
            }
            Kind::Duration { unit, least, most } => {
                format!("a whole number of {} from {least} to {most}", unit.name())
            }
            Kind::Boolean => "true or false".into(),
            Kind::Choice { of } => format!("one of {}", of.join(", ")),
            Kind::Text { bytes_max } => format!("a text of at most {bytes_max} bytes without control characters"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATIO: Kind = Kind::Ratio { least: Ratio(100), most: Ratio(64_000) };
    const SPAN: Kind = Kind::Duration { unit: Unit::Seconds, least: 0, most: 3600 };
    const NUMBER: Kind = Kind::Integer { unit: "works", least: 1, most: 10 };

    fn check(kind: Kind, text: &str, canonical: Option<&str>) {
        let value = kind.parse(text);
        assert_eq!(value.as_ref().map(|value| kind.write(value)).as_deref(), canonical, "{kind:?} {text:?}");
        if let Some(value) = value {
            assert_eq!(kind.parse(&kind.write(&value)), Some(value), "what is written is read again");
        }
    }

    #[test]
    fn a_kind_takes_what_it_says_and_nothing_else() {
        for (text, canonical) in [("16", "16"), ("16.0", "16"), ("1.50", "1.5"), ("0.125", "0.125"), ("64", "64")] {
            check(RATIO, text, Some(canonical));
        }
        for bad in ["", ".", "1.", "1.0005", "64.001", "0.099", "-1", "+1", "1e3", " 1", "1.-5", "99999999999999999999"]
        {
            check(RATIO, bad, None);
        }
        check(SPAN, "0", Some("0"));
        check(SPAN, "03600", Some("3600"));
        for bad in ["3601", "1.5", "1s", "-0", ""] {
            check(SPAN, bad, None);
        }
        check(NUMBER, "10", Some("10"));
        for bad in ["0", "11", "ten"] {
            check(NUMBER, bad, None);
        }
        check(Kind::Boolean, "true", Some("true"));
        check(Kind::Boolean, "yes", None);
        check(Kind::Choice { of: &["info", "debug"] }, "debug", Some("debug"));
        check(Kind::Choice { of: &["info", "debug"] }, "Debug", None);
        check(Kind::Text { bytes_max: 5 }, "höre", Some("höre"));
        for bad in ["hören!", "a\nb"] {
            check(Kind::Text { bytes_max: 5 }, bad, None);
        }
    }
}
