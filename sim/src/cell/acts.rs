//! A node's driver whose every act is a pair of boundaries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use driver::{
    Capacity, Driver, DriverError, Found, GuestId, GuestSpec, ImageSource, NetworkId, NetworkState, Run, Stock, Watcher,
};

use crate::exec::points::{Boundary, Failure};
use crate::exec::{Exec, Process};

/// The driver of one node, in one life of its agent.
pub(super) struct Acts {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) exec: Exec,
    pub(super) process: Process,
}

impl Acts {
    async fn act<T: Send>(
        &self,
        name: &str,
        act: impl Future<Output = Result<T, DriverError>> + Send,
    ) -> Result<T, DriverError> {
        let failure = self.exec.reach(self.process, Boundary::ActBegun, name).await;
        match failure {
            Some(Failure::Refused) => return Err(DriverError::Refused("swept: it cannot work here".into())),
            Some(Failure::NotDone) => return Err(DriverError::Failed("swept: it did not work".into())),
            Some(Failure::DoneAndNotSaid) | None => {}
        }
        let result = act.await;
        let _the_far_side_does_not_fail = self.exec.reach(self.process, Boundary::ActDone, name).await;
        match failure {
            Some(_) => result.and(Err(DriverError::Failed("swept: it worked and said that it had not".into()))),
            None => result,
        }
    }
}

#[async_trait]
impl Driver for Acts {
    fn capacity(&self) -> Capacity {
        self.driver.capacity()
    }

    async fn find(&self) -> Result<Vec<Found>, DriverError> {
        self.act("find", self.driver.find()).await
    }

    async fn take_stock(&self) -> Result<Stock, DriverError> {
        self.driver.take_stock().await
    }

    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.driver.watch(watcher);
    }

    async fn ensure_network(&self, network: &NetworkState) -> Result<(), DriverError> {
        self.act("network", self.driver.ensure_network(network)).await
    }

    async fn ensure_no_network(&self, network: NetworkId) -> Result<(), DriverError> {
        self.act("no network", self.driver.ensure_no_network(network)).await
    }

    async fn ensure_prepared(&self, guest: &GuestSpec, images: &dyn ImageSource) -> Result<(), DriverError> {
        self.act("prepare", self.driver.ensure_prepared(guest, images)).await
    }

    async fn ensure_running(&self, guest: &GuestSpec, run: Run) -> Result<(), DriverError> {
        self.act("run", self.driver.ensure_running(guest, run)).await
    }

    async fn ensure_stopped(&self, guest: GuestId, graceful: Option<Duration>) -> Result<(), DriverError> {
        self.act("stop", self.driver.ensure_stopped(guest, graceful)).await
    }

    async fn ensure_paused(&self, guest: GuestId, paused: bool) -> Result<(), DriverError> {
        self.act("pause", self.driver.ensure_paused(guest, paused)).await
    }

    async fn ensure_absent(&self, guest: GuestId) -> Result<(), DriverError> {
        self.act("absent", self.driver.ensure_absent(guest)).await
    }

    async fn console(&self, guest: GuestId, bytes: usize) -> Result<String, DriverError> {
        self.driver.console(guest, bytes).await
    }

    async fn export_disk(&self, guest: GuestId, into: &Path) -> Result<(), DriverError> {
        self.act("export", self.driver.export_disk(guest, into)).await
    }
}
