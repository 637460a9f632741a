//! All that CI runs, in the order in which mistakes are cheapest to find.
//!
//! Builds share what they can: lints and documentation work on checked crates, tests and the programs that tests
//! start on built ones, each with the features of the whole workspace. Nothing here writes into the sources.

mod client;
mod count;
mod doctests;

use std::process::Command;

use crate::run::{self, cargo};
use crate::stages::Stages;
use crate::{guest_image, house, packages, proto, sim, tidy};

/// `cargo xtask test`.
pub(crate) fn test(quick: bool) -> anyhow::Result<()> {
    let mut stages = Stages::new();
    let result = all(&mut stages, quick);
    stages.print();
    let count = result?;
    println!("\n{count}");
    Ok(())
}

fn all(stages: &mut Stages, quick: bool) -> anyhow::Result<count::Count> {
    stages.run("packages", packages::for_tests)?;
    stages.run("format", || run::check(&mut cargo(["fmt", "--all", "--check"])))?;
    stages.run("tidy", tidy::tidy)?;
    stages.run("protocols", proto::check)?;
    stages.run("lints", || {
        run::check(built().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
    })?;
    if !quick {
        stages.run("documentation", || {
            run::check(built().args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
        })?;
    }
    stages.run("guest image", || guest_image::build(&house::guest_image(), &mut |line| println!("{line}")))?;
    // Tests start the product's own programs from the target directory.
    stages.run("build", || run::check(built().args(["build", "--workspace", "--bins", "--tests", "--locked"])))?;
    let mut count = stages.run("tests", tests)?;
    stages.run("openstack client", client::client)?;
    if !quick {
        let crates = doctests::crates()?;
        if !crates.is_empty() {
            count += stages.run("doctests", || doctests(&crates))?;
        }
    }
    if !quick {
        stages.run("simulation", sim::fresh)?;
        stages.run("sweep", sim::sweep)?;
    }
    Ok(count)
}

/// `cargo xtask client`: that stage alone, and what it needs. With `MAINSTAY_BIN` a program that is there is tested.
pub(crate) fn client() -> anyhow::Result<()> {
    let mut stages = Stages::new();
    stages.run("packages", packages::for_tests)?;
    stages.run("guest image", || guest_image::build(&house::guest_image(), &mut |line| println!("{line}")))?;
    if std::env::var_os("MAINSTAY_BIN").is_none() {
        stages.run("build", || run::check(built().args(["build", "--package", "mainstay", "--locked"])))?;
    }
    let result = stages.run("openstack client", client::client);
    stages.print();
    result
}

/// `cargo xtask fix`.
pub(crate) fn fix() -> anyhow::Result<()> {
    run::check(&mut cargo(["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"]))?;
    run::check(&mut cargo(["fmt", "--all"]))
}

/// Cargo as all stages call it. A build from nothing gains nothing from incremental compilation, which CI always is.
fn built() -> Command {
    let mut command = cargo::<&str>([]);
    if std::env::var_os("CI").is_some() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

fn tests() -> anyhow::Result<count::Count> {
    if run::works(&mut cargo(["nextest", "--version"])) {
        return count::nextest(built().args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]));
    }
    println!("there is no cargo-nextest here (`cargo install --locked cargo-nextest`): plain `cargo test` instead");
    count::libtest(built().args(["test", "--workspace", "--bins", "--lib", "--tests", "--locked", "--no-fail-fast"]))
}

fn doctests(crates: &[String]) -> anyhow::Result<count::Count> {
    let mut command = built();
    command.args(["test", "--doc", "--locked"]);
    for name in crates {
        command.args(["-p", name]);
    }
    count::libtest(&mut command)
}
