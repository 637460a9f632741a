//! From exec of `mainstay dev` on a new home to the first ACTIVE real server, through the API that a user has.

use std::time::{Duration, Instant};

use anyhow::bail;
use http::Method;

use crate::Settings;
use crate::api::Admin;
use crate::cell::{Cell, Plan};
use crate::load;
use crate::stats::median;
use crate::table::{Aim, Row};

const ROUNDS: usize = 3;
const PAUSE: Duration = Duration::from_millis(10);
const ACTIVE_WITHIN: Duration = Duration::from_secs(120);

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let (mut all_s, mut ready_s) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let (cell, ready) = Cell::new(settings, Plan { driver: "qemu", nodes: 1 }).await?;
        all_s.push(boot(&cell, begun).await?.as_secs_f64());
        ready_s.push(ready.as_secs_f64());
        cell.end().await?;
    }
    let how = format!("median of {ROUNDS} under QEMU; `ready` after {:.2} s", median(&ready_s));
    Ok(vec![
        Row::new("exec on a new home to the first ACTIVE real server", median(&all_s), "s")
            .aim(Aim::AtMost(10.0))
            .against(how),
    ])
}

/// Time from `begun` until a server is ACTIVE. A node that is just probing its machine may refuse at first: then another
/// one is asked for, as a user would.
async fn boot(cell: &Cell, begun: Instant) -> anyhow::Result<Duration> {
    let mut admin = Admin::of(cell).await?;
    let network = admin.shared_network().await?;
    let body = admin.server(&network);
    let mut connection = admin.connect().await?;
    loop {
        let answer = connection.ask(Method::POST, "/compute/v2.1/servers", body.clone()).await?.is(202)?;
        let path = format!("/compute/v2.1/servers/{}", load::id(&answer)?);
        let fault = loop {
            let shown = connection.get(&path).await?.is(200)?.json()?;
            if shown["server"]["status"] == "ACTIVE" {
                return Ok(begun.elapsed());
            }
            if shown["server"]["status"] == "ERROR" {
                break shown["server"]["fault"]["message"].to_string();
            }
            if begun.elapsed() > ACTIVE_WITHIN {
                bail!("the first server is not ACTIVE: {shown}");
            }
            tokio::time::sleep(PAUSE).await;
        };
        if begun.elapsed() > ACTIVE_WITHIN {
            bail!("the first server failed: {fault}");
        }
        let _deleted = connection.ask(Method::DELETE, &path, bytes::Bytes::new()).await?;
        tokio::time::sleep(PAUSE * 10).await;
    }
}
