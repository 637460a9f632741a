//! A guest that runs, as the agent holds it: its process, its monitor, and who hears of its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driver::{DriverError, Observed, Run, StopCause};
use serde_json::{Value, json};
use tokio::sync::watch;
use world::World;

use crate::layout::{GuestDir, failed};
use crate::monitor::{CommandError, Ending, Monitor};
use crate::process::{Exit, Process};
use crate::qmp::Shutdown;
use crate::start;

/// How long a command of the monitor may take; they answer in milliseconds on a node that is not overrun.
pub(crate) const COMMAND: Duration = Duration::from_secs(10);
/// How long QEMU may take to end on its own after `quit`: it writes back what it holds of the disk.
const QUIT: Duration = Duration::from_secs(5);
/// How long a killed process may take to end: one that waits for its disk ends when the disk answers.
const KILL: Duration = Duration::from_secs(20);
/// A guest that is still booting ignores the power button, so it is pressed again.
const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// Who hears of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Who started it, by an error.
    Starting,
    /// The watcher.
    Up,
    /// Who stops it.
    Stopping,
    /// It is over.
    Over,
}

/// A guest that runs, or did until a moment ago.
pub(crate) struct Running {
    pub(crate) run: Run,
    pub(crate) monitor: Monitor,
    world: World,
    process: Process,
    phase: parking_lot::Mutex<Phase>,
    over: watch::Receiver<Option<StopCause>>,
}

impl Running {
    /// Takes hold of a guest's process. `ended` is called once, when the process ends, with the phase it ended in;
    /// not if everything here is dropped before.
    pub(crate) fn attach(
        world: &World,
        dir: &GuestDir,
        process: Process,
        run: Run,
        phase: Phase,
        out_of_memory: impl Fn() -> bool + Send + 'static,
        ended: impl FnOnce(&Arc<Running>, Phase, StopCause) + Send + 'static,
    ) -> Result<Arc<Running>, DriverError> {
        let (console, log) = (start::console(dir), start::log(dir));
        let follow = |error: std::io::Error| failed("cannot follow the guest's console", &error);
        let followers = (console.follow(world).map_err(follow)?, log.follow(world).map_err(follow)?);
        let (monitor, served) = Monitor::new(world, dir.join("monitor"), process.clone());
        let (tell, over) = watch::channel(None);
        let running = Arc::new(Running {
            run,
            monitor,
            world: world.clone(),
            process,
            phase: parking_lot::Mutex::new(phase),
            over,
        });
        let weak = Arc::downgrade(&running);
        world.spawn("guest", async move {
            // Nobody holds the guest any more: another process of the agent may, so nothing is touched.
            let Some(ending) = served.await else { return };
            followers.0.finish().await;
            followers.1.finish().await;
            let Some(running) = weak.upgrade() else { return };
            let cause = cause(ending, out_of_memory(), log.last_line());
            let before = std::mem::replace(&mut *running.phase.lock(), Phase::Over);
            ended(&running, before, cause.clone());
            tell.send_replace(Some(cause));
        });
        Ok(running)
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.phase.lock() == Phase::Over
    }

    /// Waits until QEMU answers: then it has taken everything that it was given.
    pub(crate) async fn up(&self) -> Result<(), DriverError> {
        let answer = self.monitor.execute("query-status", Value::Null, Duration::from_secs(60)).await;
        if answer.is_ok() {
            let mut phase = self.phase.lock();
            if matches!(*phase, Phase::Starting | Phase::Up) {
                *phase = Phase::Up;
                return Ok(());
            }
        }
        if let Err(error @ (CommandError::Silent | CommandError::Refused(_))) = answer {
            self.kill().await?;
            return Err(DriverError::Failed(format!("QEMU did not start: {error}")));
        }
        let text = match self.ended(KILL).await {
            Some(StopCause::Died(text)) => text,
            Some(StopCause::PoweredOff) => "it ended at once".to_owned(),
            None => "it closed its monitor".to_owned(),
        };
        Err(DriverError::Refused(format!("QEMU did not start: {text}")))
    }

    pub(crate) async fn observe(&self) -> Observed {
        match self.monitor.execute("query-status", Value::Null, Duration::from_secs(3)).await {
            Ok(status) if status["running"] == json!(false) => Observed::Paused(self.run),
            // A monitor that does not answer says nothing about the guest, and its process is there.
            Ok(_) | Err(CommandError::Silent | CommandError::Refused(_)) => Observed::Running(self.run),
            Err(CommandError::Gone) if self.is_over() => Observed::Stopped,
            Err(CommandError::Gone) => Observed::Running(self.run),
        }
    }

    /// Ends the guest: asks its system for as long as `graceful` says, then asks QEMU, then kills it.
    pub(crate) async fn stop(&self, graceful: Option<Duration>) -> Result<(), DriverError> {
        {
            let mut phase = self.phase.lock();
            if *phase == Phase::Over {
                return Ok(());
            }
            *phase = Phase::Stopping;
        }
        if let Some(bound) = graceful {
            let deadline = self.world.now() + bound;
            // A guest that is held cannot hear the button.
            let _it_may_have_ended = self.monitor.execute("cont", Value::Null, COMMAND.min(bound)).await;
            while self.world.now() < deadline {
                let _it_may_have_ended =
                    self.monitor.execute("system_powerdown", Value::Null, COMMAND.min(bound)).await;
                let left = deadline.since(self.world.now());
                if self.ended(left.min(PRESS_AGAIN)).await.is_some() {
                    return Ok(());
                }
            }
        }
        let _it_may_have_ended = self.monitor.execute("quit", Value::Null, QUIT).await;
        if self.ended(QUIT).await.is_some() {
            return Ok(());
        }
        let killed = self.kill().await;
        if killed.is_err() {
            // Nobody waits for its end any more: when it comes it is news.
            let mut phase = self.phase.lock();
            if *phase == Phase::Stopping {
                *phase = Phase::Up;
            }
        }
        killed
    }

