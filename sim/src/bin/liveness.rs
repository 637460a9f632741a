//! `cargo xtask bench liveness`: how fast ends are seen, what quiet costs, and what half an hour of each bad day does.
//!
//! All of it is simulated, but for the processor time of an instance's decisions, which is measured on this machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use sim::liveness::Plan;
use sim::liveness::figures::{self, Alone};
use sim::liveness::storm::{self, Storm};

/// The figures of liveness.
#[derive(Parser)]
#[command(name = "cargo xtask bench liveness", bin_name = "cargo xtask bench liveness")]
struct Args {
    /// Sessions, once for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    sessions: Vec<usize>,
    /// Simulated minutes of each storm; 0: none.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Processes in each storm.
    #[arg(long, default_value_t = 200)]
    processes: usize,
    /// Only storms whose names have this in them.
    #[arg(long, default_value = "")]
    storm: String,
    /// Everything that is drawn comes from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let ends = ends(&args);
    quiet(&args);
    back(&args);
    let storms = storms(&args);
    println!("\n{OTHERS}");
    if ends && storms { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What others promise, from their own documents and defaults.
const OTHERS: &str = "\
Others, by their own defaults (read in their documents and sources, not measured here):
  Nova              each service writes to the database every 10 s (report_interval); down after 60 s (service_down_time)
  Kubernetes        each kubelet renews a lease every 10 s; a node is unknown after 40 s, in newer releases 50 s
                    (node-monitor-grace-period of the controller manager)
  Consul, memberlist  a probe each second to one member at random; suspicion lasts 4 * log10(members) probes: at 1,000
                    members at least 12 s from the first missed probe (SuspicionMult, ProbeInterval of DefaultLANConfig),
                    and it grows with the number of members";

#[expect(clippy::disallowed_methods, reason = "what decisions cost is measured in real time")]
fn begin() -> Instant {
    Instant::now()
}

fn ends(args: &Args) -> bool {
    println!(
        "From an end to the news of it at ten subscribers, five instances, 0.1 to 0.3 ms from machine to machine (simulated):"
    );
    println!("  sessions   suspected p50, p99    dead p50, p99         machine unreachable p50, p99   false dead");
    let mut good = true;
    let mut tails = Vec::new();
    for sessions in args.sessions.iter().copied() {
        let outcome = figures::ends(args.seed, sessions);
        let ms = |spread: &sim::liveness::Spread| (spread.percentile_ms(50), spread.percentile_ms(99));
        let (suspected, dead, unreachable) = (ms(&outcome.suspected), ms(&outcome.dead), ms(&outcome.unreachable));
        println!(
            "  {sessions:>8}   {:>6.1} ms {:>6.1} ms   {:>6.1} ms {:>6.1} ms   {:>8.0} ms {:>8.0} ms          {:>6}",
            suspected.0, suspected.1, dead.0, dead.1, unreachable.0, unreachable.1, outcome.false_dead,
        );
        tails.push((suspected.1, unreachable.1));
        good &= outcome.false_dead == 0 && suspected.1 < 100.0 && unreachable.1 < 2000.0;
        outcome.complaints.iter().for_each(|text| println!("    wrong: {text}"));
    }
    if let (Some(first), Some(last)) = (tails.first(), tails.last()) {
        let (suspected, unreachable) = (last.0 / first.0, last.1 / first.1);
        println!("  most sessions to fewest, p99: suspected {suspected:.2}, unreachable {unreachable:.2}");
    }
    good
}

fn quiet(args: &Args) {
    println!(
        "\nWhen nothing happens, per 1,000 sessions and second (simulated; bytes of messages are estimates), and what an"
    );
    println!("instance's decisions take of a core (measured here, all sessions at one):");
    println!("  sessions   messages   packets   bytes     news   looks    core");
    for sessions in args.sessions.iter().copied() {
        let seconds = if sessions > 50_000 { 20 } else { 60 };
        let quiet = figures::quiet(args.seed, sessions, seconds);
        let thousands = sessions as f64 / 1000.0;
        println!(
            "  {sessions:>8}   {:>8.0}   {:>7.0}   {:>7.0}   {:>4.1}   {:>5.0}   {:.3} %",
            quiet.messages / thousands,
            quiet.packets / thousands,
            quiet.bytes / thousands,
            quiet.statements / thousands,
            quiet.looks / thousands,
            core(sessions) / thousands * 100.0,
        );
    }
}

/// Seconds of a core that the decisions of one instance take in a second.
fn core(sessions: usize) -> f64 {
    let mut alone = Alone::new(sessions);
    alone.second();
    let (begun, mut seconds) = (begin(), 0);
    while begun.elapsed() < Duration::from_secs(1) {
        alone.second();
        seconds += 1;
    }
    begun.elapsed().as_secs_f64() / f64::from(seconds)
}

fn back(args: &Args) {
    println!("\nAll five instances end at once and are back a second later (simulated):");
    for sessions in args.sessions.iter().copied().filter(|many| *many <= 10_000) {
        let back = figures::back(args.seed, sessions);
        println!(
            "  {sessions:>8} sessions: all stand after {:.2} s, at most {} handshakes of an instance in a second, {} false dead, {} false unreachable, {} suspected",
            back.all_ms as f64 / 1000.0,
            back.handshakes_max,
            back.outcome.false_dead,
            back.outcome.false_unreachable,
            back.outcome.false_suspected,
        );
        back.outcome.complaints.iter().for_each(|text| println!("    wrong: {text}"));
    }
}

fn storms(args: &Args) -> bool {
    if args.minutes == 0 {
        return true;
    }
    println!("\n{} simulated minutes of each storm, {} processes, five instances:", args.minutes, args.processes);
    println!(
        "                                                false     false        false      ends            of events   healed"
    );
    println!(
        "  storm                                         dead      unreachable  suspected  (true)  tries   (million)   within"
    );
    let mut good = true;
    let chosen = Storm::ALL.into_iter().filter(|storm| storm.name().contains(&args.storm));
    for (number, storm) in (0..).zip(chosen) {
        let plan = Plan {
            seed: args.seed + number,
            instances: 5,
            machines: 5 + args.processes / 5,
            processes: args.processes,
            watchers: 5,
            latency_us: 300,
        };
        let outcome = storm::run(storm, plan, args.minutes * 60);
        println!(
            "  {:<44}  {:>4}      {:>6}       {:>6}     {:>5}  {:>7}     {:>5.1}      {:>3} s  {}",
            storm.name(),
            outcome.false_dead,
            outcome.false_unreachable,
            outcome.false_suspected,
            outcome.ended.iter().sum::<u64>(),
            outcome.tries,
            outcome.events as f64 / 1e6,
            outcome.healed_ms / 1000,
            if outcome.complaints.is_empty() { "ok" } else { "WRONG" },
        );
        outcome.complaints.iter().for_each(|text| println!("    wrong: {text}"));
        good &= outcome.complaints.is_empty();
    }
    good
}
