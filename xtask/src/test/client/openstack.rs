//! Running the client's commands: as a user would, a process each, or many of them in one process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;
use serde_json::Value;

use super::said::Said;
use crate::run;

/// Answers commands from its standard input.
const SHELL: &str = include_str!("shell.py");

/// The client, logged in by one cell's `clouds.yaml`.
pub(super) struct Openstack {
    how: How,
    ran: usize,
}

enum How {
    /// The program itself, started anew for each command.
    Program { program: PathBuf, login: Vec<(String, String)> },
    /// One process that has the client loaded.
    Shell { child: Child, words: ChildStdin, answers: BufReader<ChildStdout> },
}

/// Who the client logs in as, by variables of its environment.
pub(super) fn admin(home: &Path) -> Vec<(String, String)> {
    let clouds = home.join("clouds.yaml").display().to_string();
    let login = [("OS_CLOUD", "mainstay"), ("OS_CLIENT_CONFIG_FILE", &clouds), ("PYTHONWARNINGS", "ignore")];
    login.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// As [`admin`], but as another user in another project.
pub(super) fn user(home: &Path, name: &str, password: &str, project: &str) -> Vec<(String, String)> {
    let own = [("OS_USERNAME", name), ("OS_PASSWORD", password), ("OS_PROJECT_NAME", project)];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    admin(home).into_iter().chain(own).collect()
}

impl Openstack {
    /// As a user has it.
    pub(super) fn program(programs: &Path, login: Vec<(String, String)>) -> Openstack {
        Openstack { how: How::Program { program: programs.join("openstack"), login }, ran: 0 }
    }

    /// Loaded once for many commands.
    pub(super) fn shell(programs: &Path, login: Vec<(String, String)>) -> anyhow::Result<Openstack> {
        let mut python = command(programs.join("python"), &login);
        python.args(["-c", SHELL]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = python.spawn().context("cannot start the client")?;
        let (words, answers) = (child.stdin.take(), child.stdout.take());
        let words = words.context("the client's input")?;
        let answers = BufReader::new(answers.context("the client's output")?);
        Ok(Openstack { how: How::Shell { child, words, answers }, ran: 0 })
    }

    /// How many commands it ran.
    pub(super) fn ran(&self) -> usize {
        self.ran
    }

    /// Runs a command, given as words with spaces between.
    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<Said> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.ran += 1;
        self.run(&words).with_context(|| format!("openstack {line}"))
    }

    fn run(&mut self, words: &[&str]) -> anyhow::Result<Said> {
        match &mut self.how {
            How::Program { program, login } => {
                let output = command(&*program, login).args(words).stdin(Stdio::null()).output()?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let status = output.status.code().map_or(-1, i64::from);
                Ok(Said { status, out: text(&output.stdout), err: text(&output.stderr) })
            }
            How::Shell { words: to, answers, .. } => {
                writeln!(to, "{}", serde_json::to_string(words)?)?;
                let mut line = String::new();
                answers.read_line(&mut line)?;
                let answer: Value = serde_json::from_str(&line).context("the client's process ended")?;
                let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
                Ok(Said { status: answer["status"].as_i64().unwrap_or(-1), out: text("out"), err: text("err") })
            }
        }
    }

    /// A command that must succeed.
    pub(super) fn done(&mut self, line: &str) -> anyhow::Result<()> {
        self.writes(line).map(drop)
    }

    /// A command that must succeed; what it wrote.
    pub(super) fn writes(&mut self, line: &str) -> anyhow::Result<String> {
        self.say(line)?.done().with_context(|| format!("openstack {line}"))
    }

    /// A command that must succeed; its answer as JSON.
    pub(super) fn json(&mut self, line: &str) -> anyhow::Result<Value> {
        self.say(&format!("{line} -f json"))?.json().with_context(|| format!("openstack {line}"))
    }

    /// A command whose answer must have these fields; all of the answer.
    pub(super) fn shows(&mut self, line: &str, wanted: &Value) -> anyhow::Result<Value> {
        let found = self.json(line)?;
        super::said::check(&found, wanted).with_context(|| format!("openstack {line}"))?;
        Ok(found)
    }

    /// A list in which one row must have these fields; all of the list.
    pub(super) fn lists(&mut self, line: &str, wanted: &Value) -> anyhow::Result<Value> {
        let found = self.json(line)?;
        super::said::row(&found, wanted).with_context(|| format!("openstack {line}"))?;
        Ok(found)
    }

    /// A command that must be refused in words that contain these.
    pub(super) fn refused(&mut self, line: &str, words: &str) -> anyhow::Result<()> {
        self.say(line)?.refused(words).with_context(|| format!("openstack {line}"))
    }
}

/// Nothing of the caller's own clouds may reach the client.
fn command(program: impl AsRef<std::ffi::OsStr>, login: &[(String, String)]) -> Command {
    let mut command = run::command(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("OS_")) {
            command.env_remove(name);
        }
    }
    command.envs(login.iter().map(|(name, value)| (name, value)));
    command
}

impl Drop for Openstack {
    fn drop(&mut self) {
        if let How::Shell { child, .. } = &mut self.how {
            // It may have ended by itself: that is as gone.
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}
