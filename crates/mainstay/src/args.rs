//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use pki::Role;
use proto::operator::v1 as wire;

use crate::cli::{ConfigQuestion, Question};

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
    /// The keys that sign tokens.
    Keys(Keys),
    /// Whether everything that is limited is held by somebody, and nodes hold what the records say. Succeeds if so.
    Audit(Audit),
    /// The configuration of the cell.
    Config(Config),
    /// Who is there: every process, and what liveness says of it.
    Names(Names),
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
    /// Number of nodes. Those that run real guests share this machine in equal parts.
    #[arg(long)]
    pub nodes: Option<u32>,
    /// Guests that ran when the machine went down are started again after its boot; `=false`: they stay off, as at
    /// first. Kept from start to start.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub resume_guests_after_boot: Option<bool>,
    /// Where names are answered over DNS, UDP and TCP; given more than once: at each.
    #[arg(long)]
    pub dns_listen: Vec<SocketAddr>,
    /// The file that identifies this boot of the machine.
    #[arg(long, default_value = BOOT_ID_FILE)]
    pub boot_id_file: PathBuf,
    #[command(flatten)]
    pub watched: Watched,
}

/// Where Linux says which boot this is.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Where a process tells how it is.
#[derive(Clone, Debug, clap::Args)]
pub struct Watched {
    /// Where Prometheus metrics are served; loopback only, port 0: a free one (`mainstay status` shows it).
    #[arg(long, default_value = "127.0.0.1:0")]
    pub metrics_listen: SocketAddr,
    /// A collector of OpenTelemetry traces (OTLP over HTTP), as http://HOST:PORT or https://HOST:PORT.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// The authority (PEM) that the certificate of an https collector is verified against.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE")]
    pub otlp_ca: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where the cell keeps everything.
    #[arg(long, env = "MAINSTAY_HOME")]
    pub home: PathBuf,
    /// Roles of this process: all of them, or any of store, api, coordinator, scheduler, liveness, names.
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
    #[command(flatten)]
    pub found: Found,
    /// The availability zone of this process; calls prefer processes of their own.
    #[arg(long, default_value = "")]
    pub zone: String,
    /// Where names are answered over DNS, UDP and TCP, by a process with the role names; given more than once: at each.
    #[arg(long)]
    pub dns_listen: Vec<SocketAddr>,
    #[command(flatten)]
    pub watched: Watched,
}

/// Where the cell is found.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Found {
    /// Addresses of liveness instances, beside those in the home's bootstrap.json: one good one is enough.
    #[arg(long, env = "MAINSTAY_BOOTSTRAP", value_delimiter = ',', value_name = "ADDRESS:PORT")]
    pub bootstrap: Vec<SocketAddr>,
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
    #[command(flatten)]
    pub found: Found,
    /// The machine that these nodes are on: several agents of one large machine give the same. Otherwise each node is a
    /// machine of its own.
    #[arg(long)]
    pub machine: Option<String>,
    /// Where the first node answers; further ones on ports of their own.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub rpc_listen: SocketAddr,
    /// Guests that ran when the machine went down are started again after its boot; else they stay off.
    #[arg(long)]
    pub resume_guests_after_boot: bool,
    /// The file that identifies this boot of the machine: another one where processes end without a boot, as those of a
    /// container do.
    #[arg(long, default_value = BOOT_ID_FILE)]
    pub boot_id_file: PathBuf,
    /// Ends when standard input does: for a process that is watched over by another.
    #[arg(long)]
    pub until_input_ends: bool,
    #[command(flatten)]
    pub part: Part,
    #[command(flatten)]
    pub watched: Watched,
}

/// What a node that runs real guests has of its machine.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Part {
    /// So many nodes share the machine, and this one has an equal part of it.
    #[arg(long, default_value = "1")]
    pub parts: NonZeroU32,
    /// Virtual processors for guests, rather than an equal part.
    #[arg(long)]
    pub vcpus: Option<u32>,
    /// Memory for guests in MiB, rather than an equal part.
    #[arg(long)]
    pub memory_mib: Option<u64>,
    /// Disk for guests in GiB, rather than an equal part.
    #[arg(long)]
    pub disk_gib: Option<u64>,
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
pub struct Names {
    #[command(flatten)]
    pub ask: Ask,
    #[command(subcommand)]
    pub question: NamesCommand,
}

