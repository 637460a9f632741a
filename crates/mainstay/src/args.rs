//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use pki::Role;

use crate::cli::Question;

/// A cloud in one binary.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a whole cell for one machine, in the foreground.
    Dev(Dev),
    /// Runs control roles in this process.
    Serve(Serve),
    /// Runs the agents of one or more nodes in this process.
    Agent(Agent),
    /// Removes the guests and networks that a stopped cell has left on this machine.
    Down(Down),
    /// How the cell is.
    Status(Ask),
    /// Works in flight.
    Work(Work),
    /// Nodes.
    Node(Nodes),
    /// The path of a request through every process.
    Trace(Trace),
}

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Real guests under QEMU.
    Qemu,
    /// Everything but guests: for scale and faults.
    Fake,
}

#[derive(Debug, clap::Args)]
pub struct Dev {
    /// Where the cell keeps everything.
    #[arg(long, env = "MAINSTAY_HOME")]
    pub home: PathBuf,
    /// Where the public API listens.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// How guests are run; given at the first start and kept.
    #[arg(long)]
    pub driver: Option<DriverKind>,
    /// Number of nodes.
    #[arg(long)]
    pub nodes: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where the cell keeps everything.
    #[arg(long, env = "MAINSTAY_HOME")]
    pub home: PathBuf,
    /// Roles of this process: all of them, or any of store, api, coordinator, scheduler.
    #[arg(long, value_delimiter = ',', default_value = "control")]
    pub roles: Vec<Role>,
    /// The name of this process among those of its role.
    #[arg(long, default_value = "main")]
    pub name: String,
    /// Where this process answers the others.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub rpc_listen: SocketAddr,
    /// Where the public API listens.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Other processes, as role/name=address:port.
    #[arg(long = "peer", value_parser = parse_peer)]
    pub peers: Vec<rpc::Target>,
    /// Where Prometheus metrics are served; loopback only.
    #[arg(long)]
    pub metrics_listen: Option<SocketAddr>,
}

#[derive(Debug, clap::Args)]
pub struct Agent {
    /// Where the cell keeps everything.
    #[arg(long, env = "MAINSTAY_HOME")]
    pub home: PathBuf,
    /// The nodes of this process.
    #[arg(long = "node", required = true)]
    pub nodes: Vec<String>,
    /// How guests are run.
    #[arg(long)]
    pub driver: DriverKind,
    /// Coordinators and image services, as role/name=address:port.
    #[arg(long = "peer", value_parser = parse_peer)]
    pub peers: Vec<rpc::Target>,
    /// Where the first node answers; further ones on ports of their own.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub rpc_listen: SocketAddr,
    /// Ends when standard input does: for a process that is watched over by another.
    #[arg(long)]
    pub until_input_ends: bool,
}

#[derive(Debug, clap::Args)]
pub struct Down {
    /// Where the cell keeps everything.
    #[arg(long, env = "MAINSTAY_HOME")]
    pub home: PathBuf,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, clap::Args)]
pub struct Ask {
    /// Where the cell keeps everything.
    #[arg(long, env = "MAINSTAY_HOME", global = true)]
    pub home: Option<PathBuf>,
    /// How the answer is written.
    #[arg(long, value_enum, default_value = "table", global = true)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Work {
    #[command(flatten)]
    pub ask: Ask,
    #[command(subcommand)]
    pub question: WorkQuestion,
}

#[derive(Debug, Subcommand)]
pub enum WorkQuestion {
    /// All works in flight.
    List,
    /// One work with its journal.
    Show {
        /// Its id.
        id: String,
    },
    /// Tries a stuck work again at once.
    Retry {
        /// Its id.
        id: String,
    },
}

impl From<WorkQuestion> for Question {
    fn from(question: WorkQuestion) -> Question {
        match question {
            WorkQuestion::List => Question::Works,
            WorkQuestion::Show { id } => Question::Work(id),
            WorkQuestion::Retry { id } => Question::Retry(id),
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Nodes {
    #[command(flatten)]
    pub ask: Ask,
    #[command(subcommand)]
    pub question: NodesQuestion,
}

#[derive(Debug, Subcommand)]
pub enum NodesQuestion {
    /// All nodes.
    List,
}

#[derive(Debug, clap::Args)]
pub struct Trace {
    #[command(flatten)]
    pub ask: Ask,
    /// The id of a request (`req-…`) or of a server.
    pub subject: String,
}

fn parse_peer(text: &str) -> Result<rpc::Target, String> {
    let bad = || format!("{text:?} is not of the form role/name=address:port");
    let (who, endpoint) = text.split_once('=').ok_or_else(bad)?;
    let (role, name) = who.split_once('/').ok_or_else(bad)?;
    let _address: SocketAddr = endpoint.parse().map_err(|_| bad())?;
    Ok(rpc::Target { role: role.parse()?, name: name.to_owned(), endpoint: endpoint.to_owned() })
}
