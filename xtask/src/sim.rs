//! `cargo xtask sim` and `cargo xtask sweep`: the programs of the simulator, and the budgets that CI gives them.
//!
//! CI's seeds are fresh with each commit and the same on every machine: they come from the commit's name.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::{house, run};

/// Seeds that every change is tried with, in every scenario.
const SEEDS: u64 = 24;
/// Pairs of each kind that are swept for each workflow; all boundaries alone always are.
const PAIRS: usize = 24;

/// Runs one of the simulator's programs by hand: as it is built for tests if it has little to do, else optimised.
pub(crate) fn by_hand(program: &str, args: &[OsString]) -> anyhow::Result<()> {
    let is = |words: &[&str]| args.iter().any(|arg| words.iter().any(|word| arg.to_string_lossy().starts_with(word)));
    let short = if program == "sweep" { is(&["--strikes", "--pairs", "--help", "-h"]) } else { !is(&["--minutes"]) };
    let profile = if short { "dev" } else { "profiling" };
    let mut command = run::cargo(["run", "--quiet", "--package", "sim", "--profile", profile, "--bin", program, "--"]);
    run::check(command.args(args))
}

/// Runs one of the simulator's programs, optimised.
pub(crate) fn optimised(program: &str, args: &[OsString]) -> anyhow::Result<()> {
    let mut command =
        run::cargo(["run", "--quiet", "--package", "sim", "--profile", "profiling", "--bin", program, "--"]);
    run::check(command.args(args))
}

/// Seeds of this commit, in every scenario.
pub(crate) fn fresh() -> anyhow::Result<()> {
    let first = of_commit();
    let seeds = format!("{first}..{}", first + SEEDS);
    println!("seeds {seeds}");
    run::check(run::command(built("sim")).args(["--seeds", &seeds]))
}

/// Every boundary of every workflow, and pairs drawn by this commit.
pub(crate) fn sweep() -> anyhow::Result<()> {
    let (pairs, seed) = (PAIRS.to_string(), of_commit().to_string());
    run::check(run::command(built("sweep")).args(["--pairs", &pairs, "--seed", &seed]))
}

fn built(program: &str) -> PathBuf {
    house::target().join("debug").join(program)
}

/// A number that is this commit's own; 1 where there is none.
fn of_commit() -> u64 {
    let name = std::process::Command::new("git").args(["rev-parse", "--short=8", "HEAD"]).output();
    let name = name.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    u64::from_str_radix(&name, 16).map_or(1, |number| number * 1000)
}
