//! Developer and set-up commands: `cargo xtask VERB`.
//!
//! Each verb is a module; this file only chooses. `test` never writes into the sources, `fix` does. What CI runs, a
//! developer can run with the same words.

mod bench;
mod chaos;
mod clock;
mod guest_image;
mod home;
mod house;
mod packages;
mod proto;
mod python;
mod run;
mod sim;
mod stages;
mod test;
mod tidy;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer and set-up commands of Mainstay.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing, start a cell on this machine and boot a first server in it.
    Up {
        /// The cell's directory [default: $MAINSTAY_HOME, else ~/.mainstay].
        #[arg(long)]
        home: Option<PathBuf>,
        /// All that needs no root is done: how `up` calls itself through sudo.
        #[arg(long, hide = true)]
        built: bool,
    },
    /// Stop the cell: daemons, guests, taps, bridges, namespaces.
    Down {
        /// The cell's directory [default: $MAINSTAY_HOME, else ~/.mainstay].
        #[arg(long)]
        home: Option<PathBuf>,
        /// Remove the cell's directory too, with everything that was stored in it.
        #[arg(long)]
        purge: bool,
    },
    /// All that CI runs: format, tidy, protocols, lints, documentation, tests.
    Test {
        /// Leave out what is slow: documentation, doctests, simulation.
        #[arg(long)]
        quick: bool,
    },
    /// The unmodified `openstack` client against whole cells, one of them with a real guest: that stage of `test` alone.
    Client,
    /// Repair by machine what can be: format, and the lints that know their own cure.
    Fix,
    /// The house rules alone: floors, files, words, dependencies, documents.
    Tidy,
    /// The protocols under `proto/`.
    Proto {
        #[command(subcommand)]
        what: Proto,
    },
    /// Run a whole cell on simulated time: `cargo xtask sim --seed 7`; `cargo xtask sim --help` says more.
    #[command(disable_help_flag = true)]
    Sim {
        /// Handed to the simulator as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Harm every workflow at every boundary between effects, and at every pair of them; `--help` says more.
    #[command(disable_help_flag = true)]
    Sweep {
        /// Handed to the sweep as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Measure cells and their parts beside bare peers; `cargo xtask bench --help` says which figures there are.
    #[command(disable_help_flag = true)]
    Bench {
        /// Handed to the load generator as they are; without `--binary` the release build is made and measured.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Kill, stop and starve real processes under load, and see that nothing is lost: `cargo xtask chaos --minutes 5`.
    #[command(disable_help_flag = true)]
    Chaos {
        /// Handed to the storm as they are; `--help` says which there are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build the guest image `tiny`.
    GuestImage {
        /// Where to put it [default: target/guest/tiny.qcow2].
        out: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Proto {
    /// Check style, and that nothing frozen changed its meaning.
    Check,
    /// Promise what the protocols say now: the only way to rewrite `proto/frozen.binpb`.
    Freeze,
}

fn main() -> ExitCode {
    match perform(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Up { home, built } => up::up(&home::choose(home)?, built),
        Verb::Down { home, purge } => up::down(&home::choose(home)?, purge),
        Verb::Test { quick } => test::test(quick),
        Verb::Client => test::client(),
        Verb::Fix => test::fix(),
        Verb::Tidy => tidy::tidy(),
        Verb::Proto { what: Proto::Check } => proto::check(),
        Verb::Proto { what: Proto::Freeze } => proto::freeze(),
        Verb::Sim { args } => sim::by_hand("sim", &args),
        Verb::Sweep { args } => sim::by_hand("sweep", &args),
        Verb::Bench { args } => bench::bench(&args),
        Verb::Chaos { args } => chaos::chaos(&args),
        Verb::GuestImage { out } => {
            let out = out.unwrap_or_else(house::guest_image);
            guest_image::build(&out, &mut |line| println!("{line}"))
        }
    }
}

/// The names of all verbs: documents may name no other.
fn verbs() -> Vec<String> {
    use clap::CommandFactory;
    Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect()
}
