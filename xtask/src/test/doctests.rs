//! Which crates have examples in their documentation: running rustdoc over all others would cost minutes for nothing.

use crate::tidy::sources::Sources;

/// Names of the crates with at least one example that is code.
pub(super) fn crates() -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = Sources::read()?
        .rust()
        .filter(|file| has_example(&file.text))
        .filter_map(|file| Some(file.path.strip_prefix("crates/")?.split('/').next()?.to_owned()))
        .collect();
    names.dedup();
    Ok(names)
}

fn has_example(text: &str) -> bool {
    let mut inside = false;
    for line in text.lines().map(str::trim_start) {
        let Some(doc) = line.strip_prefix("//!").or_else(|| line.strip_prefix("///")) else { continue };
        let Some(language) = doc.trim_start().strip_prefix("```") else { continue };
        if !inside && matches!(language.trim(), "" | "rust" | "no_run" | "should_panic" | "compile_fail") {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_are_not_examples() {
        assert!(has_example("/// ```\n/// assert!(true);\n/// ```\n"));
        assert!(!has_example("//! ```text\n//! a --> b\n//! ```\n"));
    }
}
