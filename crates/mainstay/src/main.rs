//! `mainstay`: a cloud in one binary. Parses arguments, starts roles; the operator's commands.

#![expect(unreachable_pub, reason = "a binary has no outside: `pub` says what a module offers to its siblings")]

mod args;
mod beside;
mod cli;
mod control;
mod dev;
mod heap;
mod home;
mod logs;
mod membership;
mod metrics;
mod node;
mod observe;
mod operator;
mod otlp;
mod renew;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    heap::share();
    raise_file_limit();
    let args = Args::parse();
    let ended = match args.command {
        Command::Dev(dev) => dev::run(&dev),
        Command::Serve(serve) => control::run(&serve),
        Command::Agent(agent) => node::run(&agent),
        Command::Down(down) => dev::down(&down.home),
        Command::Status(ask) => cli::run(&ask, cli::Question::Status),
        Command::Work(work) => cli::run(&work.ask, work.question.into()),
        Command::Node(node) => cli::run(&node.ask, cli::Question::Nodes),
        Command::Audit(audit) => return exit(cli::audit(&audit)),
        Command::Keys(keys) => cli::run(&keys.ask, keys.question.into()),
        Command::Config(config) => cli::run(&config.ask, config.question.into()),
        Command::Names(names) => cli::names::run(&names),
        Command::Trace(trace) => cli::run(&trace.ask, cli::Question::Trace(trace.subject)),
    };
    exit(ended.map(|()| true))
}

/// Success if all was well; what went wrong is said.
fn exit(ended: anyhow::Result<bool>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mainstay: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// As many open files as this process may have: the usual first bound is for programs that use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If it fails, there is room for fewer connections; what counts on it asks how many.
    let _fewer = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// An error with all that led to it, each said once.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}
