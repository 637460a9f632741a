//! `mainstay`: a cloud in one binary. Parses arguments, starts roles; the operator's commands.

#![expect(unreachable_pub, reason = "a binary has no outside: `pub` says what a module offers to its siblings")]

mod args;
mod blobs;
mod cli;
mod control;
mod dev;
mod home;
mod logs;
mod node;
mod observe;
mod operator;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match args.command {
        Command::Dev(dev) => dev::run(&dev),
        Command::Serve(serve) => control::run(&serve),
        Command::Agent(agent) => node::run(&agent),
        Command::Down(down) => dev::down(&down.home),
        Command::Status(ask) => cli::run(&ask, cli::Question::Status),
        Command::Work(work) => cli::run(&work.ask, work.question.into()),
        Command::Node(node) => cli::run(&node.ask, cli::Question::Nodes),
        Command::Trace(trace) => cli::run(&trace.ask, cli::Question::Trace(trace.subject)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
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
