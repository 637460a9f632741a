//! Processes of a cell that are started one by one, on both sides of a link that can be cut.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cell_tests::Island;

use crate::probe::{self, Used};

const READY_WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(2);

/// The processes of the cell in a home, by name. They end with it.
pub struct Fleet {
    binary: PathBuf,
    home: PathBuf,
    bootstrap: String,
    running: BTreeMap<String, Child>,
}

impl Fleet {
    /// Nobody yet; everybody will find the liveness instance at `bootstrap`.
    pub fn new(binary: &Path, home: &Path, bootstrap: &str) -> Fleet {
        let (binary, home) = (binary.to_path_buf(), home.to_path_buf());
        Fleet { binary, home, bootstrap: bootstrap.to_owned(), running: BTreeMap::new() }
    }

    /// Starts control roles as the process `name`.
    pub async fn serve(&mut self, name: &str, roles: &str, words: &[&str]) -> anyhow::Result<()> {
        let words = [&["serve", "--roles", roles, "--name", name], words].concat();
        self.start(name, Command::new(&self.binary), &words).await
    }

    /// Starts these fake nodes as one process.
    pub async fn agents(&mut self, name: &str, nodes: &[String], at: &str, on: Option<&Island>) -> anyhow::Result<()> {
        let listen = format!("{at}:0");
        let named = nodes.iter().flat_map(|node| ["--node", node]);
        let words: Vec<&str> =
            ["agent", "--driver", "fake", "--rpc-listen", &listen].into_iter().chain(named).collect();
        let command = match on {
            Some(island) => {
                // `ip` becomes the program: the id is the program's.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", island.namespace()]).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        self.start(name, command, &words).await
    }

    async fn start(&mut self, name: &str, mut command: Command, words: &[&str]) -> anyhow::Result<()> {
        let dir = self.home.parent().context("a home lies in a directory")?;
        let out = dir.join(format!("{name}.out"));
        let log = File::options().create(true).append(true).open(dir.join(format!("{name}.log")))?;
        command.args(words).arg("--home").arg(&self.home).args(["--bootstrap", &self.bootstrap]);
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.running.insert(name.to_owned(), child);
        let begun = Instant::now();
        while !std::fs::read_to_string(&out)?.lines().any(|line| line.starts_with("ready")) {
            let ended = self.running.get_mut(name).and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || begun.elapsed() > READY_WITHIN {
                bail!("{name} did not get ready ({ended:?}); see {}", dir.display());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// `kill -9`; the moment before it.
    pub fn kill(&mut self, name: &str) -> Instant {
        let begun = Instant::now();
        if let Some(mut child) = self.running.remove(name) {
            let _gone = child.kill();
            let _status = child.wait();
        }
        begun
    }

    /// What the process `name` has used.
    pub fn used(&self, name: &str) -> anyhow::Result<Used> {
        probe::used(self.running.get(name).with_context(|| format!("{name} does not run"))?.id())
    }

    /// What all but those named have used.
    pub fn used_by_others(&self, but: &[&str]) -> anyhow::Result<Used> {
        let mut sum = Used::default();
        for (_, child) in self.running.iter().filter(|(name, _)| !but.contains(&name.as_str())) {
            let used = probe::used(child.id())?;
            sum.cpu_ms += used.cpu_ms;
            sum.written_bytes += used.written_bytes;
        }
        Ok(sum)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in names {
            self.kill(&name);
        }
    }
}
