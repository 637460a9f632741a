//! `cargo xtask up`: from a fresh machine to a guest's own words on the screen. `cargo xtask down`: back again.
//!
//! Each stage makes sure of one thing and is quick where it is so already; a second `up` finds a cell that runs and a
//! server that answers. The cell is driven only through its public API, as any client would. What is not done here:
//! nothing is assumed of a cell's inside, and no process is ended whose command line does not name this cell.

mod api;
mod cell;
mod first;
pub(crate) mod ssh;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;
use rustix::process::geteuid;

use crate::home::Home;
use crate::stages::Stages;
use crate::{guest_image, house, packages, run};

/// The release binary.
fn binary() -> PathBuf {
    house::target().join("release/mainstay")
}

/// Ends well only if a guest answered.
pub(crate) fn up(home: &Home, built: bool) -> anyhow::Result<()> {
    let mut stages = Stages::new();
    if !built {
        stages.run("packages", packages::for_a_cell)?;
        stages.run("binary", || run::check(&mut run::cargo(["build", "--release", "--locked", "-p", "mainstay"])))?;
        stages.run("guest image", || guest_image::build(&house::guest_image(), &mut |line| println!("{line}")))?;
    }
    if !geteuid().is_root() {
        println!(
            "\nA cell makes network devices and confines its guests, so it runs as root: going on through sudo.\n"
        );
        return again_as_root(home, &["up", "--built"]);
    }
    stages.run("cell", || cell::start(home))?;
    let api = stages.run("token", || api::Api::login(&home.openrc()))?;
    let key = stages.run("key pair", || first::key_pair(&api, home))?;
    stages.run("security group", || first::open_security_group(&api))?;
    let server = stages.run("server", || first::server(&api, home))?;
    stages.run("active", || first::wait_until_active(&api, &server))?;
    stages.run("login prompt", || first::wait_for_login_prompt(&api, &server))?;
    let address = first::address(&api, &server)?;
    let login = ssh::Login { key: &key, address: &address, known_hosts: &home.up().join("known_hosts") };
    let words = stages.run("ssh", || login.wait_for("uname -a && uptime"))?;
    println!("\nThe guest says:\n");
    for line in words.lines() {
        println!("    {line}");
    }
    if let Some(request) = first::request_id(home) {
        println!("\nThe path of the request that created it:\n");
        run::check(run::command(binary()).args(["trace", &request, "--home"]).arg(home.dir()))
            .context("the server runs, but its trace cannot be shown")?;
    }
    stages.print();
    print_what_next(home, &address, &login);
    Ok(())
}

/// The same command as root, with what it takes from the environment. What belongs to root then needs sudo to be read.
fn again_as_root(home: &Home, command: &[&str]) -> anyhow::Result<()> {
    let mut again = packages::as_root("env")?;
    for name in ["PATH", "HOME", "CARGO_TARGET_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            let mut assignment = OsString::from(format!("{name}="));
            assignment.push(value);
            again.arg(assignment);
        }
    }
    again.arg(std::env::current_exe().context("this program cannot be found again")?);
    run::check(again.args(command).arg("--home").arg(home.dir()))
}

fn print_what_next(home: &Home, address: &str, login: &ssh::Login<'_>) {
    let sudo = if std::env::var_os("SUDO_UID").is_some() { "sudo -E " } else { "" };
    println!("\nThe first server is at {address}:");
    println!("    {sudo}{}", login.line());
    println!("The cell, for the `openstack` client:");
    println!("    export OS_CLIENT_CONFIG_FILE={} OS_CLOUD=mainstay", home.clouds_yaml().display());
    println!("    {sudo}openstack server list");
    println!("Its operator's view:");
    println!("    {sudo}{} status --home {}", binary().display(), home.dir().display());
    println!("To stop it, and with --purge to forget it:");
    println!("    cargo xtask down --home {}", home.dir().display());
}

/// Stops what `up` started and what that made on this machine; with `purge` the cell's directory goes too.
pub(crate) fn down(home: &Home, purge: bool) -> anyhow::Result<()> {
    if !home.dir().exists() {
        println!("there is no cell in {}", home.dir().display());
        return Ok(());
    }
    if !geteuid().is_root() {
        return again_as_root(home, if purge { &["down", "--purge"] } else { &["down"] });
    }
    let mut stages = Stages::new();
    stages.run("daemons", || cell::stop(home))?;
    stages.run("guests and networks", || {
        run::check(run::command(binary()).args(["down", "--home"]).arg(home.dir()))
            .context("what the cell made on this machine may still be there")
    })?;
    if purge {
        stages.run("home", || cell::purge(home))?;
    }
    Ok(())
}
