//! The world as it is: the operating system behind a [`crate::World`].
//!
//! This is the one place of the product that reads clocks, draws randomness and starts tasks.

mod log;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use ring::rand::SecureRandom;

use crate::{BoxFuture, Disk, DiskError, Host, Log, Mono, Tally, Wall, World};

/// The operating system, with the logs of this process under one directory.
pub struct OsHost {
    runtime: tokio::runtime::Handle,
    start: Instant,
    random: ring::rand::SystemRandom,
    disk: Arc<OsDisk>,
}

impl OsHost {
    /// A world whose tasks run on `runtime` and whose logs are files under `dir` (made when the first log is opened).
    #[expect(clippy::disallowed_methods, reason = "this is where the monotonic clock enters")]
    pub fn world(runtime: tokio::runtime::Handle, dir: &Path) -> World {
        World::new(Arc::new(OsHost {
            runtime,
            start: Instant::now(),
            random: ring::rand::SystemRandom::new(),
            disk: Arc::new(OsDisk { dir: dir.to_path_buf(), counts: Arc::default() }),
        }))
    }
}

impl Host for OsHost {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        let _detached = self.runtime.spawn(task);
    }

    fn now(&self) -> Mono {
        // One second past the origin, so that "a moment before the start" can still be expressed in tests.
        Mono::from_nanos(1_000_000_000 + u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the wall clock enters")]
    fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Wall::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "this is where timers enter the runtime")]
    fn sleep_until(&self, when: Mono) -> BoxFuture<'static, ()> {
        let span = when.since(self.now());
        let _inside = self.runtime.enter();
        Box::pin(tokio::time::sleep(span))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.random.fill(bytes).expect("the kernel's random source does not fail once the system has booted");
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk) as Arc<dyn Disk>
    }
}

struct OsDisk {
    dir: PathBuf,
    counts: Arc<log::Counts>,
}

#[async_trait]
impl Disk for OsDisk {
    fn tally(&self) -> Tally {
        self.counts.tally()
    }

    async fn open_log(&self, name: &str) -> Result<(Arc<dyn Log>, Vec<Bytes>), DiskError> {
        let (log, records) = log::FileLog::open(&self.dir, name, &self.counts)?;
        Ok((Arc::new(log), records))
    }
}
