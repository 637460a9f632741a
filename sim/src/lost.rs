//! The scenario `lost-log`: a machine's disk comes back without its agent's log, or with an older copy of it, while the
//! guests run on.
//!
//! Absence is never an order: what such a log does not know is kept and shown, and what it knows of guests that are gone
//! brings none back. So a loss must change nothing on any node and no server's record, however often the agent and the
//! control process start over it, and every guest must be told of by its node. Then all are deleted, those that the log
//! does not know too, and none may be left.
//!
//! What it does not ask for yet: that taps stay. An agent makes a network with the ports of the guests that it knows, so
//! after a loss the taps of others go, and those of guests that are gone may come back.
//!
//! It stands apart from the churn because a lost log takes with it what an agent remembers of orders: copies of them that
//! come late would be taken again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use driver::{GuestId, Observed};
use parking_lot::Mutex;
use servers::accept::Ask;
use servers::{AcceptError, Server};
use store::{KeyRange, Record};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::cell::{Answer, Cell, Who, caller};
use crate::churn::{self, Asked, Counts, Oracle, client};
use crate::rng::Rng;

/// Servers that are there before, and those that are asked for after the copy was taken.
const SERVERS_BEFORE: usize = 6;
const SERVERS_SINCE: usize = 4;
/// How often processes start over the loss.
const STARTS_MAX: usize = 4;
/// How long a process stays away.
const AWAY: Duration = Duration::from_millis(300);
/// Within this all work must have ended.
const ENDS_WITHIN: Duration = Duration::from_secs(1800);
/// Between two looks whether it has.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// How long a cell is left alone, to see that it does nothing.
const ALONE: Duration = Duration::from_secs(3600);

type Guests = BTreeMap<String, BTreeMap<GuestId, Observed>>;

struct Scene {
    cell: Arc<Cell>,
    oracle: Mutex<Oracle>,
    rng: Mutex<Rng>,
    accepted: Mutex<u64>,
}

/// Runs the scenario to its end; returns what was wrong.
pub async fn run(cell: Arc<Cell>, mut exited: UnboundedReceiver<Who>) -> (Vec<String>, Counts) {
    let keeper = Arc::clone(&cell);
    cell.outside.spawn("keeper", async move {
        while let Some(who) = exited.recv().await {
            keeper.kill(who);
            keeper.outside.sleep(AWAY).await;
            keeper.start(who);
        }
    });
    let scene = Scene {
        rng: Mutex::new(Rng::new(cell.exec.seed(), "lost log")),
        cell,
        oracle: Mutex::default(),
        accepted: Mutex::default(),
    };
    let complaints = match scene.play().await {
        Ok(()) => Vec::new(),
        Err(complaints) => complaints,
    };
    let commits = scene.cell.store.revision().as_u64();
    let busy = (scene.cell.exec.now() / 1_000_000_000).saturating_sub(2 * ALONE.as_secs());
    let counts = Counts { accepted: *scene.accepted.lock(), commits, healed_at: Some(busy), ..Counts::default() };
    (complaints, counts)
}

impl Scene {
    async fn play(&self) -> Result<(), Vec<String>> {
        let cell = &self.cell;
        cell.everybody().into_iter().for_each(|who| cell.start(who));
        self.ends().await?;
        self.create_some("before", SERVERS_BEFORE).await;
        self.ends().await?;
        self.change_some().await;
        self.ends().await?;

        let number = self.rng.lock().index(cell.size.agents);
        let older = self.rng.lock().chance(1, 2).then(|| cell.disk(number).copy());
        self.create_some("since", SERVERS_SINCE).await;
        self.change_some().await;
        self.ends().await?;

        let who = Who::Agent(number);
        cell.kill(who);
        let what = if older.is_some() { "an older copy of the log is there" } else { "the log is lost" };
        cell.exec.note(&who.to_string(), "fault", what);
        cell.disk(number).replace(older.unwrap_or_default());
        let (guests, records) = (self.guests(), self.records());
        cell.outside.sleep(AWAY).await;
        cell.start(who);
        let starts = self.rng.lock().index(STARTS_MAX);
        for _ in 0..starts {
            self.ends().await?;
            let who = *self.rng.lock().pick(&cell.everybody());
            cell.kill(who);
            cell.outside.sleep(AWAY).await;
            cell.start(who);
        }
        self.ends().await?;
        cell.outside.sleep(ALONE).await;
        self.same(&guests, &records)?;
        let known = self.oracle.lock().known(true);
        for (name, id) in known {
            self.delete(&name, id).await;
        }
        self.ends().await?;
        cell.outside.sleep(ALONE).await;
        let records = self.records().into_iter().map(|(key, _)| format!("{key} is left"));
        let left = self.guests().into_iter().filter(|(_, guests)| !guests.is_empty());
        let left: Vec<String> =
            left.map(|(node, guests)| format!("{node} still has {guests:?}")).chain(records).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    }

