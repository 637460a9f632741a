//! `cargo xtask bench`: what a cell does in a second, what it costs, and what a bare peer makes of the same work.
//!
//! ```text
//! cargo xtask bench                                   all figures, about a quarter of an hour
//! cargo xtask bench --only creates --seconds 20       one of them, shorter
//! cargo xtask bench --binary target/profiling/mainstay --only creates,alone
//! ```
//!
//! Each figure is one file under `figures`; it starts the cells that it needs, in a directory of its own and on loopback
//! only, and returns rows of the one table that is printed at the end. A bare peer is one file under `peers`: the same
//! bytes at the same concurrency with nothing of ours around them. Ours and the peer's take turns, and what is printed
//! is the median of the rounds: on a small machine that other things run on too, only what was measured side by side
//! can be compared.
//!
//! This process is the load generator; daemons and peers that serve are processes of their own, and end by their process
//! ids. As root it moves into a network namespace of its own first, so that what it counts on `lo` is the cell's alone.
//!
//! Deliberately absent: thresholds that fail a build. Figures on somebody's laptop are for reading.

#![expect(unreachable_pub, reason = "a binary has no outside: `pub` says what a module offers to its siblings")]
#![expect(clippy::disallowed_methods, reason = "a benchmark is about real processes in real time")]

mod api;
mod cell;
mod figures;
mod fleet;
mod http_client;
mod inside;
mod load;
mod peers;
mod probe;
mod serve;
mod stats;
mod syncs;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use figures::Figure;

/// Measures cells of Mainstay and their parts.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
pub struct Settings {
    /// Only these figures.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Figure>,
    /// How long servers are created.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The program to be measured.
    #[arg(long)]
    binary: PathBuf,
    /// Clients that create servers at a time.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Fake nodes of the cell in which servers are created.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Servers of the cell that is looked at when it is full.
    #[arg(long, default_value_t = 10_000)]
    servers: usize,
    /// How long the idle cell is watched.
    #[arg(long, default_value_t = 300)]
    idle_seconds: u64,
    /// How long the cell of a thousand sessions is watched when nothing happens to it.
    #[arg(long, default_value_t = 60)]
    quiet_seconds: u64,
    /// Where cells keep their homes; on a disk, not in memory.
    #[arg(long)]
    dir: PathBuf,
    /// How the table is written.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// This process is in a network namespace of its own already.
    #[arg(long, hide = true)]
    inside: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    let ended = serve::asked().unwrap_or_else(|| {
        let settings = Settings::parse();
        if !settings.inside {
            // Returns only if that cannot be had.
            inside::enter();
        }
        run(&settings)
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> anyhow::Result<()> {
    std::fs::create_dir_all(&settings.dir)?;
    // One thread: what the generator costs is taken from the same processors as what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = async {
        let mut terminate = signal(SignalKind::terminate())?;
        // What a figure has started ends when it is dropped.
        tokio::select! {
            ended = figures::all(settings) => ended,
            _ = terminate.recv() => Err(anyhow::anyhow!("told to end")),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    };
    let (rows, failed) = runtime.block_on(measured)?;
    match settings.output {
        Output::Table => print!("{}", table::render(&rows)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
    }
    if failed.is_empty() { Ok(()) } else { anyhow::bail!("not measured: {}", failed.join(", ")) }
}
