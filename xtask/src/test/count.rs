//! How many tests passed, read from the runner's own words while they go by.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// What a runner counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    passed: u64,
    failed: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Runs nextest, which speaks on standard error and sums up once.
pub(super) fn nextest(command: &mut Command) -> anyhow::Result<Count> {
    command.stderr(Stdio::piped());
    run(command, |child| child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>), "Summary [")
}

/// Runs the standard runner, which speaks on standard output and sums up once for each binary.
pub(super) fn libtest(command: &mut Command) -> anyhow::Result<Count> {
    command.stdout(Stdio::piped());
    run(command, |child| child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>), "test result:")
}

fn run(
    command: &mut Command,
    pipe: impl FnOnce(&mut std::process::Child) -> Option<Box<dyn std::io::Read>>,
    marker: &str,
) -> anyhow::Result<Count> {
    let mut child = command.spawn().context("cannot start the test runner")?;
    let pipe = pipe(&mut child).context("the test runner has no output")?;
    let mut count = Count::default();
    for line in BufReader::new(pipe).lines() {
        let line = line?;
        println!("{line}");
        if let Some((_, summary)) = line.split_once(marker) {
            count += read(summary);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        println!("{count}");
        bail!("{} of {} tests failed, or the runner did ({status})", count.failed, count.passed + count.failed);
    }
    Ok(count)
}

/// Numbers stand before their words in both runners' summaries; what timed out or never ended well has failed too.
fn read(summary: &str) -> Count {
    let mut count = Count::default();
    for part in summary.split([',', ':', ';', '.', ']']) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next()) else {
            continue;
        };
        match what {
            "passed" => count.passed += number,
            "failed" | "timed" | "exec" => count.failed += number,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(summary: &str, passed: u64, failed: u64) {
        assert_eq!(read(summary), Count { passed, failed }, "{summary}");
    }

    #[test]
    fn both_runners_are_understood() {
        check("   0.009s] 21 tests run: 21 passed, 0 skipped", 21, 0);
        check("  12.100s] 8 tests run: 5 passed (1 slow), 2 failed, 1 timed out, 3 skipped", 5, 3);
        check(" ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s", 4, 0);
        check(" FAILED. 4 passed; 1 failed; 0 ignored", 4, 1);
    }
}
