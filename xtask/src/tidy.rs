//! The house rules that no compiler knows, checked over the sources, the dependency graph and the documents.
//!
//! Each rule is a function from what was read to complaints, one line each, that say what is wrong and where. All
//! complaints are shown, not only the first. Exceptions stand beside their rule as data, each with its reason, and an
//! exception that nothing needs any more is a complaint too.

mod dependencies;
mod documents;
mod files;
mod floors;
mod graph;
mod licence;
mod methods;
pub(crate) mod sources;
mod switches;
mod words;

use graph::Graph;
use sources::Sources;

/// `cargo xtask tidy`.
pub(crate) fn tidy() -> anyhow::Result<()> {
    let complaints = complaints()?;
    for complaint in &complaints {
        println!("  {complaint}");
    }
    anyhow::ensure!(complaints.is_empty(), "{} house rules are broken, see above", complaints.len());
    println!("the house is in order");
    Ok(())
}

fn complaints() -> anyhow::Result<Vec<String>> {
    let sources = Sources::read()?;
    let graph = Graph::read()?;
    let rules = [
        files::check(&sources),
        words::check(&sources),
        methods::check(&sources),
        documents::check(&sources),
        floors::check(&graph),
        dependencies::check(&graph),
        switches::check()?,
    ];
    Ok(rules.into_iter().flatten().collect())
}

/// An argued exception: what is excepted, and why.
type Exception = (&'static str, &'static str);

/// Splits off what is excepted, and complains of exceptions that excepted nothing.
fn except(rule: &str, exceptions: &[Exception], found: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut unused: Vec<&str> = exceptions.iter().map(|(name, _)| *name).collect();
    let mut complaints = Vec::new();
    for (name, complaint) in found {
        if exceptions.iter().any(|(excepted, _)| *excepted == name) {
            unused.retain(|excepted| *excepted != name);
        } else {
            complaints.push(complaint);
        }
    }
    complaints.extend(unused.into_iter().map(|name| format!("{rule}: the exception for {name} is no longer needed")));
    complaints
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_house_is_in_order() -> anyhow::Result<()> {
        let complaints = super::complaints()?;
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
        Ok(())
    }
}
