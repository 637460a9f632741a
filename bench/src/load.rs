//! Load in a closed loop: so many clients, each with a connection of its own, each asking again when it was answered.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use crate::http_client::{Answer, Connection, Endpoint};
use crate::probe;

/// What a load came to.
#[derive(Debug, Default)]
pub struct Load {
    /// How long each request took, in milliseconds, in the order of their ends.
    pub took_ms: Vec<f64>,
    /// When each request ended, in seconds from the start.
    pub ended_s: Vec<f64>,
    /// How long it lasted.
    pub seconds: f64,
    /// Milliseconds of this process on processors.
    pub own_cpu_ms: f64,
}

impl Load {
    /// Requests in a second.
    pub fn rate(&self) -> f64 {
        self.took_ms.len() as f64 / self.seconds
    }

    /// Requests in a second between two moments.
    pub fn rate_between(&self, from: f64, to: f64) -> f64 {
        let ended = self.ended_s.iter().filter(|at| (from..to).contains(*at)).count();
        ended as f64 / (to - from)
    }
}

/// Asks with all `connections` for `span`. Each answer is judged by `check`; the first that it refuses ends the load.
pub async fn run(
    connections: &mut [Connection],
    span: Duration,
    (method, path, body): (Method, &str, &Bytes),
    check: impl Fn(Answer) -> anyhow::Result<()>,
) -> anyhow::Result<Load> {
    let load = RefCell::new(Load::default());
    let cpu = probe::used(std::process::id())?.cpu_ms;
    let begun = Instant::now();
    let one = async |connection: &mut Connection| -> anyhow::Result<()> {
        while begun.elapsed() < span {
            let asked = Instant::now();
            let answer = connection.ask(method.clone(), path, body.clone()).await?;
            check(answer)?;
            let mut load = load.borrow_mut();
            load.took_ms.push(asked.elapsed().as_secs_f64() * 1000.0);
            load.ended_s.push(begun.elapsed().as_secs_f64());
        }
        Ok(())
    };
    futures_util::future::try_join_all(connections.iter_mut().map(one)).await?;
    let mut load = load.into_inner();
    load.seconds = begun.elapsed().as_secs_f64();
    load.own_cpu_ms = probe::used(std::process::id())?.cpu_ms - cpu;
    Ok(load)
}

/// So many connections, each carrying `token`.
pub async fn connect(endpoint: &Endpoint, token: Option<&str>, clients: usize) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(endpoint.connect(token).await?);
    }
    Ok(connections)
}

/// Creates servers for `span`: the load, and the ids that were acknowledged.
pub async fn create(
    connections: &mut [Connection],
    span: Duration,
    body: &Bytes,
) -> anyhow::Result<(Load, Vec<String>)> {
    let ids = RefCell::new(Vec::new());
    let keep = |answer: Answer| {
        ids.borrow_mut().push(id(&answer.is(202)?)?);
        Ok(())
    };
    let load = run(connections, span, (Method::POST, "/compute/v2.1/servers", body), keep).await?;
    Ok((load, ids.into_inner()))
}

/// Creates exactly `count` servers; their ids.
pub async fn create_many(connections: &mut [Connection], count: usize, body: &Bytes) -> anyhow::Result<Vec<String>> {
    let (left, ids) = (Cell::new(count), RefCell::new(Vec::with_capacity(count)));
    let one = async |connection: &mut Connection| -> anyhow::Result<()> {
        while left.get() > 0 {
            left.set(left.get() - 1);
            let answer = connection.ask(Method::POST, "/compute/v2.1/servers", body.clone()).await?.is(202)?;
            ids.borrow_mut().push(id(&answer)?);
        }
        Ok(())
    };
    futures_util::future::try_join_all(connections.iter_mut().map(one)).await?;
    Ok(ids.into_inner())
}

/// The id in the answer to a create.
pub fn id(answer: &Answer) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Created {
        server: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let created: Created = serde_json::from_slice(&answer.body).context("the answer to a create names no server")?;
    Ok(created.server.id)
}

/// Runs what starts tasks for connections.
pub async fn local<T>(work: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(work).await
}
