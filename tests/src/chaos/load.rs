//! Tenants, who ask for things through all that befalls the cell and remember what they were told.
//!
//! An answer that never came, and a 503, leave open whether it was done, for as long as a process may hold the request.
//! Whatever was acknowledged must be so from then on; what contradicts it is a complaint and ends the storm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Tenants;
use super::diary::Diary;
use super::tally::Ended;
use crate::{Answer, Client, Dice, Machine, pause};

/// Limits of instances that the administrator draws from: from this to that.
const LIMITS: (usize, usize) = (3, 10);
/// A change of limits that nobody has acknowledged may come true for so long: longer than a request may live.
const MAY_STILL_COME: Duration = Duration::from_secs(90);
/// Between two changes of limits.
const QUOTA_PAUSE: Duration = Duration::from_millis(300);
/// A tenant that was not answered waits so long.
const RESTS: Duration = Duration::from_millis(50);
/// Pauses between a tenant's requests, up to so many milliseconds: with fake guests, and with real ones.
const PAUSE_MS: (usize, usize) = (15, 300);

/// Whether something was asked for, as far as who asked can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    No,
    Maybe,
    Yes,
}

/// One server, as its tenant knows it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Told by an acknowledgement or seen in a list: from then on it must be there.
    pub(super) id: Option<String>,
    pub(super) delete: Asked,
    /// Values that its metadata may have: the one acknowledged last, and those of which nobody knows.
    marks: (Option<usize>, BTreeSet<usize>),
    /// The process of its guest, while nothing was asked that would change it.
    process: Option<u32>,
    /// Something was asked that may change it, and nobody knows whether it was heard.
    doubtful: bool,
}

/// Somebody with a project.
pub(super) struct Tenant {
    pub(super) client: Client,
    /// By name, which no other server has.
    pub(super) known: Mutex<BTreeMap<String, Known>>,
    number: usize,
    held: usize,
    /// Where the guests' processes are, if they are real.
    machine: Option<Machine>,
    /// Limits that may have been in force: from when, until when if that is known, how many instances.
    limits: Mutex<Vec<(Instant, Option<Instant>, usize)>>,
}

impl Tenant {
    pub(super) fn new(client: Client, number: usize, held: usize, machine: Option<Machine>) -> Tenant {
        let limits = Mutex::new(vec![(Instant::now(), None, LIMITS.1)]);
        Tenant { client, known: Mutex::default(), number, held, machine, limits }
    }

    /// The highest limit that may have been in force at some moment since `from`.
    fn ceiling(&self, from: Instant) -> usize {
        let limits = self.limits.lock().expect("nobody panics with it");
        let since = limits.iter().filter(|(_, until, _)| until.is_none_or(|until| until >= from));
        since.map(|(_, _, limit)| *limit).max().unwrap_or(LIMITS.1)
    }

    /// What contradicts what was acknowledged in this server as it is shown; `None`: it is not there.
    pub(super) fn contradiction(&self, name: &str, known: &Known, shown: Option<&Value>) -> Option<String> {
        let Some(shown) = shown else {
            let lost = known.id.is_some() && known.delete == Asked::No;
            return lost.then(|| format!("{name} ({known:?}) was acknowledged, and it is gone"));
        };
        let mark: Option<usize> = shown["metadata"]["mark"].as_str().and_then(|mark| mark.parse().ok());
        let (last, open) = &known.marks;
        let fits = mark == *last || mark.is_some_and(|mark| open.contains(&mark));
        if !fits {
            return Some(format!("{name}: its metadata says {mark:?}, acknowledged was {last:?}, open are {open:?}"));
        }
        let process = known.process.filter(|_| !known.doubtful);
        let (Some(machine), Some(process), Some(id)) = (&self.machine, process, &known.id) else { return None };
        let now = machine.processes().remove(id).unwrap_or_default();
        let runs_on = now == BTreeSet::from([process]);
        (!runs_on).then(|| format!("{name} ({id}): its guest's process was {process}, nobody asked, and is {now:?}"))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().expect("nobody panics with it");
        if let Some(known) = known.get_mut(name) {
            change(known);
        }
    }

    /// Servers that must be there.
    fn there(&self) -> Vec<(String, Known)> {
        let known = self.known.lock().expect("nobody panics with it");
        let there = known.iter().filter(|(_, known)| known.id.is_some() && known.delete == Asked::No);
        there.map(|(name, known)| (name.clone(), known.clone())).collect()
    }
}

