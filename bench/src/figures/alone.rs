//! One create at a time on an idle cell: how long a user waits until the server is ACTIVE.

use std::time::{Duration, Instant};

use anyhow::bail;
use http::Method;

use crate::Settings;
use crate::api::Admin;
use crate::cell::{Cell, Plan};
use crate::load;
use crate::stats::quantile;
use crate::table::{Aim, Row};

/// Creates that are measured.
const CREATES: usize = 200;
const WARM_UP: usize = 20;
/// Between two looks at the server. What is printed is late by up to this much.
const PAUSE: Duration = Duration::from_millis(1);
const ACTIVE_WITHIN: Duration = Duration::from_secs(30);

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let cell = Cell::settled(settings, Plan::fake(10)).await?;
    let mut admin = Admin::of(&cell).await?;
    admin.lift_quotas().await?;
    let network = admin.large_network().await?;
    let body = admin.server(&network);
    let mut connection = admin.connect().await?;
    let (mut accepted_ms, mut active_ms) = (Vec::new(), Vec::new());
    for at in 0..WARM_UP + CREATES {
        let begun = Instant::now();
        let answer = connection.ask(Method::POST, "/compute/v2.1/servers", body.clone()).await?.is(202)?;
        let accepted = begun.elapsed();
        let path = format!("/compute/v2.1/servers/{}", load::id(&answer)?);
        loop {
            let shown = connection.get(&path).await?.is(200)?.json()?;
            if shown["server"]["status"] == "ACTIVE" {
                break;
            }
            if begun.elapsed() > ACTIVE_WITHIN || shown["server"]["status"] == "ERROR" {
                bail!("a server did not become ACTIVE: {shown}");
            }
            tokio::time::sleep(PAUSE).await;
        }
        if at >= WARM_UP {
            accepted_ms.push(accepted.as_secs_f64() * 1000.0);
            active_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    cell.end().await?;
    let how = format!("{CREATES} creates, one after the other; asked for every ms");
    Ok(vec![
        Row::new("one create alone to ACTIVE, p50", quantile(&mut active_ms, 0.5), "ms")
            .aim(Aim::AtMost(20.0))
            .against(how),
        Row::new("one create alone to ACTIVE, p99", quantile(&mut active_ms, 0.99), "ms"),
        Row::new("one create alone, its POST, p50", quantile(&mut accepted_ms, 0.5), "ms"),
    ])
}
