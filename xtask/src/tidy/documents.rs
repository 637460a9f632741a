//! Documents keep their promises: the commands that they name exist, their links lead somewhere, and the tests that
//! they cite are there.

use std::collections::BTreeSet;
use std::path::Path;

use super::sources::{File, Sources};
use crate::house;

pub(super) fn check(sources: &Sources) -> Vec<String> {
    let verbs: BTreeSet<String> = crate::verbs().into_iter().collect();
    let tests = tests(sources);
    let mut complaints = Vec::new();
    for file in sources.ending(".md") {
        complaints.extend(commands(file, &verbs));
        complaints.extend(links(file));
        complaints.extend(cited(file, &tests));
    }
    complaints
}

fn commands(file: &File, verbs: &BTreeSet<String>) -> Vec<String> {
    let named = file.text.split("cargo xtask ").skip(1).filter_map(|after| {
        let end = after.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(after.len());
        (end > 0).then(|| &after[..end])
    });
    let unknown: BTreeSet<&str> = named.filter(|verb| !verbs.contains(*verb)).collect();
    unknown.into_iter().map(|verb| format!("{}: there is no `cargo xtask {verb}`", file.path)).collect()
}

fn links(file: &File) -> Vec<String> {
    let folder = house::root().join(Path::new(&file.path).parent().unwrap_or(Path::new("")));
    let mut complaints = Vec::new();
    for after in file.text.split("](").skip(1) {
        let Some((target, _)) = after.split_once(')') else { continue };
        let path = target.split('#').next().unwrap_or_default();
        if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
            complaints.push(format!("{}: the link to {target} leads nowhere", file.path));
        }
    }
    complaints
}

/// Citations have the form `crate: name_of_the_test`, in backticks.
fn cited(file: &File, tests: &BTreeSet<(String, String)>) -> Vec<String> {
    let mut complaints = Vec::new();
    for quoted in file.text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
        let Some((home, name)) = quoted.split_once(": ") else { continue };
        let is_name = |text: &str, more: char| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == more)
        };
        if is_name(home, '-') && is_name(name, '_') && name.contains('_') {
            let known = tests.contains(&(home.to_owned(), name.to_owned()));
            complaints.extend((!known).then(|| format!("{}: crate {home} has no test {name}", file.path)));
        }
    }
    complaints
}

/// Every function that is marked as a test, with the folder of its crate.
fn tests(sources: &Sources) -> BTreeSet<(String, String)> {
    let mut tests = BTreeSet::new();
    for file in sources.rust() {
        let folder = file.path.strip_prefix("crates/").unwrap_or(&file.path).split('/').next().unwrap_or_default();
        let mut marked = false;
        for line in file.text.lines().map(str::trim) {
            marked |= line.starts_with("#[") && line.contains("test");
            let Some((_, after)) = line.split_once("fn ") else { continue };
            if marked && !line.starts_with("//") {
                let name = after.split(['(', '<']).next().unwrap_or_default();
                tests.insert((folder.to_owned(), name.to_owned()));
            }
            marked = false;
        }
    }
    tests
}

#[cfg(test)]
mod tests_of_documents {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "README.md".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn promises_that_are_not_kept_are_found() {
        let verbs = BTreeSet::from(["test".to_owned()]);
        assert!(commands(&file("`cargo xtask test --quick`, then"), &verbs).is_empty());
        assert_eq!(commands(&file("`cargo xtask fly`"), &verbs).len(), 1);
        assert!(links(&file("[one](Cargo.toml) [two](https://example.org/x) [three](#here)")).is_empty());
        assert_eq!(links(&file("[one](nowhere.md)")).len(), 1);
        let tests = BTreeSet::from([("store".to_owned(), "a_watch_is_told_all".to_owned())]);
        assert!(cited(&file("`store: a_watch_is_told_all` and `area: what it does`"), &tests).is_empty());
        assert_eq!(cited(&file("`store: it_was_renamed`"), &tests).len(), 1);
    }
}
