//! The figures, in the order of the table.

mod alone;
mod binary;
mod creates;
mod first;
mod full;
mod idle;
mod liveness;
mod moves;
mod reads;
pub mod rpc;
mod store;
mod tokens;

use std::time::Duration;

use clap::ValueEnum;

use crate::Settings;
use crate::table::Row;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Servers created to ACTIVE by many clients, what each costs, and that none is lost.
    Creates,
    /// One create at a time.
    Alone,
    /// One server and lists of servers, beside bare axum.
    Reads,
    /// Logins, beside bare argon2.
    Tokens,
    /// Calls between processes, beside bare tonic.
    Rpc,
    /// An endpoint that moves under load, beside bare tonic's balancing.
    Moves,
    /// Commits, beside bare SQLite.
    Store,
    /// From exec to `ready`, and memory: a new cell, and one with many servers.
    Full,
    /// The size of the binary.
    Binary,
    /// From exec on a new home to the first real server.
    First,
    /// What a cell with a thousand nodes writes when nothing happens.
    Idle,
    /// A thousand sessions: how soon deaths, cuts and changes are heard of, and what they cost when nothing happens.
    Liveness,
}

/// Between two figures: what the one before has left to the kernel to write must not be the next one's burden.
const PAUSE: Duration = Duration::from_secs(1);

/// Measures what is wanted: the rows, and the figures that failed.
pub async fn all(settings: &Settings) -> anyhow::Result<(Vec<Row>, Vec<String>)> {
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for figure in Figure::value_variants() {
        let name = figure.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        if !settings.only.is_empty() && !settings.only.contains(figure) {
            continue;
        }
        eprintln!("=== {name}");
        // Boxed: each is a large future, and only one is alive at a time.
        match crate::load::local(Box::pin(one(*figure, settings))).await {
            Ok(measured) => {
                measured.iter().for_each(|row| eprintln!("    {}", row.line()));
                rows.extend(measured);
            }
            Err(error) => {
                eprintln!("    {name} failed: {error:#}");
                failed.push(name);
            }
        }
        rustix::fs::sync();
        tokio::time::sleep(PAUSE).await;
    }
    Ok((rows, failed))
}

async fn one(figure: Figure, settings: &Settings) -> anyhow::Result<Vec<Row>> {
    match figure {
        Figure::Creates => creates::measure(settings).await,
        Figure::Alone => alone::measure(settings).await,
        Figure::Reads => reads::measure(settings).await,
        Figure::Tokens => tokens::measure(settings).await,
        Figure::Rpc => rpc::measure().await,
        Figure::Moves => moves::measure().await,
        Figure::Store => store::measure(settings).await,
        Figure::Full => full::measure(settings).await,
        Figure::Binary => binary::measure(settings),
        Figure::First => first::measure(settings).await,
        Figure::Idle => idle::measure(settings).await,
        Figure::Liveness => liveness::measure(settings).await,
    }
}
