//! Reading a licence expression: `MIT OR Apache-2.0`, `(MIT OR Apache-2.0) AND Unicode-3.0`.

/// Whether the expression can be satisfied with licences that `fine` accepts. What cannot be read is not allowed.
pub(super) fn allowed(expression: &str, fine: impl Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = either(&mut words, &fine);
    verdict.unwrap_or(false) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, fine: &impl Fn(&str) -> bool) -> Option<bool> {
    let mut verdict = both(words, fine)?;
    while words.next_if_eq(&"OR").is_some() {
        verdict |= both(words, fine)?;
    }
    Some(verdict)
}

fn both(words: &mut Words<'_>, fine: &impl Fn(&str) -> bool) -> Option<bool> {
    let mut verdict = one(words, fine)?;
    while words.next_if_eq(&"AND").is_some() {
        verdict &= one(words, fine)?;
    }
    Some(verdict)
}

fn one(words: &mut Words<'_>, fine: &impl Fn(&str) -> bool) -> Option<bool> {
    let name = words.next()?;
    if name == "(" {
        let verdict = either(words, fine)?;
        return words.next_if_eq(&")").map(|_| verdict);
    }
    if words.next_if_eq(&"WITH").is_some() {
        return Some(fine(&format!("{name} WITH {}", words.next()?)));
    }
    Some(fine(name))
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(expression: &str, expected: bool) {
        let fine = |name: &str| matches!(name, "MIT" | "ISC" | "Apache-2.0 WITH LLVM-exception");
        assert_eq!(super::allowed(expression, fine), expected, "{expression}");
    }

    #[test]
    fn expressions_are_satisfied_or_not() {
        check("MIT", true);
        check("GPL-3.0", false);
        check("GPL-3.0 OR MIT", true);
        check("MIT/GPL-3.0", true);
        check("MIT AND GPL-3.0", false);
        check("(GPL-3.0 OR MIT) AND ISC", true);
        check("GPL-3.0 OR MIT AND GPL-2.0", false);
        check("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true);
        check("(MIT", false);
        check("", false);
    }
}
