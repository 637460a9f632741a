//! A bare TCP connection, made and closed.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;
use world::{BoxFuture, World};

use crate::probe::{Probe, Prober};

/// Tries TCP connections. No certificate is shown and none asked for: it is the host that is asked, not the process.
pub struct TcpProber {
    world: World,
}

impl TcpProber {
    /// A prober whose patience `world` measures.
    pub fn new(world: &World) -> TcpProber {
        TcpProber { world: world.clone() }
    }
}

impl Prober for TcpProber {
    fn probe(&self, endpoint: &str, within: Duration) -> BoxFuture<'static, Probe> {
        let (world, endpoint) = (self.world.clone(), endpoint.to_owned());
        Box::pin(async move {
            match world.timeout(within, TcpStream::connect(&endpoint)).await {
                Ok(Ok(_closed_at_once)) => Probe::Connected,
                Ok(Err(error)) => judge(error.kind()),
                Err(_) => Probe::Silent,
            }
        })
    }
}

/// What a failure says of the host. A list of what is known, since the kernel has no end of reasons: who is out of
/// descriptors has not seen anybody's death.
fn judge(kind: ErrorKind) -> Probe {
    if kind == ErrorKind::ConnectionRefused {
        Probe::Refused
    } else if matches!(kind, ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) {
        Probe::Silent
    } else {
        Probe::Untried
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use world::os::OsHost;

    use super::*;

    #[tokio::test]
    async fn a_host_that_refuses_is_told_apart_from_one_that_is_silent() {
        let world = OsHost::world(tokio::runtime::Handle::current(), std::path::Path::new("/nonexistent"));
        let prober = TcpProber::new(&world);
        let within = Duration::from_millis(500);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        assert_eq!(prober.probe(&endpoint, within).await, Probe::Connected);
        drop(listener);
        assert_eq!(prober.probe(&endpoint, within).await, Probe::Refused);
        assert_eq!(prober.probe("nowhere", within).await, Probe::Untried);

        // A full queue of connections that nobody accepts: the kernel drops what comes on top.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        full.listen(0).unwrap();
        let endpoint = full.local_addr().unwrap().as_socket().unwrap().to_string();
        let mut filling = Vec::new();
        while let Ok(Ok(one)) = world.timeout(within, TcpStream::connect(&endpoint)).await {
            filling.push(one);
        }
        assert_eq!(prober.probe(&endpoint, within).await, Probe::Silent);
    }
}
