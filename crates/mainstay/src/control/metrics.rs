//! Prometheus metrics on loopback.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use telemetry::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use world::World;

/// A request that takes longer is dropped.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves `metrics` on `listen`, which must be loopback: they are not protected.
pub(super) async fn serve(world: &World, metrics: &Metrics, listen: SocketAddr) -> anyhow::Result<()> {
    if !listen.ip().is_loopback() {
        bail!("metrics are served on loopback only, not on {listen}");
    }
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let (metrics, own) = (metrics.clone(), world.clone());
    world.spawn("metrics", async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answered = own.timeout(WAIT_MAX, answer(socket, &metrics)).await;
            if !matches!(answered, Ok(Ok(()))) {
                tracing::debug!("a reader of metrics went away");
            }
        }
    });
    Ok(())
}

/// One request a connection: whatever is asked, the answer is all metrics.
async fn answer(mut socket: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let _length = socket.read(&mut head).await?;
    let body = metrics.render();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(body.as_bytes()).await?;
    socket.shutdown().await
}