    fn guests(&self) -> Guests {
        self.cell.nodes().into_iter().map(|node| (node.clone(), self.cell.machine.guests(&node))).collect()
    }

    /// The records of all servers, with the revisions that wrote them.
    fn records(&self) -> Vec<(String, u64)> {
        let page = self.cell.store.durable().range(&KeyRange::prefix(Server::TABLE.as_bytes()), usize::MAX);
        page.entries.iter().map(|(key, entry)| (key.to_string(), entry.modified.as_u64())).collect()
    }

    /// That nothing has changed, and each node tells of what is on it.
    fn same(&self, before: &Guests, records: &[(String, u64)]) -> Result<(), Vec<String>> {
        let mut complaints = Vec::new();
        let running = self.cell.running_nodes();
        for (node, now) in self.guests() {
            let before = before.get(&node).cloned().unwrap_or_default();
            if now != before {
                complaints.push(format!("{node} had {before:?}, its agent's log was lost, and it has {now:?}"));
            }
            let told: BTreeSet<GuestId> = running
                .get(&node)
                .map(|node| node.notes().into_iter().map(|note| note.guest).collect())
                .unwrap_or_default();
            let hidden = before.keys().filter(|guest| !told.contains(guest));
            complaints.extend(hidden.map(|guest| format!("{node} does not tell that {guest} is on it")));
        }
        let written = self.records().into_iter().filter(|record| !records.contains(record));
        complaints.extend(written.map(|(key, _)| format!("an agent's log was lost, and {key} was written")));
        if complaints.is_empty() { Ok(()) } else { Err(complaints) }
    }

    async fn ends(&self) -> Result<(), Vec<String>> {
        let start = self.cell.outside.now();
        loop {
            let left = churn::left(&self.cell);
            if left.is_empty() {
                return Ok(());
            }
            if self.cell.outside.now().since(start) > ENDS_WITHIN {
                return Err(vec![format!("after {ENDS_WITHIN:?} this is left to do: {}", left.join("; "))]);
            }
            self.cell.outside.sleep(LOOK_PAUSE).await;
        }
    }

    async fn create_some(&self, when: &str, count: usize) {
        for number in 0..count {
            let name = format!("{when}-{number}");
            self.oracle.lock().creating(&name);
            let (new, request) = (client::wanted(&name), self.request());
            let answer = self
                .cell
                .ask(move |control| {
                    Box::pin(
                        async move { control.servers.create(&client::cx(&control, &request), &caller(), &new).await },
                    )
                })
                .await;
            let id = match &answer {
                Answer::Told(Ok(servers)) => servers.first().map(|server| server.id.to_string()),
                Answer::Told(Err(_)) | Answer::Down | Answer::Broken => None,
            };
            let asked = self.asked("create", &name, answer);
            self.oracle.lock().created(&name, asked, id);
        }
    }

    /// Stops, pauses, starts or deletes some of those that are there.
    async fn change_some(&self) {
        let known = self.oracle.lock().known(true);
        for (name, id) in known {
            let request = self.request();
            let draw = self.rng.lock().below(8);
            let ask = match draw {
                0 => {
                    self.delete(&name, id).await;
                    continue;
                }
                1 => Ask::Stop,
                2 => Ask::Pause,
                3 => Ask::Start,
                4 => Ask::Reboot { hard: true },
                _ => continue,
            };
            let what = ask.name();
            let answer = self
                .cell
                .ask(move |control| {
                    Box::pin(
                        async move { control.servers.ask(&client::cx(&control, &request), &caller(), &id, &ask).await },
                    )
                })
                .await;
            self.asked(what, &name, answer);
        }
    }

    async fn delete(&self, name: &str, id: String) {
        self.oracle.lock().deleting(name, Asked::Maybe);
        let request = self.request();
        let answer = self
            .cell
            .ask(move |control| {
                Box::pin(async move { control.servers.delete(&client::cx(&control, &request), &caller(), &id).await })
            })
            .await;
        let asked = self.asked("delete", name, answer);
        self.oracle.lock().deleting(name, asked);
    }

    fn request(&self) -> String {
        client::request_id(&mut self.rng.lock())
    }

    fn asked<T>(&self, what: &str, name: &str, answer: Answer<Result<T, AcceptError>>) -> Asked {
        let (asked, told) = match answer {
            Answer::Down => (Asked::No, "down".to_owned()),
            Answer::Broken => (Asked::Maybe, "broken".to_owned()),
            Answer::Told(Ok(_)) => (Asked::Yes, "accepted".to_owned()),
            Answer::Told(Err(error @ AcceptError::Busy(_))) => (Asked::Maybe, error.to_string()),
            Answer::Told(Err(error)) => (Asked::No, error.to_string()),
        };
        *self.accepted.lock() += u64::from(asked == Asked::Yes);
        self.cell.exec.note("client", what, &format!("{name}: {told}"));
        asked
    }
}
