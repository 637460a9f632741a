//! Peers that serve are processes of their own: this program again, as `bench serve WHICH DIR`.
//!
//! DIR holds what they need: certificates, and the bytes that they answer with. They say `ready ADDRESS` and serve until
//! their standard input ends, so that none is left behind however the run ended; then they finish what they have begun.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use pki::{Authority, Identity, Issued, Role};
use rpc::tls::Credentials;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use world::World;
use world::os::OsHost;

use crate::figures::rpc as own_rpc;
use crate::peers::{axum, tonic};

/// The name of the cell that certificates of peers are made out for.
const CELL: &str = "bench.mainstay.internal";

/// Finishes what was begun, and completes.
pub type Leave = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A peer that has not finished by then ends nevertheless.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// What can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Fixed answers over HTTPS, by axum alone.
    Axum,
    /// The agents' service, by tonic alone.
    Tonic,
    /// The agents' service, by our stack.
    Rpc,
}

#[derive(Debug, Parser)]
#[command(name = "bench serve")]
struct Serve {
    which: Which,
    dir: PathBuf,
}

/// Serves what the arguments behind `serve` name, if they begin with that.
pub fn asked() -> Option<anyhow::Result<()>> {
    let mut words = std::env::args_os().skip(1);
    (words.next()? == "serve").then(|| serve(&Serve::parse_from(std::iter::once("serve".into()).chain(words))))
}

fn serve(args: &Serve) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (address, leave) = match args.which {
            Which::Axum => (axum::serve(&args.dir).await?, Box::pin(std::future::ready(())) as Leave),
            Which::Tonic => tonic::serve(&args.dir).await?,
            Which::Rpc => own_rpc::serve(&args.dir).await?,
        };
        println!("ready {address}");
        let mut rest = Vec::new();
        let _ends_either_way = tokio::io::stdin().read_to_end(&mut rest).await;
        let _finished_or_not = tokio::time::timeout(LEAVE_WITHIN, leave).await;
        anyhow::Ok(())
    })?;
    runtime.shutdown_background();
    Ok(())
}

/// A peer that serves; killed when it is dropped.
pub struct Served {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
}

impl Served {
    /// Starts one, with what it needs in `dir`.
    pub fn start(which: Which, dir: &Path) -> anyhow::Result<Served> {
        let name = which.to_possible_value().context("it has a name")?.get_name().to_owned();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", &name]).arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let out = child.stdout.take().context("it was given a pipe")?;
        let mut served = Served { child, address: ([127, 0, 0, 1], 0).into() };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line.strip_prefix("ready ").with_context(|| format!("the peer {name} did not get ready"))?;
        served.address = address.trim().parse()?;
        Ok(served)
    }

    /// Tells it to finish what it has begun and to end.
    pub fn leave(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself: that is as gone.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// This process's world; its disk is not used.
pub fn world() -> World {
    OsHost::world(tokio::runtime::Handle::current(), Path::new("/nonexistent"))
}

/// Certificates in a directory of their own: an authority, a node as a server, a coordinator as its client, and the
/// public endpoint.
pub struct Certificates {
    /// The directory.
    pub dir: TempDir,
}

impl Certificates {
    /// New ones.
    pub fn new() -> anyhow::Result<Certificates> {
        let (dir, world) = (tempfile::tempdir()?, world());
        let authority = Authority::create(&world, CELL)?;
        std::fs::write(dir.path().join("authority.crt"), &authority.certificate_pem)?;
        let keep = |name: &str, issued: &Issued| {
            std::fs::write(dir.path().join(format!("{name}.crt")), &issued.certificate_pem)?;
            std::fs::write(dir.path().join(format!("{name}.key")), &issued.key_pem)
        };
        keep("server", &authority.issue(&world, &server())?)?;
        keep("client", &authority.issue(&world, &client())?)?;
        keep("public", &authority.issue_public(&world, &["127.0.0.1".to_owned()])?)?;
        Ok(Certificates { dir })
    }
}

/// Who serves.
pub fn server() -> Identity {
    Identity { cell: CELL.into(), role: Role::Agent, name: "node-1".into() }
}

/// Who calls.
pub fn client() -> Identity {
    Identity { cell: CELL.into(), role: Role::Coordinator, name: "main".into() }
}

/// One of the three, and the authority, all PEM.
pub struct Pem {
    /// Certificate and key.
    pub own: Issued,
    /// The authority that vouches for all of them.
    pub authority: String,
}

impl Pem {
    /// Reads what [`Certificates`] has written.
    pub fn read(dir: &Path, name: &str) -> anyhow::Result<Pem> {
        let read = |file: String| std::fs::read_to_string(dir.join(&file)).with_context(|| format!("no {file}"));
        let own = Issued { certificate_pem: read(format!("{name}.crt"))?, key_pem: read(format!("{name}.key"))? };
        Ok(Pem { own, authority: read("authority.crt".into())? })
    }

    /// The same as our stack takes it.
    pub fn credentials(&self) -> anyhow::Result<Credentials> {
        Ok(Credentials::new(&self.own, &self.authority)?)
    }
}
