//! Running `ip` and `nft`, and reading what `ip` tells.
//!
//! Changes go through `ip -batch` and `nft -f`: one process for many changes, and for `nft` one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use crate::error::NetError;
use crate::space;
use crate::sys::in_namespace;

/// Where administration commands may be; an agent's own path often lacks the last two.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A device as `ip` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) mac: String,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) master: Option<String>,
    pub(crate) alias: Option<String>,
    /// Addresses with prefix lengths, link-local IPv6 left out.
    pub(crate) addresses: BTreeSet<(IpAddr, u8)>,
}

/// The devices of a namespace by name.
pub(crate) type Links = BTreeMap<String, Link>;

#[derive(Deserialize)]
struct RawLink {
    ifname: String,
    address: Option<String>,
    mtu: u32,
    flags: Vec<String>,
    master: Option<String>,
    ifalias: Option<String>,
    #[serde(default)]
    addr_info: Vec<RawAddress>,
}

#[derive(Deserialize)]
struct RawAddress {
    local: Option<IpAddr>,
    prefixlen: Option<u8>,
}

/// A route as `ip` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Route {
    pub(crate) dst: String,
    pub(crate) dev: Option<String>,
}

/// Runs a command and hands it `input`. Its failure is an error with what it said.
fn run(command: &mut Command, input: &str) -> Result<String, NetError> {
    let shown = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    let what = shown();
    let output = feed(command, input)
        .map_err(NetError::io(format!("run `{what}` (Debian packages iproute2 and nftables provide ip and nft)")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(NetError::Tool { command: what, stderr: stderr.trim().chars().take(2000).collect() })
}

fn feed(command: &mut Command, input: &str) -> io::Result<Output> {
    command.env("PATH", PATH).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ends early closes its end; its exit status tells more than the broken pipe.
        let _closed_early = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

/// Runs `ip` with these arguments.
pub(crate) fn ip(arguments: &[&str]) -> Result<String, NetError> {
    run(Command::new("ip").args(arguments), "")
}

/// Loads a module of the kernel.
pub(crate) fn modprobe(module: &str) -> Result<(), NetError> {
    run(Command::new("modprobe").arg(module), "").map(drop)
}

fn with_namespace<'a>(namespace: Option<&'a str>, rest: &[&'a str]) -> Vec<&'a str> {
    namespace.into_iter().flat_map(|name| ["-n", name]).chain(rest.iter().copied()).collect()
}

/// Runs lines of `ip` commands, in `namespace` or on the host; stops at the first that fails.
pub(crate) fn ip_batch(namespace: Option<&str>, lines: &[String]) -> Result<(), NetError> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut input = lines.join("\n");
    input.push('\n');
    match run(Command::new("ip").args(with_namespace(namespace, &["-batch", "-"])), &input) {
        Ok(_) => Ok(()),
        Err(NetError::Tool { stderr, .. }) => {
            Err(NetError::Tool { command: format!("ip -batch: {}", lines.join("; ")), stderr })
        }
        Err(other) => Err(other),
    }
}

fn json<T: for<'de> Deserialize<'de>>(namespace: Option<&str>, rest: &[&str]) -> Result<Vec<T>, NetError> {
    let arguments = with_namespace(namespace, rest);
    let text = ip(&arguments)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).map_err(|error| NetError::Tool {
        command: format!("ip {}", arguments.join(" ")),
        stderr: format!("its answer cannot be read: {error}"),
    })
}

/// The devices of `namespace`, or of the host.
pub(crate) fn links(namespace: Option<&str>) -> Result<Links, NetError> {
    let raw: Vec<RawLink> = json(namespace, &["-j", "-details", "address", "show"])?;
    Ok(raw.into_iter().map(|link| (link.ifname.clone(), link.into_link())).collect())
}

impl RawLink {
    fn into_link(self) -> Link {
        let link_local = |address: &IpAddr| match address {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        let addresses = self.addr_info.into_iter().filter_map(|address| address.local.zip(address.prefixlen));
        Link {
            mac: self.address.unwrap_or_default(),
            mtu: self.mtu,
            up: self.flags.iter().any(|flag| flag == "UP"),
            master: self.master,
            alias: self.ifalias.filter(|alias| !alias.is_empty()),
            addresses: addresses.filter(|(address, _)| !link_local(address)).collect(),
        }
    }
}

/// The routes of one family (`-4` or `-6`) in the main table, narrowed by `selection`.
pub(crate) fn routes(namespace: Option<&str>, family: &str, selection: &[&str]) -> Result<Vec<Route>, NetError> {
    let mut arguments = vec!["-j", family, "route", "show"];
    arguments.extend_from_slice(selection);
    json(namespace, &arguments)
}

/// Applies rules in `namespace`, all or nothing.
pub(crate) fn nft(namespace: &str, ruleset: &str) -> Result<(), NetError> {
    let entered = in_namespace(&space::path(namespace), || Ok(run(Command::new("nft").args(["-f", "-"]), ruleset)));
    entered.map_err(NetError::io(format!("enter the namespace {namespace}")))?.map(drop)
}
