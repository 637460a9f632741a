//! What each source file owes its reader: an opening, a bearable length, no unfinished business.

use super::sources::{File, Sources};
use super::{Exception, except};

/// A file is one idea; past this many lines it is rarely still one.
const LINES_MAX: usize = 700;

/// Longer files that are one idea all the same.
const LONG: &[Exception] = &[];

/// Spelled in two halves, so that this file does not trip over itself.
const UNFINISHED: &[(&str, &str)] = &[
    (concat!("#[", "ignore"), "a test that nobody runs; assert the wrong result and say so instead"),
    (concat!("#[", "allow("), "use `expect` with a reason: it says when it is no longer needed"),
    (concat!("#![", "allow("), "use `expect` with a reason: it says when it is no longer needed"),
    (concat!("todo", "!("), "unfinished"),
    (concat!("unimplemented", "!("), "unfinished"),
    (concat!("dbg", "!("), "left from debugging"),
    (concat!("FIX", "ME"), "unfinished"),
];

pub(super) fn check(sources: &Sources) -> Vec<String> {
    let long = sources.rust().filter_map(too_long);
    let mut complaints = except("length", LONG, long);
    complaints.extend(sources.rust().filter_map(unopened));
    complaints.extend(sources.rust().flat_map(unfinished));
    if sources.get("Cargo.lock").is_none() {
        complaints.push("Cargo.lock is not in the repository: builds would not repeat".to_owned());
    }
    complaints
}

fn too_long(file: &File) -> Option<(String, String)> {
    let lines = file.text.lines().count();
    let complaint = format!("{}: {lines} lines; is it still one idea? (up to {LINES_MAX})", file.path);
    (lines > LINES_MAX).then(|| (file.path.clone(), complaint))
}

fn unopened(file: &File) -> Option<String> {
    let opening = file.text.lines().next().unwrap_or_default();
    let opened = opening.strip_prefix("//!").is_some_and(|said| said.trim().len() > 2);
    (!opened).then(|| format!("{}: does not open with `//!` and what it is for", file.path))
}

fn unfinished(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for (mark, why) in UNFINISHED {
            if line.contains(mark) {
                complaints.push(format!("{}:{number}: `{mark}`: {why}", file.path));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "x.rs".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn an_opening_says_something() {
        assert_eq!(unopened(&file("//! What it is for.\n")), None);
        assert!(unopened(&file("//!\n//! Too late.\n")).is_some());
        assert!(unopened(&file("use x;\n")).is_some());
    }

    #[test]
    fn unfinished_business_is_found_with_its_line() {
        let complaints = unfinished(&file(concat!("fn f() {\n    todo", "!()\n}\n")));
        assert!(complaints.len() == 1 && complaints[0].starts_with("x.rs:2:"), "{complaints:?}");
    }
}
