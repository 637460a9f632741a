//! Logins with a password beside bare argon2 on as many threads as there are processors: nothing else should bound them.

use std::time::Duration;

use http::Method;

use crate::Settings;
use crate::api::{Admin, login};
use crate::cell::{Cell, Plan};
use crate::load;
use crate::peers::argon2::hashes;
use crate::stats::{median, quantile};
use crate::table::{Aim, Row};

const CLIENTS: usize = 8;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(600);
const WARM_UP: Duration = Duration::from_millis(500);

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let cell = Cell::settled(settings, Plan::fake(1)).await?;
    let admin = Admin::of(&cell).await?;
    let body = login(&cell)?;
    let mut connections = load::connect(&admin.endpoint, None, CLIENTS).await?;
    let ask = (Method::POST, "/identity/v3/auth/tokens", &body);
    load::run(&mut connections, WARM_UP, ask.clone(), |answer| answer.is(201).map(drop)).await?;
    let threads = std::thread::available_parallelism()?.get();
    let (mut ours, mut bare, mut took_ms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let load = load::run(&mut connections, ROUND, ask.clone(), |answer| answer.is(201).map(drop)).await?;
        ours.push(load.rate());
        took_ms.extend(load.took_ms);
        bare.push(hashes(threads, ROUND)?);
    }
    cell.end().await?;
    let how = format!(
        "bare argon2id (19 MiB, t=2) on {threads} threads; {CLIENTS} clients, p99 {:.0} ms",
        quantile(&mut took_ms, 0.99)
    );
    let row = Row::new("tokens issued for a password", median(&ours), "/s");
    Ok(vec![row.aim(Aim::OfPeer(0.9)).peer(&ours, &bare).against(how)])
}
