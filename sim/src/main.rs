//! `sim`: runs seeds of a simulated cell and says what was wrong, with the command that shows it again.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use planted::Bug;
use sim::run::{self, Report, Scenario};

/// Lines of the event log that a failure shows.
const LAST_LINES: usize = 60;

/// A whole cell in one process, on simulated time.
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Args {
    /// What happens; without it each seed runs every scenario.
    #[arg(long, value_parser = scenario)]
    scenario: Option<Scenario>,
    /// Run this seed.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Run these seeds: FIRST..END.
    #[arg(long, value_parser = range, conflicts_with = "minutes")]
    seeds: Option<(u64, u64)>,
    /// Run fresh seeds for so long.
    #[arg(long)]
    minutes: Option<u64>,
    /// Put a known bug in.
    #[arg(long, value_parser = bug)]
    plant: Option<Bug>,
    /// Print every event.
    #[arg(long)]
    verbose: bool,
    /// Print what the product logs, between the events.
    #[arg(long)]
    product: bool,
}

fn scenario(text: &str) -> Result<Scenario, String> {
    let names = || Scenario::ALL.map(Scenario::name).join(", ");
    let found = Scenario::ALL.into_iter().find(|scenario| scenario.name() == text);
    found.ok_or_else(|| format!("there is no such scenario; there are {}", names()))
}

fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.iter().find(|bug| bug.name() == name).copied();
    let known = || Bug::ALL.iter().map(|bug| format!("\n  {:<28}  {}", bug.name(), bug.what())).collect::<String>();
    found.ok_or_else(|| format!("there are{}", known()))
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (first, end) = text.split_once("..").ok_or("expected FIRST..END")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let (first, end) = (number(first)?, number(end)?);
    if first < end { Ok((first, end)) } else { Err("there is no seed in it".into()) }
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<bool> {
    if args.product {
        let product = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG);
        product.try_init().map_err(|error| anyhow::anyhow!("{error}")).context("cannot show what the product logs")?;
    }
    let begun = begin();
    let (first, end) = match (args.seed, args.seeds) {
        (Some(seed), _) => (seed, seed + 1),
        (None, Some(seeds)) => seeds,
        (None, None) => {
            let fresh = fresh_seed();
            let ten = fresh + 10;
            (fresh, if args.minutes.is_some() { u64::MAX } else { ten })
        }
    };
    let until = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let mut total = Total::default();
    'seeds: for seed in first..end {
        for what in Scenario::ALL.into_iter().filter(|what| args.scenario.is_none_or(|only| only == *what)) {
            if until.is_some_and(|until| begun.elapsed() > until) {
                break 'seeds;
            }
            let report = one(args, what, seed);
            let failed = !report.complaints.is_empty();
            total.add(&report);
            if failed && until.is_none() && args.seeds.is_none() {
                break 'seeds;
            }
        }
    }
    total.print(begun.elapsed());
    Ok(total.failed == 0)
}

#[expect(clippy::disallowed_methods, reason = "how fast seeds are is measured in real time")]
fn begin() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "fresh seeds come from outside the simulation")]
fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() * 100_000
}

fn one(args: &Args, what: Scenario, seed: u64) -> Report {
    let report = run::scenario(what, seed, args.plant, args.verbose);
    let counts = report.counts;
    println!(
        "{:<8}  seed {seed:>14}  {:>6} steps  {:>4} commits  {:>4} accepted  {:>4} refused  {:>3} unknown  {:>3} kills  {:>2} pauses  {:>2} stale  {:>3} faults  healed in {:>3} s  {:016x}  {}",
        what.name(),
        report.steps,
        counts.commits,
        counts.accepted,
        counts.refused,
        counts.unknown,
        counts.kills,
        counts.pauses,
        counts.replaced,
        counts.faults,
        counts.healing,
        report.fingerprint,
        if report.complaints.is_empty() { "ok" } else { "WRONG" },
    );
    if !report.complaints.is_empty() {
        explain(args, &report);
    }
    report
}

fn explain(args: &Args, report: &Report) {
    if !args.verbose && args.seed.is_some() {
        let skip = report.lines.len().saturating_sub(LAST_LINES);
        report.lines[skip..].iter().for_each(|line| println!("{line}"));
    }
    report.complaints.iter().for_each(|complaint| println!("  wrong: {complaint}"));
    let (scenario, seed) = (report.scenario.name(), report.seed);
    let plant = args.plant.map(|bug| format!(" --plant {}", bug.name())).unwrap_or_default();
    println!("  again: cargo xtask sim --scenario {scenario} --seed {seed}{plant} --verbose");
}

#[derive(Default)]
struct Total {
    seeds: u64,
    failed: u64,
    seconds: u64,
    kills: u64,
    interrupted: BTreeMap<String, u64>,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.failed += u64::from(!report.complaints.is_empty());
        self.seconds += report.counts.healed_at.unwrap_or(report.seconds);
        self.kills += report.counts.kills;
        for (what, count) in &report.interrupted {
            *self.interrupted.entry(what.clone()).or_default() += count;
        }
    }

    fn print(&self, took: Duration) {
        let minutes = took.as_secs_f64() / 60.0;
        println!("\n   kills  interrupted");
        for (what, count) in &self.interrupted {
            println!("{count:>8}  {what}");
        }
        println!(
            "\n{} seeds, {} wrong, {} kills, {:.1} simulated cell-hours; {:.1} seeds and {:.1} cell-hours a minute",
            self.seeds,
            self.failed,
            self.kills,
            self.seconds as f64 / 3600.0,
            self.seeds as f64 / minutes,
            self.seconds as f64 / 3600.0 / minutes,
        );
    }
}
