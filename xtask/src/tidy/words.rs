//! Words that have no business in this repository: it speaks of the project, not of the machines, places and tools
//! with which somebody happened to work on it. A stranger with a clone must be able to follow every reference.

use super::sources::{File, Sources};

/// A way to find something, and why it should not be there. Words are spelled in two halves, so that this file does
/// not trip over itself.
enum Mark {
    /// A path from the root of somebody's machine: not a part of a longer path, or of an address.
    Path(&'static str),
    /// These letters anywhere.
    Text(&'static str),
    /// A word or phrase, in any case, bounded by what is not a letter.
    Word(&'static str),
    /// A number of a thread in somebody's tracker.
    Thread,
}

const MARKS: &[(Mark, &str)] = &[
    (Mark::Path(concat!("/wo", "rk/")), "a directory of one machine"),
    (Mark::Path(concat!("/ro", "ot/")), "a directory of one machine"),
    (Mark::Path(concat!("/ho", "me/")), "a directory of one machine"),
    (Mark::Text(concat!("../sh", "ared")), "a directory that nobody else has"),
    (Mark::Word(concat!("coding ", "session")), "how somebody worked"),
    (Mark::Word(concat!("in this ", "session")), "how somebody worked"),
    (Mark::Word(concat!("next ", "session")), "how somebody worked"),
    (Mark::Word(concat!("earlier ", "session")), "how somebody worked"),
    (Mark::Word(concat!("helper", "s/")), "how somebody worked"),
    (Mark::Word(concat!("clau", "de")), "a tool of somebody's"),
    (Mark::Word(concat!("anthro", "pic")), "a tool of somebody's"),
    (Mark::Word(concat!("open", "ai")), "a tool of somebody's"),
    (Mark::Word(concat!("chat", "gpt")), "a tool of somebody's"),
    (Mark::Word(concat!("co", "pilot")), "a tool of somebody's"),
    (Mark::Word(concat!("l", "lm")), "a tool of somebody's"),
    (Mark::Word(concat!("language ", "model")), "a tool of somebody's"),
    (Mark::Word(concat!("crates", ".io")), "the host of a registry: say cargo"),
    (Mark::Word(concat!("pypi", ".org")), "the host of a registry: say pip"),
    (Mark::Word(concat!("pythonhosted", ".org")), "the host of a registry: say pip"),
    (Mark::Word(concat!("deb.debian", ".org")), "the host of a registry: say apt"),
    (Mark::Word(concat!("npmjs", ".org")), "the host of a registry: say npm"),
    (Mark::Thread, "a thread of a tracker that a reader may not have: say what it said"),
];

/// Where a mark is honest: the file (or a directory, with its slash), a part of the line, why.
const HONEST: &[(&str, &str, &str)] = &[
    ("guest/", concat!("/ro", "ot/"), "inside the guest: where its root filesystem is mounted first"),
    ("guest/", concat!("/ho", "me/"), "inside the guest: its own user"),
    ("xtask/src/guest_image/", concat!("/ho", "me/"), "inside the guest: its own user"),
];

/// Cargo writes it, with the address of its registry.
const LOCK: &str = "Cargo.lock";

pub(super) fn check(sources: &Sources) -> Vec<String> {
    sources.all().filter(|file| file.path != LOCK).flat_map(complaints).collect()
}

fn complaints(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for (mark, why) in MARKS {
            let Some(found) = mark.find(line) else { continue };
            let honest = |(path, part, _): &&(&str, &str, &str)| {
                (file.path == *path || (path.ends_with('/') && file.path.starts_with(path))) && line.contains(part)
            };
            if HONEST.iter().find(honest).is_none() {
                complaints.push(format!("{}:{number}: `{found}` is {why}", file.path));
            }
        }
    }
    complaints
}

impl Mark {
    fn find(&self, line: &str) -> Option<String> {
        match self {
            Mark::Text(text) => line.contains(text).then(|| (*text).to_owned()),
            Mark::Path(path) => line
                .match_indices(path)
                .any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || "_-./*}~<>".contains(before))
                })
                .then(|| (*path).to_owned()),
            Mark::Word(word) => {
                let lower = line.to_lowercase();
                let bounded = |(at, _): (usize, &str)| {
                    let after = &lower[at + word.len()..];
                    !lower[..at].ends_with(char::is_alphabetic) && !after.starts_with(char::is_alphabetic)
                };
                lower.match_indices(word).any(bounded).then(|| (*word).to_owned())
            }
            Mark::Thread => thread(line),
        }
    }
}

/// `issue` with a number after it, or a number sign that stands where only a thread's would.
fn thread(line: &str) -> Option<String> {
    let lower = line.to_lowercase();
    let number = |text: &str| -> usize { text.bytes().take_while(u8::is_ascii_digit).count() };
    for (at, word) in lower.match_indices("issue ") {
        let after = &lower[at + word.len()..];
        let sign = usize::from(after.starts_with('#'));
        let digits = number(&after[sign..]);
        if digits > 0 && !lower[..at].ends_with(char::is_alphabetic) {
            return Some(lower[at..at + word.len() + sign + digits].to_owned());
        }
    }
    for (at, _) in line.match_indices('#') {
        let digits = number(&line[at + 1..]);
        let after = line[at + 1 + digits..].chars().next();
        let ends = after.is_none_or(|after| after.is_whitespace() || ".,:;)".contains(after));
        if (1..=4).contains(&digits) && ends && line[..at].ends_with([' ', '(']) {
            return Some(line[at..=at + digits].to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&str>) {
        let found = MARKS.iter().find_map(|(mark, _)| mark.find(line));
        assert_eq!(found.as_deref(), expected, "{line}");
    }

    #[test]
    fn machines_and_tools_are_found_and_honest_words_are_not() {
        check(concat!("see /wo", "rk/main/x"), Some(concat!("/wo", "rk/")));
        check("proto/mainstay/work/state/v1/work.proto", None);
        check("the process leaves the agent's session", None);
        check(concat!("asked Clau", "de"), Some(concat!("clau", "de")));
        check("openair, a copilots' term", None);
        check(concat!("as iss", "ue 2 says"), Some(concat!("iss", "ue 2")));
        check("issue a token", None);
        check(concat!("see (", "#12) there"), Some(concat!("#", "12")));
        check("r#\"text\"# and #![deny(x)] and $# and #123abc", None);
    }
}
