//! What the client said, and how to look at it.

use anyhow::{Context, bail};
use serde_json::Value;

/// How a command ended.
pub(super) struct Said {
    pub(super) status: i64,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// What it wrote, if it did what it was told.
    pub(super) fn done(self) -> anyhow::Result<String> {
        match self.status {
            0 => Ok(self.out),
            status => bail!("ended with {status}: {}", self.complaint()),
        }
    }

    /// What it wrote, as JSON.
    pub(super) fn json(self) -> anyhow::Result<Value> {
        let out = self.done()?;
        serde_json::from_str(&out).with_context(|| format!("this is not JSON: {out}"))
    }

    /// It must have been refused, in words that contain these.
    pub(super) fn refused(self, words: &str) -> anyhow::Result<()> {
        let complaint = self.complaint();
        if self.status == 0 {
            bail!("was done, but should be refused with `{words}`; it wrote: {}", self.out);
        }
        if !complaint.contains(words) {
            bail!("was refused with `{complaint}`, which does not say `{words}`");
        }
        Ok(())
    }

    fn complaint(&self) -> String {
        format!("{} {}", self.err.trim(), self.out.trim()).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Whether `found` has all that `wanted` has: of an object the named fields, of anything else all of it.
pub(super) fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| found.get(name).is_some_and(|there| has(there, value)))
        }
        _ => found == wanted,
    }
}

/// As [`has`], and says what is there instead.
pub(super) fn check(found: &Value, wanted: &Value) -> anyhow::Result<()> {
    if !has(found, wanted) {
        bail!("answered {found}\n  and not {wanted}");
    }
    Ok(())
}

/// The row of a list that has all of `wanted`.
pub(super) fn row<'a>(rows: &'a Value, wanted: &Value) -> anyhow::Result<&'a Value> {
    let all = rows.as_array().with_context(|| format!("this is no list: {rows}"))?;
    all.iter().find(|row| has(row, wanted)).with_context(|| format!("no row has {wanted}: {rows}"))
}

/// No row of a list may have all of `unwanted`.
pub(super) fn no_row(rows: &Value, unwanted: &Value) -> anyhow::Result<()> {
    match row(rows, unwanted) {
        Ok(found) => bail!("this is still there: {found}"),
        Err(_) => Ok(()),
    }
}

/// A field that is text.
pub(super) fn text(found: &Value, pointer: &str) -> anyhow::Result<String> {
    let there = found.pointer(pointer).and_then(Value::as_str);
    Ok(there.with_context(|| format!("no text at {pointer} of {found}"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wanted_must_be_there_and_more_may_be() {
        let found = json!({ "a": 1, "b": { "c": [1, 2], "d": null } });
        for (wanted, expected) in [
            (json!({ "a": 1 }), true),
            (json!({ "b": { "c": [1, 2] } }), true),
            (json!({ "b": { "c": [1] } }), false),
            (json!({ "b": { "d": null } }), true),
            (json!({ "e": null }), false),
        ] {
            assert_eq!(has(&found, &wanted), expected, "{wanted}");
        }
    }

    #[test]
    fn a_refusal_must_be_one_and_say_why() {
        let said = |status, err: &str| Said { status, out: String::new(), err: err.into() };
        assert!(said(1, "409: it is\n in use").refused("it is in use").is_ok());
        assert!(said(1, "500: oops").refused("it is in use").is_err());
        assert!(said(0, "it is in use").refused("it is in use").is_err());
    }
}
