//! `cargo xtask chaos`: storms for people to watch. Each line is an event; the end is a table of what was done.

use std::process::ExitCode;
use std::time::Duration;

use cell_tests::chaos::{self, Layout, Storm};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

/// Kills, stops and starves the processes of real cells under load; whatever was acknowledged must be so in the end.
#[derive(Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Args {
    /// How long each storm goes on; not given: one round of the short plan, as in the tests.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=45))]
    minutes: Option<u64>,
    /// Where the plan of faults comes from; not given: another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Whose guests are harmed.
    #[arg(long, value_enum, default_value = "both")]
    driver: Driver,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Driver {
    /// Fake nodes: control in one process, then every role apart.
    Fake,
    /// Real guests.
    Qemu,
    /// One after the other.
    Both,
}

/// An interrupt ends the storm and what it has started; a second one ends this process alone.
fn mind_interrupts() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate()).expect("a signal can be waited for");
            let mut interrupt = signal(SignalKind::interrupt()).expect("a signal can be waited for");
            let mut next = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
            next().await;
            chaos::break_off();
            next().await;
            std::process::exit(130);
        });
    });
}

fn main() -> ExitCode {
    let args = Args::parse();
    mind_interrupts();
    let seed = args.seed.unwrap_or_else(chaos::any_seed);
    let layouts: &[Layout] = match args.driver {
        Driver::Fake => &[Layout::Together, Layout::Apart],
        Driver::Qemu => &[Layout::Guests],
        Driver::Both => &[Layout::Together, Layout::Apart, Layout::Guests],
    };
    for layout in layouts {
        let span = args.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let tally = chaos::run(&Storm { layout: *layout, seed, span });
        println!("\n{}, seed {seed}, {tally}", layout.name());
    }
    ExitCode::SUCCESS
}
