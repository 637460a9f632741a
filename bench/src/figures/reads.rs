//! Reads through the API beside bare axum, which answers with the very same bytes: the same client, in turns.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::creates::fill;
use crate::Settings;
use crate::api::Admin;
use crate::cell::{Cell, Plan};
use crate::http_client::{Connection, Endpoint};
use crate::load;
use crate::peers::axum::{MANY, ONE};
use crate::serve::{Certificates, Served, Which};
use crate::stats::{median, quantile};
use crate::table::{Aim, Row};

const SERVERS: usize = 200;
const CLIENTS: usize = 32;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(600);
const WARM_UP: Duration = Duration::from_millis(500);
const LIST: &str = "/compute/v2.1/servers/detail";

pub async fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let cell = Cell::settled(settings, Plan::fake(10)).await?;
    let mut admin = Admin::of(&cell).await?;
    admin.lift_quotas().await?;
    let network = admin.large_network().await?;
    let body = admin.server(&network);
    let ids = fill(&mut admin, 8, &body, SERVERS).await?;
    let one = format!("/compute/v2.1/servers/{}", ids[0]);

    let certificates = Certificates::new()?;
    let dir = certificates.dir.path();
    let mut connection = admin.connect().await?;
    std::fs::write(dir.join(ONE), connection.get(&one).await?.is(200)?.body)?;
    std::fs::write(dir.join(MANY), connection.get(LIST).await?.is(200)?.body)?;
    let peer = Served::start(Which::Axum, dir)?;
    let endpoint = Endpoint::new(peer.address, &std::fs::read(dir.join("authority.crt"))?)?;

    let mut ours = load::connect(&admin.endpoint, Some(&admin.token), CLIENTS).await?;
    let mut bare = load::connect(&endpoint, Some(&admin.token), CLIENTS).await?;
    let mut rows = Vec::new();
    for (what, path, file, aim) in
        [("GET /servers/{id}", one.as_str(), ONE, 15_000.0), ("GET /servers/detail of 200 servers", LIST, MANY, 300.0)]
    {
        let bytes = std::fs::metadata(dir.join(file))?.len();
        rows.extend(compare(what, path, bytes, aim, &mut ours, &mut bare).await?);
    }
    cell.end().await?;
    Ok(rows)
}

async fn compare(
    what: &str,
    path: &str,
    bytes: u64,
    aim: f64,
    ours: &mut [Connection],
    bare: &mut [Connection],
) -> anyhow::Result<Vec<Row>> {
    round(ours, path, WARM_UP).await?;
    round(bare, path, WARM_UP).await?;
    let (mut of_ours, mut of_bare, mut took_ms) = (Vec::new(), Vec::new(), Vec::new());
    let (mut own_ms, mut count) = (0.0, 0);
    for _ in 0..ROUNDS {
        let load = round(ours, path, ROUND).await?;
        of_ours.push(load.rate());
        own_ms += load.own_cpu_ms;
        count += load.took_ms.len();
        took_ms.extend(load.took_ms);
        of_bare.push(round(bare, path, ROUND).await?.rate());
    }
    let how = format!(
        "bare axum with the same {bytes} B over HTTPS; {CLIENTS} clients, p99 {:.1} ms, the client takes {:.3} ms CPU each",
        quantile(&mut took_ms, 0.99),
        own_ms / count as f64,
    );
    let row = Row::new(what, median(&of_ours), "/s").aim(Aim::AtLeast(aim)).peer(&of_ours, &of_bare).against(how);
    Ok(vec![row])
}

async fn round(connections: &mut [Connection], path: &str, span: Duration) -> anyhow::Result<load::Load> {
    load::run(connections, span, (Method::GET, path, &Bytes::new()), |answer| answer.is(200).map(drop)).await
}
