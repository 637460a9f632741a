//! Trying to connect, when nothing is heard any more.

use std::sync::Arc;
use std::time::Duration;

use rpc::{Probe, Prober};
use world::BoxFuture;

use super::Net;

/// Tries connections on behalf of one process.
pub(super) struct SimProber {
    net: Arc<Net>,
    from: String,
}

impl SimProber {
    pub(super) fn new(net: &Arc<Net>, from: &str) -> SimProber {
        SimProber { net: Arc::clone(net), from: from.to_owned() }
    }
}

impl Prober for SimProber {
    /// A process that is held is reached: its host answers for it.
    fn probe(&self, endpoint: &str, within: Duration) -> BoxFuture<'static, Probe> {
        let (net, from, to) = (Arc::clone(&self.net), self.from.clone(), endpoint.to_owned());
        Box::pin(async move {
            let there = net.delay(&from, &to);
            let back = net.delay(&to, &from);
            let span = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
            net.exec.sleep(net.process, (there + back).min(span)).await;
            if there + back > span {
                return Probe::Silent;
            }
            if net.inside.lock().listeners.contains_key(&to) { Probe::Connected } else { Probe::Refused }
        })
    }
}
