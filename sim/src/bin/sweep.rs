//! `sweep`: harms every workflow at every boundary between effects, and says what came of it.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use planted::Bug;
use sim::sweep::trial::{self, Strike};
use sim::sweep::{self, Extent, Line, Script, Table};

/// Every workflow, harmed at every boundary between effects.
#[derive(Parser)]
#[command(name = "cargo xtask sweep", bin_name = "cargo xtask sweep")]
struct Args {
    /// This case alone.
    #[arg(long, value_parser = script)]
    script: Option<Script>,
    /// Pairs of each kind that are run for each case, at most; all by default.
    #[arg(long, default_value_t = usize::MAX)]
    pairs: usize,
    /// The order of tasks, and which pairs are drawn, come from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Put a known bug in.
    #[arg(long, value_parser = bug)]
    plant: Option<Bug>,
    /// One run with this harm, and its event log: NUMBER:crash, NUMBER:pause or NUMBER:FAILURE:TIMES, with commas between.
    #[arg(long, requires = "script", value_delimiter = ',')]
    strikes: Option<Vec<Strike>>,
}

fn script(text: &str) -> Result<Script, String> {
    let found = Script::ALL.into_iter().find(|script| script.name() == text);
    found.ok_or_else(|| format!("there is no such case; there are {}", Script::ALL.map(Script::name).join(", ")))
}

fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.iter().find(|bug| bug.name() == name).copied();
    found.ok_or_else(|| format!("there are {}", Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ")))
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let (Some(strikes), Some(script)) = (&args.strikes, args.script) {
        let _planted = planted::plant(args.plant);
        return once(script, args.seed, strikes);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let extent = Extent { pairs_max: args.pairs, seed: args.seed, threads, planted: args.plant };
    let begun = begin();
    let mut lines = Vec::new();
    for script in Script::ALL.into_iter().filter(|script| args.script.is_none_or(|only| only == *script)) {
        let line = sweep::sweep(script, extent);
        eprintln!("{:<19} {:>6} runs, {} findings", script.name(), line.runs, line.findings.len());
        line.findings.iter().for_each(|finding| println!("  {finding}"));
        lines.push(line);
    }
    println!("\n{}", Table(&lines));
    let uncovered = if args.script.is_none() { uncovered(&lines) } else { Vec::new() };
    uncovered.iter().for_each(|what| println!("not covered: {what}"));
    let runs: usize = lines.iter().map(|line| line.runs).sum();
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    println!("{runs} runs in {minutes:.1} minutes, {:.0} a minute", runs as f64 / minutes);
    if lines.iter().all(Line::is_clean) && uncovered.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What no script brought about: workflows that never ran, and steps that were never undone though they can be.
fn uncovered(lines: &[Line]) -> Vec<String> {
    let mut missing = Vec::new();
    for workflow in sweep::script::workflows() {
        if !lines.iter().any(|line| line.kinds.contains(workflow.kind)) {
            missing.push(format!("the workflow {} (no script brings it about)", workflow.kind));
        }
        // The last step ends the work in its own commit: it is never done and then undone.
        let steps = workflow.step_names();
        for (number, name) in steps.iter().enumerate().take(workflow.no_return.min(steps.len() - 1)) {
            if !lines.iter().any(|line| line.undone_steps.contains(&(workflow.kind.to_owned(), number))) {
                missing.push(format!("the undo of the step {name:?} of {}", workflow.kind));
            }
        }
    }
    missing
}

fn once(script: Script, seed: u64, strikes: &[Strike]) -> ExitCode {
    let trial = trial::run(script, seed, strikes);
    trial.lines.iter().for_each(|line| println!("{line}"));
    trial.complaints.iter().for_each(|text| println!("  wrong: {text}"));
    trial.stuck.iter().for_each(|text| println!("  left: {text}"));
    if trial.complaints.is_empty() && trial.stuck.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "how fast runs are is measured in real time")]
fn begin() -> Instant {
    Instant::now()
}