#[derive(Debug, Subcommand)]
pub enum NamesCommand {
    /// Every process that is known, or those that play a role.
    List {
        /// Only those that play this role.
        #[arg(long)]
        role: Option<Role>,
    },
    /// Those who play a role and take calls now. Fails if nobody does.
    Resolve {
        /// The role.
        role: Role,
    },
    /// The same as `list`, and then a line for each change, until it is interrupted.
    Watch {
        /// Only those that play this role.
        #[arg(long)]
        role: Option<Role>,
    },
}

#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(flatten)]
    pub ask: Ask,
    #[command(subcommand)]
    pub question: KeysQuestion,
}

#[derive(Debug, Subcommand)]
pub enum KeysQuestion {
    /// Makes a new key sign tokens. Those that were issued before stay good until they end.
    Rotate {
        /// Makes every token that was issued before void: for a key that others may have.
        #[arg(long)]
        void_tokens: bool,
    },
}

impl From<KeysQuestion> for Question {
    fn from(question: KeysQuestion) -> Question {
        match question {
            KeysQuestion::Rotate { void_tokens } => Question::RotateKeys { void_tokens },
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub ask: Ask,
    #[command(subcommand)]
    pub question: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// What is set, for one key or for all.
    Get {
        /// The key; without one, all for which something is set.
        key: Option<String>,
        /// Also keys for which nothing is set, with what holds for the cell.
        #[arg(long)]
        all: bool,
    },
    /// Sets a key: for the whole cell, or for what is named. The most specific wins: node, role, zone, cell.
    Set {
        /// The key.
        key: String,
        /// The value.
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Takes back what is set for a key: for the whole cell, or for what is named.
    Unset {
        /// The key.
        key: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Who changed what and when, the newest first.
    History {
        /// The key; without one, all.
        key: Option<String>,
    },
    /// Sets everything as it was at a revision, in one step that can be rolled back itself.
    Rollback {
        /// The revision of a change, as `history` shows it, or any other of the store.
        revision: u64,
    },
    /// What a key is, what is set for it, and what holds at a place.
    Explain {
        /// The key.
        key: String,
        /// For this node; its zone is known.
        #[arg(long)]
        node: Option<String>,
        /// For a process of this role.
        #[arg(long)]
        role: Option<Role>,
        /// For what is in this availability zone.
        #[arg(long)]
        zone: Option<String>,
    },
}

/// Where a key is set: at most one of these; none: for the whole cell.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Scope {
    /// For what is in this availability zone.
    #[arg(long)]
    pub zone: Option<String>,
    /// For the processes that play this role.
    #[arg(long)]
    pub role: Option<Role>,
    /// For this node.
    #[arg(long)]
    pub node: Option<String>,
}

impl From<Scope> for config::Scope {
    fn from(scope: Scope) -> config::Scope {
        let zone = scope.zone.map(config::Scope::Zone);
        let role = scope.role.map(config::Scope::Role);
        let node = scope.node.map(config::Scope::Node);
        node.or(role).or(zone).unwrap_or(config::Scope::Cell)
    }
}

impl From<ConfigCommand> for Question {
    fn from(command: ConfigCommand) -> Question {
        let at = |scope: Scope| config::Scope::from(scope).to_string();
        Question::Config(match command {
            ConfigCommand::Get { key, all } => {
                ConfigQuestion::Get(wire::GetConfigRequest { key: key.unwrap_or_default(), all })
            }
            ConfigCommand::Set { key, value, scope } => {
                ConfigQuestion::Set(wire::SetConfigRequest { key, scope: at(scope), value })
            }
            ConfigCommand::Unset { key, scope } => {
                ConfigQuestion::Unset(wire::UnsetConfigRequest { key, scope: at(scope) })
            }
            ConfigCommand::History { key } => {
                ConfigQuestion::History(wire::ConfigHistoryRequest { key: key.unwrap_or_default() })
            }
            ConfigCommand::Rollback { revision } => ConfigQuestion::Rollback(wire::RollbackConfigRequest { revision }),
            ConfigCommand::Explain { key, node, role, zone } => ConfigQuestion::Explain(wire::ExplainConfigRequest {
                key,
                zone: zone.unwrap_or_default(),
                role: role.map(|role| role.to_string()).unwrap_or_default(),
                node: node.unwrap_or_default(),
            }),
        })
    }
}

#[derive(Debug, clap::Args)]
pub struct Audit {
    #[command(flatten)]
    pub ask: Ask,
    /// The same as `--output json`.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Trace {
    #[command(flatten)]
    pub ask: Ask,
    /// The id of a request (`req-…`) or of a server.
    pub subject: String,
}
