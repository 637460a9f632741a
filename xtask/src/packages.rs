//! The Debian packages that the commands need, and how what is missing gets installed.
//!
//! Nothing happens on a machine that has them all. Otherwise it is said first what will be installed, package lists
//! are fetched once, and apt runs without questions, as root or through sudo.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::guest_image;
use crate::run;

/// What a cell needs on a machine that runs guests, and what driving it to its first server needs.
const CELL: &[&str] = &["ca-certificates", "iproute2", "ipxe-qemu", "nftables", "openssh-client", "qemu-system-x86"];

/// What the tests need besides: `dig`, environments for Python tools, and a C compiler and git for a developer.
const TESTS: &[&str] = &["bind9-dnsutils", "gcc", "git", "libc6-dev", "python3", "python3-venv"];

/// A package whose presence in apt's lists shows that there are lists: the guest image takes its kernel from it.
const LISTED: &str = "linux-image-cloud-amd64";

/// What is installed in vain where python3 comes from elsewhere and works.
const PYTHON: &[&str] = &["python3", "python3-venv"];

/// Installs what `cargo xtask up` needs.
pub(crate) fn for_a_cell() -> anyhow::Result<()> {
    install(CELL.iter().chain(guest_image::PACKAGES).copied().collect())
}

/// Installs what `cargo xtask test` needs.
pub(crate) fn for_tests() -> anyhow::Result<()> {
    let mut wanted: BTreeSet<&str> = CELL.iter().chain(guest_image::PACKAGES).chain(TESTS).copied().collect();
    if run::works(run::command("python3").args(["-c", "import ensurepip, venv"])) {
        wanted.retain(|name| !PYTHON.contains(name));
    }
    install(wanted)
}

fn install(wanted: BTreeSet<&str>) -> anyhow::Result<()> {
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !installed(name)).collect();
    let listed = run::output(run::command("apt-cache").args(["show", "--no-all-versions", LISTED])).is_ok();
    if missing.is_empty() && listed {
        println!("every Debian package that is needed is there");
        return Ok(());
    }
    if !run::works(run::command("apt-get").arg("--version")) {
        bail!("this command installs Debian packages and there is no apt-get here; needed: {}", missing.join(" "));
    }
    if !missing.is_empty() {
        println!("will install these Debian packages: {}", missing.join(" "));
    }
    println!("fetching package lists (apt-get update)");
    if let Err(error) = run::check(apt()?.args(["-qq", "update"])) {
        println!("  {error:#}; going on with the lists that are there");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let plain: Vec<String> = missing.iter().map(|name| (*name).to_owned()).collect();
    let chosen = if resolves(&plain)? { plain } else { with_family_at_one_version(&missing)? };
    run::check(apt()?.args(INSTALL).args(["-qq", "-o", "Dpkg::Use-Pty=0"]).args(&chosen))
        .context("apt-get could not install what is needed")
}

const INSTALL: &[&str] = &["install", "-y", "--no-install-recommends", "--allow-downgrades"];

/// Whether apt would install these without taking anything away.
fn resolves(packages: &[String]) -> anyhow::Result<bool> {
    let mut trial = run::command("apt-get");
    trial.arg("-s").args(INSTALL).arg("--no-remove").args(packages).env("LC_ALL", "C");
    Ok(run::works(&mut trial))
}

/// The same packages with versions stated: QEMU's parts depend on each other at exactly one version, and a machine may
/// hold one of them from elsewhere (backports), newer than its fellows in the lists. Those go to the listed version.
fn with_family_at_one_version(missing: &[&str]) -> anyhow::Result<Vec<String>> {
    let all = run::output(run::command("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev} ${Package}\n", "qemu-*"]))?;
    let held = all.lines().filter_map(|line| line.strip_prefix("ii ")).map(str::trim);
    let family: BTreeSet<&str> = held.chain(missing.iter().copied().filter(|name| name.starts_with("qemu-"))).collect();
    let mut chosen: Vec<String> =
        missing.iter().filter(|name| !family.contains(*name)).map(|name| (*name).to_owned()).collect();
    for name in family {
        let offers = run::output(run::command("apt-cache").args(["madison", name]))?;
        match newest_listed(&offers) {
            Some(version) => chosen.push(format!("{name}={version}")),
            None if missing.contains(&name) => bail!("apt's lists offer no {name}; Debian 12 is expected"),
            None => {}
        }
    }
    if !resolves(&chosen)? {
        bail!("apt cannot install {} beside what is here; `apt-get -s install` says why", chosen.join(" "));
    }
    println!("  with QEMU's parts at one version: {}", chosen.join(" "));
    Ok(chosen)
}

/// The first version of a table of `apt-cache madison`, which begins with the newest.
fn newest_listed(offers: &str) -> Option<&str> {
    offers.lines().next()?.split('|').nth(1).map(str::trim)
}

fn installed(package: &str) -> bool {
    let mut query = run::command("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Abbrev}", package]);
    run::output(&mut query).is_ok_and(|status| status.starts_with("ii"))
}

/// apt-get as root, never with a question.
fn apt() -> anyhow::Result<Command> {
    let mut command = as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).stdin(Stdio::null());
    Ok(command)
}

/// A command of root: ours if that is who we are, else through sudo, which may ask for a password only where a person
/// can answer.
pub(crate) fn as_root(program: &str) -> anyhow::Result<Command> {
    if rustix::process::geteuid().is_root() {
        return Ok(run::command(program));
    }
    if !run::works(run::command("sudo").arg("--version")) {
        bail!("this needs root, and there is no sudo: run it as root");
    }
    let mut command = run::command("sudo");
    if !std::io::stdin().is_terminal() {
        command.arg("-n");
    }
    command.arg(program);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_listed_version_comes_first() {
        let offers = " qemu-utils | 1:7.2+dfsg-7 | bookworm/main amd64 Packages\n\
                       qemu-utils | 1:7.2+dfsg-6 | bookworm-security/main amd64 Packages\n";
        assert_eq!(newest_listed(offers), Some("1:7.2+dfsg-7"));
        assert_eq!(newest_listed(""), None);
    }
}