/// What those who ask share.
pub(super) struct Load<'a> {
    pub(super) accepted: AtomicUsize,
    diary: &'a Diary,
    over: AtomicBool,
    requests: Mutex<BTreeMap<&'static str, Ended>>,
    complaints: Mutex<Vec<String>>,
    last: Mutex<String>,
}

/// Ends the load when it is dropped.
pub(super) struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Load<'a> {
    pub(super) fn new(diary: &'a Diary) -> Load<'a> {
        Load {
            accepted: AtomicUsize::new(0),
            diary,
            over: AtomicBool::new(false),
            requests: Mutex::default(),
            complaints: Mutex::default(),
            last: Mutex::default(),
        }
    }

    pub(super) fn until_dropped(&self) -> Until<'_> {
        Until(&self.over)
    }

    pub(super) fn requests(&self) -> BTreeMap<&'static str, Ended> {
        self.requests.lock().expect("nobody panics with it").clone()
    }

    pub(super) fn last_answer(&self) -> String {
        self.last.lock().expect("nobody panics with it").clone()
    }

    /// Panics with what a tenant complained of.
    pub(super) fn complain(&self) {
        let complaints = self.complaints.lock().expect("nobody panics with it").clone();
        assert!(complaints.is_empty(), "tenants complain: {complaints:#?}");
    }

    fn wrong(&self, what: String) {
        self.diary.note("tenant", &format!("WRONG: {what}"));
        self.complaints.lock().expect("nobody panics with it").push(what);
    }

    /// One request, counted; whether it was done, and what was answered.
    fn ask(
        &self,
        client: &Client,
        kind: &'static str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (Asked, Option<Answer>) {
        let answer = client.ask(method, path, body);
        let asked = match &answer {
            Err(_) => Asked::Maybe,
            Ok(answer) => match answer.status {
                200..=299 => Asked::Yes,
                503 => Asked::Maybe,
                400 | 403 | 404 | 409 => Asked::No,
                other => {
                    self.wrong(format!("{method} {path} was answered with {other}: {}", answer.body));
                    Asked::No
                }
            },
        };
        {
            let mut requests = self.requests.lock().expect("nobody panics with it");
            let ended = requests.entry(kind).or_default();
            match asked {
                Asked::Yes => ended.accepted += 1,
                Asked::No => ended.refused += 1,
                Asked::Maybe => ended.unknown += 1,
            }
        }
        match asked {
            Asked::Yes => drop(self.accepted.fetch_add(1, Ordering::Relaxed)),
            Asked::No | Asked::Maybe => {
                let text =
                    answer.as_ref().map_or_else(Clone::clone, |answer| format!("{} {}", answer.status, answer.body));
                *self.last.lock().expect("nobody panics with it") = format!("{kind}: {text}");
            }
        }
        if asked == Asked::Maybe {
            pause(RESTS);
        }
        (asked, answer.ok())
    }

    /// Asks for one thing after the other until it is over.
    pub(super) fn churn(&self, tenant: &Tenant, mut dice: Dice) {
        let real = tenant.machine.is_some();
        let mut body = None;
        let mut number = 0;
        while !self.over.load(Ordering::Relaxed) {
            let Some(body) = &mut body else {
                body = self.body(tenant);
                continue;
            };
            let there = tenant.there();
            let draw = dice.below(100);
            if there.is_empty() || (draw < 34 && there.len() <= tenant.held) {
                number += 1;
                self.create(tenant, body, number);
            } else {
                let (name, known) = there[dice.below(there.len())].clone();
                let id = known.id.unwrap_or_default();
                match draw {
                    ..62 if !real || draw < 44 => self.delete(tenant, &name, &id),
                    ..67 => self.act(tenant, &name, &id, "stop", &json!({ "os-stop": null })),
                    67..74 => self.act(tenant, &name, &id, "start", &json!({ "os-start": null })),
                    74..76 => self.act(tenant, &name, &id, "reboot", &json!({ "reboot": { "type": "SOFT" } })),
                    76..79 => self.act(tenant, &name, &id, "reboot", &json!({ "reboot": { "type": "HARD" } })),
                    79..83 => self.act(tenant, &name, &id, "pause", &json!({ "pause": null })),
                    83..87 => self.act(tenant, &name, &id, "unpause", &json!({ "unpause": null })),
                    87..92 => self.mark(tenant, &name, &id, number * 100 + dice.below(100)),
                    92..97 => self.look(tenant, &name, &id),
                    _ => self.list(tenant),
                }
            }
            pause(Duration::from_millis(dice.below(if real { PAUSE_MS.1 } else { PAUSE_MS.0 }) as u64));
        }
    }

    /// The body of a request for a server, once the cell tells what there is to start from.
    fn body(&self, tenant: &Tenant) -> Option<Value> {
        let text = |path: &str, place: &str| {
            let (_, answer) = self.ask(&tenant.client, "look", "GET", path, None);
            answer.and_then(|answer| answer.body.pointer(place)?.as_str().map(str::to_owned))
        };
        let image = text("/image/v2/images?name=tiny", "/images/0/id")?;
        let network = text("/network/v2.0/networks?name=private", "/networks/0/id")?;
        Some(json!({ "server": { "flavorRef": "1", "imageRef": image, "networks": [{ "uuid": network }] } }))
    }

    fn create(&self, tenant: &Tenant, body: &mut Value, number: usize) {
        let name = format!("storm-{}-{number}", tenant.number);
        body["server"]["name"] = json!(name);
        let fresh =
            Known { id: None, delete: Asked::No, marks: (None, BTreeSet::new()), process: None, doubtful: false };
        tenant.known.lock().expect("nobody panics with it").insert(name.clone(), fresh);
        let begun = Instant::now();
        let held = tenant.there().len();
        let (asked, answer) = self.ask(&tenant.client, "create", "POST", "/compute/v2.1/servers", Some(body));
        match (asked, answer) {
            (Asked::Yes, Some(answer)) => {
                let id = answer.text("/server/id");
                tenant.change(&name, |known| known.id = Some(id));
                let ceiling = tenant.ceiling(begun);
                if held + 1 > ceiling {
                    self.wrong(format!("{name} was accepted beside {held} others, and at most {ceiling} were allowed"));
                }
            }
            (Asked::No, answer) => {
                drop(tenant.known.lock().expect("nobody panics with it").remove(&name));
                match answer {
                    // Creates whose answer was lost may have filled the quota.
                    Some(answer) if answer.status == 403 => self.list(tenant),
                    Some(answer) => self.wrong(format!("{name} was refused: {} {}", answer.status, answer.body)),
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn delete(&self, tenant: &Tenant, name: &str, id: &str) {
        tenant.change(name, |known| (known.delete, known.process) = (Asked::Maybe, None));
        let path = format!("/compute/v2.1/servers/{id}");
        let mut first = true;
        // Until it is answered: what was asked for once is not left half done.
        while !self.over.load(Ordering::Relaxed) {
            let (asked, answer) = self.ask(&tenant.client, "delete", "DELETE", &path, None);
            match (asked, answer) {
                (Asked::Yes, _) => return tenant.change(name, |known| known.delete = Asked::Yes),
                (Asked::No, answer) => {
                    if first {
                        self.not_lost(name, answer.as_ref());
                    }
                    if answer.is_some_and(|answer| answer.status == 404) {
                        tenant.change(name, |known| known.delete = Asked::Yes);
                    }
                    return;
                }
                (Asked::Maybe, _) => first = false,
            }
        }
    }

    fn act(&self, tenant: &Tenant, name: &str, id: &str, kind: &'static str, body: &Value) {
        if !matches!(kind, "pause" | "unpause") {
            tenant.change(name, |known| known.process = None);
        }
        let path = format!("/compute/v2.1/servers/{id}/action");
        let (asked, answer) = self.ask(&tenant.client, kind, "POST", &path, Some(body));
        if asked == Asked::Maybe {
            // It may still come, at any moment.
            tenant.change(name, |known| known.doubtful = true);
        }
        self.not_lost(name, answer.as_ref());
    }

    fn mark(&self, tenant: &Tenant, name: &str, id: &str, mark: usize) {
        tenant.change(name, |known| {
            known.marks.1.insert(mark);
        });
        let path = format!("/compute/v2.1/servers/{id}/metadata/mark");
        let body = json!({ "meta": { "mark": mark.to_string() } });
        let (asked, answer) = self.ask(&tenant.client, "metadata", "PUT", &path, Some(&body));
        match asked {
            Asked::Yes => tenant.change(name, |known| {
                known.marks.0 = Some(mark);
                known.marks.1.remove(&mark);
            }),
            Asked::No => tenant.change(name, |known| {
                known.marks.1.remove(&mark);
            }),
            Asked::Maybe => {}
        }
        self.not_lost(name, answer.as_ref());
    }

    fn look(&self, tenant: &Tenant, name: &str, id: &str) {
        let (asked, answer) = self.ask(&tenant.client, "look", "GET", &format!("/compute/v2.1/servers/{id}"), None);
        self.not_lost(name, answer.as_ref());
        if let (Asked::Yes, Some(answer)) = (asked, answer) {
            self.seen(tenant, &answer.body["server"]);
        }
    }

    fn list(&self, tenant: &Tenant) {
        let before = tenant.there();
        let (asked, answer) = self.ask(&tenant.client, "list", "GET", "/compute/v2.1/servers/detail", None);
        let (Asked::Yes, Some(answer)) = (asked, answer) else { return };
        let listed = answer.body["servers"].as_array().cloned().unwrap_or_default();
        for (name, known) in before {
            if !listed.iter().any(|shown| shown["name"] == name) {
                self.wrong(format!("{name} ({known:?}) was acknowledged and is not listed"));
            }
        }
        listed.iter().for_each(|shown| self.seen(tenant, shown));
    }

    /// A server is shown: it must be as it was acknowledged, and is known from now on.
    fn seen(&self, tenant: &Tenant, shown: &Value) {
        let name = shown["name"].as_str().unwrap_or_default();
        let found = tenant.known.lock().expect("nobody panics with it").get(name).cloned();
        let Some(mut known) = found else { return self.wrong(format!("nobody has asked for {shown}")) };
        let id = shown["id"].as_str().map(str::to_owned);
        if known.id.is_some() && known.id != id {
            self.wrong(format!("there are two servers {name}: {known:?} and {shown}"));
        }
        known.id = id;
        if let Some(contradiction) = tenant.contradiction(name, &known, Some(shown)) {
            self.wrong(contradiction);
        }
        let rests = !known.doubtful && shown["status"] == "ACTIVE" && shown["OS-EXT-STS:task_state"].is_null();
        if let (Some(machine), Some(id), None, true, Asked::No) =
            (&tenant.machine, &known.id, known.process, rests, known.delete)
        {
            let processes = machine.processes().remove(id).unwrap_or_default();
            known.process = processes.into_iter().next();
        }
        tenant.change(name, |now| (now.id, now.process) = (known.id, known.process));
    }

    fn not_lost(&self, name: &str, answer: Option<&Answer>) {
        if answer.is_some_and(|answer| answer.status == 404) {
            self.wrong(format!("{name} was acknowledged, nobody asked for its deletion, and it is not found"));
        }
    }

    /// The administrator changes limits until it is over.
    pub(super) fn change_quotas(&self, admin: &Client, tenants: &Tenants, mut dice: Dice) {
        while !self.over.load(Ordering::Relaxed) {
            let tenant = &tenants[dice.below(tenants.len())];
            let limit = LIMITS.0 + dice.below(LIMITS.1 - LIMITS.0 + 1);
            let path = format!("/compute/v2.1/os-quota-sets/{}", tenant.client.project);
            let body = json!({ "quota_set": { "instances": limit, "force": true } });
            tenant.limits.lock().expect("nobody panics with it").push((Instant::now(), None, limit));
            let (asked, _) = self.ask(admin, "quota", "PUT", &path, Some(&body));
            let now = Instant::now();
            let mut limits = tenant.limits.lock().expect("nobody panics with it");
            let last = limits.len() - 1;
            match asked {
                // The others are in force no more, except those that may still come.
                Asked::Yes => limits[..last].iter_mut().for_each(|(_, until, _)| *until = until.or(Some(now))),
                Asked::No => drop(limits.pop()),
                Asked::Maybe => limits[last].1 = Some(now + MAY_STILL_COME),
            }
            limits.retain(|(_, until, _)| until.is_none_or(|until| until + MAY_STILL_COME > now));
            drop(limits);
            pause(QUOTA_PAUSE);
        }
    }
}