    async fn kill(&self) -> Result<(), DriverError> {
        self.process.kill().map_err(|error| failed("cannot kill the guest's process", &error))?;
        match self.ended(KILL).await {
            Some(_) => Ok(()),
            None => Err(DriverError::Failed(
                "the guest's process does not end although it was killed: it may wait for its disk".into(),
            )),
        }
    }

    /// Waits until it is over and everyone was told.
    async fn ended(&self, patience: Duration) -> Option<StopCause> {
        let mut over = self.over.clone();
        let told = async { over.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone()) };
        self.world.timeout(patience, told).await.ok().flatten()
    }

    /// Writes the guest's disk to the qcow2 file `into`, which is there and large enough, as it is at this moment.
    ///
    /// A backup job: QEMU keeps aside what the guest overwrites while the job copies, so the guest runs on, and an
    /// agent that dies meanwhile leaves it running too (and the job, which the next export cancels).
    pub(crate) async fn export(&self, into: &Path) -> Result<(), DriverError> {
        let failed_to = |error: CommandError| DriverError::Failed(format!("cannot export the guest's disk: {error}"));
        let run = async |name, arguments| self.monitor.execute(name, arguments, COMMAND).await;
        let jobs = run("query-block-jobs", Value::Null).await.map_err(failed_to)?;
        for job in jobs.as_array().into_iter().flatten() {
            let _it_may_end_by_itself = run("block-job-cancel", json!({"device": job["device"], "force": true})).await;
        }
        let set = u32::from_le_bytes(self.world.random()) >> 1;
        let (file_node, node) = (format!("export-file-{set:x}"), format!("export-{set:x}"));
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(into)
            .map_err(|error| failed("cannot open the export", &error))?;
        let copy = file.try_clone().map_err(|error| failed("cannot open the export", &error))?;
        let mut events = self.monitor.events();
        self.monitor.send("add-fd", json!({"fdset-id": set}), Some(copy.into()), COMMAND).await.map_err(failed_to)?;
        let result = async {
            let path = format!("/dev/fdset/{set}");
            run(
                "blockdev-add",
                json!({"driver": "file", "node-name": file_node, "filename": path, "discard": "unmap"}),
            )
            .await?;
            run("blockdev-add", json!({"driver": "qcow2", "node-name": node, "file": file_node, "discard": "unmap", "detect-zeroes": "unmap"})).await?;
            run("blockdev-backup", json!({"job-id": node, "device": "disk", "target": node, "sync": "full"})).await?;
            loop {
                match events.recv().await {
                    Ok(crate::qmp::Event::JobEnded(id, end)) if id == node => {
                        return end.map_err(CommandError::Refused);
                    }
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return Err(CommandError::Gone),
                }
            }
        };
        let result = tokio::select! {
            result = result => result,
            _ = self.ended(Duration::MAX) => Err(CommandError::Gone),
        };
        for name in [&node, &file_node] {
            let _it_may_not_be_there = run("blockdev-del", json!({"node-name": name})).await;
        }
        let _it_may_not_be_there = run("remove-fd", json!({"fdset-id": set})).await;
        match result {
            Ok(()) => file.sync_all().map_err(|error| failed("cannot export the guest's disk", &error)),
            Err(CommandError::Refused(text)) if text.contains("No space left on device") => {
                Err(DriverError::Refused("cannot export the guest's disk: no space left on the node's disk".into()))
            }
            Err(error) => Err(failed_to(error)),
        }
    }
}

/// What to tell about an end.
fn cause(ending: Ending, out_of_memory: bool, last_line: Option<String>) -> StopCause {
    let text = match (ending.shutdown, ending.exit) {
        (Some(Shutdown::Guest), _) => return StopCause::PoweredOff,
        // Whoever saw no reason but a clean exit came too late to hear it.
        (None, Exit::Code(0)) => return StopCause::PoweredOff,
        (Some(Shutdown::Panic), _) => "the guest's kernel panicked".to_owned(),
        (Some(Shutdown::Host(reason)), _) => format!("its QEMU was ended from outside ({reason})"),
        (None, Exit::Signal(9)) if out_of_memory => {
            "its QEMU process took more memory than its limit and was killed".to_owned()
        }
        (None, Exit::Signal(signal)) => format!("its QEMU process was killed by signal {signal}"),
        (None, Exit::Code(code)) => format!("its QEMU process failed with exit code {code}"),
        (None, Exit::Unknown) => "its QEMU process has ended; nobody was there to see why".to_owned(),
    };
    StopCause::Died(match last_line {
        Some(line) => format!("{text}: {line}"),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_what_it_was() {
        let check = |shutdown, exit, line: Option<&str>, wanted: Result<(), &str>| {
            let found = cause(Ending { exit, shutdown }, false, line.map(str::to_owned));
            assert_eq!(found, wanted.map_or_else(|text| StopCause::Died(text.into()), |()| StopCause::PoweredOff));
        };
        check(Some(Shutdown::Guest), Exit::Unknown, Some("a warning"), Ok(()));
        check(None, Exit::Code(0), None, Ok(()));
        check(None, Exit::Signal(9), None, Err("its QEMU process was killed by signal 9"));
        check(None, Exit::Code(1), Some("qemu: no"), Err("its QEMU process failed with exit code 1: qemu: no"));
        check(
            Some(Shutdown::Host("host-signal".into())),
            Exit::Code(0),
            None,
            Err("its QEMU was ended from outside (host-signal)"),
        );
    }
}
