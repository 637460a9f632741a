//! A command's stages: each says what it is, and how long it took.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::clock;

/// The stages run so far.
pub(crate) struct Stages {
    begun: Instant,
    done: Vec<(String, Duration)>,
}

impl Stages {
    pub(crate) fn new() -> Stages {
        Stages { begun: clock::now(), done: Vec::new() }
    }

    /// Runs one; its failure is the command's, with the stage's name around it.
    pub(crate) fn run<T>(&mut self, name: &str, stage: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        println!("=== {name}");
        let begun = clock::now();
        let result = stage();
        let took = begun.elapsed();
        // Stages run programs that write for themselves; ours must not come after theirs.
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        println!("=== {name}: {verdict} after {:.1} s", took.as_secs_f64());
        std::io::stdout().flush()?;
        self.done.push((name.to_owned(), took));
        result.with_context(|| format!("stage `{name}` failed"))
    }

    /// A table of all stages and the sum.
    pub(crate) fn print(&self) {
        let width = self.done.iter().map(|(name, _)| name.len()).max().unwrap_or_default().max("in all".len());
        println!();
        for (name, took) in &self.done {
            println!("  {name:width$}  {:>7.1} s", took.as_secs_f64());
        }
        println!("  {:width$}  {:>7.1} s", "in all", self.begun.elapsed().as_secs_f64());
    }
}
